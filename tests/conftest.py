"""What every test has: marks that skip with a reason, evidence on failure, and the ladder of fixtures.

    host ── daemon ── guest ── guest_online
    (a network namespace)    (QEMU as an unprivileged user)   (with its DHCP lease)

Each test that climbs the ladder gets a network of its own. A module whose tests only look may make a
module-wide one with the same helpers (`tests/support/daemon.py`, `tests/support/guest.py`).
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator

import pytest

from tests.support.daemon import GATEWAY, Daemon, keep_evidence
from tests.support.guest import boot
from tests.support.netns import Namespace
from vde_vmnet.demo.guest import Guest
from vde_vmnet.demo.guest_image import unavailable_reason


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    root = os.geteuid() == 0
    missing = unavailable_reason() if any(item.get_closest_marker("guest") for item in items) else None
    for item in items:
        if item.get_closest_marker("root") and not root:
            item.add_marker(pytest.mark.skip(reason="needs root, to make network namespaces"))
        if item.get_closest_marker("guest") and missing:
            item.add_marker(pytest.mark.skip(reason=missing))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed and call.when in ("setup", "call"):
        place = keep_evidence(item.name)
        if place is not None:
            report.sections.append(("evidence", f"Consoles, logs, packets and command lines: {place}"))
    return report


@pytest.fixture
def host() -> Iterator[Namespace]:
    """An empty host: a network namespace with its loopback up."""
    with Namespace("host") as namespace:
        yield namespace


@pytest.fixture
def daemon(host: Namespace) -> Iterator[Daemon]:
    """A shared network with the gateway 192.168.105.1, ready."""
    with Daemon(host, f"--vmnet-gateway={GATEWAY}") as running:
        yield running


@pytest.fixture
def guest(daemon: Daemon) -> Iterator[Guest]:
    """A booted guest that is plugged in and has no address yet."""
    with boot(daemon, 1) as running:
        yield running


@pytest.fixture
def guest_online(guest: Guest) -> Guest:
    """A guest with its lease."""
    assert guest.request_lease() is not None
    return guest
