"""A daemon with ``--dgram``, and clients of each kind: what the tests of that socket share."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from tests.support.stream_peer import StreamPeer
from tests.support.unixgram_peer import ConnectedPeer, QemuPeer, UnixgramPeer
from tests.support.vde_peer import VdePeer, frame
from vde_vmnet.demo.daemon_process import DaemonProcess

__all__ = [
    "BROADCAST",
    "OPTIONS",
    "Anybody",
    "MakePeer",
    "introduce",
    "krunkit",
    "maker",
    "qemu",
    "serving",
    "start",
    "vfkit",
]

BROADCAST = -1
OPTIONS = ("--backend=none", f"--vde-group={os.getegid()}")

MakePeer = Callable[[Path, Path], UnixgramPeer]
qemu: MakePeer = QemuPeer
krunkit: MakePeer = ConnectedPeer
vfkit: MakePeer = partial(ConnectedPeer, introduction=b"VFKT")


def start(place: Path) -> DaemonProcess:
    """The daemon, which has not begun; its sockets are ``d/p`` and, for streams, ``s``."""
    (place / "d").mkdir(exist_ok=True)
    # The daemon's user may make files there, as under sudo in a folder of the caller.
    (place / "d").chmod(0o777)
    options = (*OPTIONS, f"--dgram={place / 'd' / 'p'}", f"--stream={place / 's'}")
    return DaemonProcess(place / "sw", options, pidfile=place / "pid", log=place / "log")


@contextmanager
def serving(place: Path) -> Iterator[DaemonProcess]:
    """The daemon, ready; it ends well and leaves nothing."""
    with start(place) as process:
        process.wait_ready()
        yield process
    assert process.process.returncode == 0, process.words()
    assert list((place / "d").iterdir()) == []
    assert sorted(entry.name for entry in place.iterdir()) == ["d", "log"]


@contextmanager
def maker(place: Path) -> Iterator[Callable[[MakePeer], UnixgramPeer]]:
    """A function that makes one more."""
    with ExitStack() as stack:
        numbers = iter(range(1000))

        def make(kind: MakePeer) -> UnixgramPeer:
            return stack.enter_context(kind(place / "d" / "p", place / f"own{next(numbers)}"))

        yield make


Anybody = UnixgramPeer | StreamPeer | VdePeer


def introduce(*peers: Anybody) -> None:
    """Each says hello, which the first hears; then the switch knows all of them, and nothing is under way."""
    for number, peer in enumerate(peers, 1):
        peer.send(frame(BROADCAST, number, b"hello"))
        if number > 1:
            assert peers[0].receive() == [frame(BROADCAST, number, b"hello")]
    for peer in peers[1:]:
        while not peer.receives_nothing():
            peer.receive()
