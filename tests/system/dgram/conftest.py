"""Fixtures of the tests of ``--dgram``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.unixgram_peer import UnixgramPeer
from tests.system.dgram.daemon import MakePeer, maker, serving
from vde_vmnet.demo.daemon_process import DaemonProcess


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[DaemonProcess]:
    with serving(tmp_path) as process:
        yield process


@pytest.fixture
def peers(daemon: DaemonProcess, tmp_path: Path) -> Iterator[Callable[[MakePeer], UnixgramPeer]]:
    """A function that makes one more."""
    with maker(tmp_path) as make:
        yield make
