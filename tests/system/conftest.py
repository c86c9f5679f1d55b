"""Fixtures of the system tests."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.netns import Namespace
from tests.support.vmnet_sim import Fabric
from tests.system.linux_uplink import state_directory


@pytest.fixture
def state() -> Iterator[Path]:
    """A state directory of the test's own, in place of /run/vde_vmnet."""
    with state_directory() as path:
        yield path


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """Instead of pytest's, which only root may enter: the service user has to."""
    with tempfile.TemporaryDirectory(prefix="vde-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def mac() -> Iterator[Namespace]:
    """A namespace that plays a Mac."""
    with Namespace("mac") as namespace:
        yield namespace


@pytest.fixture
def fabric(mac: Namespace) -> Iterator[Fabric]:
    """What stands behind the simulated framework there. No client may have misused the framework."""
    with Fabric(mac) as running:
        yield running
        assert running.report() == ""
