"""Real guests over VDE on the simulated framework: lease, ping and HTTP in each mode."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.e2e.world import PAGE, dnsmasq
from tests.support.guest import image, mac
from tests.support.mac import GATEWAY, SimulatedMac
from tests.support.netns import Namespace
from vde_vmnet.demo.accounts import unprivileged_account
from vde_vmnet.demo.guest import Guest, GuestConfig, vde_network
from vde_vmnet.demo.traffic import HttpServer, fetch

pytestmark = [pytest.mark.root, pytest.mark.guest]

LAN = "203.0.113.10"
HELLO = b"hello from the guest\n"


@pytest.fixture(scope="module")
def apple() -> Iterator[tuple[SimulatedMac, Namespace]]:
    """A Mac and what is beyond it."""
    with SimulatedMac() as simulated:
        yield simulated, simulated.lan


@contextmanager
def guests(apple: SimulatedMac, count: int, *options: str) -> Iterator[list[Guest]]:
    """Booted, on one daemon, as an ordinary user's."""
    group = f"--vde-group={unprivileged_account().group}"
    with apple.daemon(group, *options) as daemon, ExitStack() as stack:
        evidence = apple.place / "evidence"
        evidence.mkdir(exist_ok=True)
        started = [stack.enter_context(_start(daemon.directory, number, evidence)) for number in range(count)]
        for guest in started:
            guest.wait_ready()
        yield started


def _start(directory: Path, number: int, evidence: Path) -> Guest:
    return Guest(
        GuestConfig(
            image=image(),
            evidence=evidence,
            network=vde_network(directory, mac(number)),
            name=f"guest{number}",
            account=unprivileged_account(),
        )
    )


def get(guest: Guest, url: str) -> str | None:
    fetched = guest.run(f"timeout 5 wget -q -O - {url}", seconds=15)
    return fetched.output if fetched.status == 0 else None


def test_shared(apple: tuple[SimulatedMac, Namespace]) -> None:
    here, beyond = apple
    with guests(here, 2, f"--vmnet-gateway={GATEWAY}") as (one, two):
        leases = [guest.request_lease() for guest in (one, two)]
        addresses = [lease["address"] for lease in leases if lease is not None]
        assert len(set(addresses)) == 2, "each has an address of its own"
        assert all(address.startswith("192.168.105.") for address in addresses)
        one.check("httpd -p 80 -h /var/www")
        assert fetch(here.namespace.path, addresses[0], 80) == HELLO
        assert get(two, f"http://{addresses[0]}/") == HELLO.decode()
        assert one.run(f"ping -c 2 -i 0.2 -W 2 {GATEWAY}").status == 0
        with HttpServer(beyond.path, LAN, 8080, PAGE) as server:
            assert get(one, f"http://{LAN}:8080/") == PAGE.decode()
            assert server.clients == ["203.0.113.1"], "seen with the host's own address"


def test_host(apple: tuple[SimulatedMac, Namespace]) -> None:
    here, beyond = apple
    with guests(here, 1, "--vmnet-mode=host", f"--vmnet-gateway={GATEWAY}") as (guest,):
        lease = guest.request_lease()
        assert lease is not None and lease["address"].startswith("192.168.105.")
        guest.check("httpd -p 80 -h /var/www")
        assert fetch(here.namespace.path, lease["address"], 80) == HELLO
        with HttpServer(here.namespace.path, GATEWAY, 8080, PAGE):
            assert get(guest, f"http://{GATEWAY}:8080/") == PAGE.decode()
        with HttpServer(beyond.path, LAN, 8080, PAGE):
            assert get(guest, f"http://{LAN}:8080/") is None


def test_bridged(apple: tuple[SimulatedMac, Namespace]) -> None:
    here, beyond = apple
    dnsmasq(
        beyond,
        "--port=0",
        "--interface=eth0",
        "--bind-interfaces",
        "--dhcp-range=203.0.113.50,203.0.113.60,10m",
    )
    with guests(here, 1, "--vmnet-mode=bridged", "--vmnet-interface=en0") as (guest,):
        lease = guest.request_lease()
        assert lease is not None and lease["server"] == LAN, "an address of that network's own server"
        guest.check("httpd -p 80 -h /var/www")
        for who in (beyond, here.namespace):
            assert fetch(who.path, lease["address"], 80) == HELLO
        assert guest.run(f"ping -c 2 -i 0.2 -W 2 {LAN}").status == 0
