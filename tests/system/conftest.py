"""Fixtures of the system tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.linux_uplink import state_directory


@pytest.fixture
def state() -> Iterator[Path]:
    """A state directory of the test's own, in place of /run/vde_vmnet."""
    with state_directory() as path:
        yield path
