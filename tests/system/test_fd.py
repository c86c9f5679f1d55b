"""The daemon with --fd: a guest at the other end of a descriptor from the start to the end of the network."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.daemon import wait_until
from tests.support.stream_peer import StreamPeer, framed
from tests.support.vde_peer import frame

BROADCAST = -1
OPTIONS = ("--backend=none", f"--vde-group={os.getegid()}")


@contextmanager
def daemon(place: Path, given: socket.socket, *options: str) -> Iterator[subprocess.Popen[str]]:
    """With ``given``, which is closed here, as --fd, and a stream socket beside it; ready inside the block."""
    command = [sys.executable, "-m", "vde_vmnet", *OPTIONS, f"--fd={given.fileno()}", *options]
    process = subprocess.Popen(
        [*command, f"--pidfile={place / 'pid'}"],
        pass_fds=[given.fileno()],
        stderr=subprocess.PIPE,
        text=True,
    )
    given.close()
    try:
        wait_until(lambda: (place / "pid").exists() or process.poll() is not None, "ready")
        assert process.poll() is None, process.communicate()[1]
        yield process
    finally:
        process.kill()
        process.communicate()


def pair(kind: socket.SocketKind) -> tuple[socket.socket, socket.socket]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
    ours.settimeout(10)
    return ours, theirs


def wire(kind: socket.SocketKind, one: bytes) -> bytes:
    return framed(one) if kind == socket.SOCK_STREAM else one


KINDS = pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM], ids=["stream", "datagrams"])


@KINDS
def test_frames_pass_and_the_network_ends_with_the_guest(tmp_path: Path, kind: socket.SocketKind) -> None:
    ours, theirs = pair(kind)
    with (
        ours,
        daemon(tmp_path, theirs, f"--stream={tmp_path / 's'}") as process,
        StreamPeer(tmp_path / "s") as other,
    ):
        other.send(frame(BROADCAST, 2, b"hello"))
        assert ours.recv(2000) == wire(kind, frame(BROADCAST, 2, b"hello"))
        for size in (60, 1514, 65_000):
            ours.sendall(wire(kind, frame(2, 1, size=size)))
            assert other.receive() == [frame(2, 1, size=size)]
            other.send(frame(1, 2, size=size))
            assert _receive(ours, kind) == frame(1, 2, size=size)
        ours.close()
        assert process.wait(20) == 0
        assert "the network ends with it" in (process.stderr.read() if process.stderr else "")
    assert list(tmp_path.iterdir()) == []


def _receive(connection: socket.socket, kind: socket.SocketKind) -> bytes:
    if kind == socket.SOCK_DGRAM:
        return connection.recv(1 << 17)
    length = int.from_bytes(connection.recv(4, socket.MSG_WAITALL), "big")
    return connection.recv(length, socket.MSG_WAITALL)


@KINDS
def test_alone_and_silent_it_ends_all_the_same(tmp_path: Path, kind: socket.SocketKind) -> None:
    ours, theirs = pair(kind)
    with daemon(tmp_path, theirs) as process:
        ours.close()
        assert process.wait(20) == 0


@KINDS
def test_a_guest_that_is_gone_already_is_the_end(tmp_path: Path, kind: socket.SocketKind) -> None:
    ours, theirs = pair(kind)
    ours.close()
    command = [sys.executable, "-m", "vde_vmnet", *OPTIONS, f"--fd={theirs.fileno()}"]
    with theirs:
        done = subprocess.run(command, pass_fds=[theirs.fileno()], capture_output=True, text=True, timeout=20)
    assert done.returncode == 0, done.stderr


def test_a_signal_ends_it_as_ever(tmp_path: Path) -> None:
    ours, theirs = pair(socket.SOCK_DGRAM)
    with ours, daemon(tmp_path, theirs) as process:
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        # Nobody holds the other end any more.
        with pytest.raises(ConnectionRefusedError):
            ours.send(frame(BROADCAST, 1))


def test_two_networks_may_have_the_same_number(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    first, second = pair(socket.SOCK_DGRAM), pair(socket.SOCK_DGRAM)
    with first[0], second[0], daemon(one, first[1]) as a, daemon(two, second[1]) as b:
        first[0].close()
        assert a.wait(20) == 0
        second[0].send(frame(BROADCAST, 1))
        assert b.poll() is None


def run(*options: str, keep: int | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "vde_vmnet", *OPTIONS, *options],
        check=False,
        capture_output=True,
        text=True,
        timeout=20,
        pass_fds=() if keep is None else (keep,),
    )


def _packets() -> socket.socket:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    theirs.close()
    return ours


def _listening() -> socket.socket:
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listening.bind("")  # a name of the kernel's choice
    listening.listen()
    return listening


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM), "is not connected"),
        (lambda: socket.socket(socket.AF_UNIX, socket.SOCK_STREAM), "is not connected"),
        (_listening, "listens for connections"),
        (_packets, "SOCK_SEQPACKET"),
        (lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM), "not a UNIX one"),
    ],
    ids=["datagrams", "stream", "listening", "packets", "udp"],
)
def test_what_cannot_be_served_is_refused(make: Callable[[], socket.socket], message: str) -> None:
    with make() as given:
        done = run(f"--fd={given.fileno()}", keep=given.fileno())
    assert done.returncode == 1 and message in done.stderr, done.stderr


def test_what_is_not_open_or_no_socket_is_refused(tmp_path: Path) -> None:
    done = run("--fd=77")
    assert done.returncode == 1 and "is not open" in done.stderr and "--close-from=78" in done.stderr
    assert run("--fd=99999999999").returncode == 1
    with (tmp_path / "file").open("w") as file:
        done = run(f"--fd={file.fileno()}", keep=file.fileno())
    assert done.returncode == 1 and "is not a socket" in done.stderr
