"""The real daemon with --dgram: peers with each program's habits, at once, badly behaved and coming back."""

import os
import select
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.daemon import wait_until, watch_end
from tests.support.stream_peer import StreamPeer
from tests.support.unixgram_peer import ConnectedPeer, QemuPeer, UnixgramPeer
from tests.support.vde_peer import VdePeer, frame
from tests.system.dgram.daemon import (
    BROADCAST,
    OPTIONS,
    Anybody,
    MakePeer,
    introduce,
    krunkit,
    qemu,
    start,
    vfkit,
)
from vde_vmnet.demo.daemon_process import DaemonProcess

KINDS = pytest.mark.parametrize("make", [qemu, krunkit, vfkit], ids=["qemu", "krunkit", "vfkit"])


def worker_of(daemon: DaemonProcess) -> int:
    """The process that serves: a child of the keeper, where there is one."""
    pid = daemon.process.pid
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(children[0]) if children else pid


def test_all_kinds_are_one_network(
    daemon: DaemonProcess, tmp_path: Path, peers: Callable[[MakePeer], UnixgramPeer]
) -> None:
    with StreamPeer(tmp_path / "s") as stream, VdePeer(daemon.directory) as vde:
        wait_until(lambda: daemon.log.read_text().count("plugged in") == 2, "both are plugged in")
        everybody: list[Anybody] = [
            stream,
            vde,
            *[peers(kind) for kind in (qemu, krunkit, vfkit, qemu, vfkit, krunkit)],
        ]
        introduce(*everybody)
        for number, one in enumerate(everybody, 1):
            for other, peer in enumerate(everybody, 1):
                if peer is not one:
                    sizes = (60, 1514, 9000)
                    one.send(*[frame(other, number, size=size) for size in sizes])
                    assert [len(got) for size in sizes for got in peer.receive()] == list(sizes)
            one.send(frame(BROADCAST, number, b"to all"))
            for peer in everybody:
                if peer is not one:
                    assert peer.receive() == [frame(BROADCAST, number, b"to all")]
        for peer in everybody:
            if isinstance(peer, UnixgramPeer):
                assert peer.receives_nothing()


@KINDS
def test_the_first_frames_arrive_and_in_order(
    daemon: DaemonProcess, tmp_path: Path, peers: Callable[[MakePeer], UnixgramPeer], make: MakePeer
) -> None:
    with StreamPeer(tmp_path / "s") as stream:
        wait_until(lambda: daemon.log.read_text().count("plugged in") == 1, "plugged in")
        for number in range(1, 6):
            peers(make).send(*[frame(BROADCAST, number, b"%d" % count) for count in range(5)])
            assert stream.receive(5) == [frame(BROADCAST, number, b"%d" % count) for count in range(5)]


@KINDS
def test_frames_up_to_64_kib_pass(peers: Callable[[MakePeer], UnixgramPeer], make: MakePeer) -> None:
    one, two = peers(make), peers(qemu)
    introduce(one, two)
    for size in (65_000, 65_550):
        one.send(frame(2, 1, size=size))
        assert two.receive() == [frame(2, 1, size=size)]
        two.send(frame(1, 2, size=size))
        assert one.receive() == [frame(1, 2, size=size)]
    with suppress(OSError):
        one.send(frame(2, 1, size=65_551))
    one.send(frame(2, 1, b"after"))
    assert two.receive() == [frame(2, 1, b"after")]


@KINDS
def test_nothing_empty_is_passed_on_and_runts_neither(
    peers: Callable[[MakePeer], UnixgramPeer], make: MakePeer
) -> None:
    one, two = peers(make), peers(make)
    introduce(one, two)
    one.send(b"", b"short", b"VFKT", frame(2, 1, b"whole"))
    assert two.receive() == [frame(2, 1, b"whole")]


@KINDS
def test_one_that_stops_reading_costs_the_others_nothing(
    peers: Callable[[MakePeer], UnixgramPeer], make: MakePeer
) -> None:
    # All three are there before the first speaks: where they connect, they share one socket.
    one, two, stuck = peers(make), peers(make), peers(make)
    introduce(one, two, stuck)
    for _ in range(100):
        one.send(*[frame(3, 1, size=1514)] * 50)
        one.send(frame(2, 1, b"through"))
        assert two.receive() == [frame(2, 1, b"through")]
    for _ in range(5):
        assert stuck.receive() == [frame(3, 1, size=1514)]


@KINDS
@pytest.mark.parametrize("ending", ["closed", "killed"])
def test_who_is_gone_is_unplugged_and_may_come_back(
    daemon: DaemonProcess, tmp_path: Path, make: MakePeer, ending: str
) -> None:
    with QemuPeer(tmp_path / "d" / "p", tmp_path / "other") as other:
        other.send(frame(BROADCAST, 2, b"hello"))
        for count in range(1, 3):
            with make(tmp_path / "d" / "p", tmp_path / "own") as peer:
                peer.send(frame(BROADCAST, 1, b"hello"))
                assert other.receive() == [frame(BROADCAST, 1, b"hello")]
                other.send(frame(1, 2, b"answer"))
                assert peer.receive() == [frame(1, 2, b"answer")]
                if ending == "killed":
                    peer.killed()
                else:
                    peer.close()
                wait_until(lambda: daemon.log.read_text().count("unplugged") == count, "unplugged")  # noqa: B023


@KINDS
def test_who_comes_back_at_once_is_served_at_once(
    daemon: DaemonProcess, tmp_path: Path, make: MakePeer
) -> None:
    with QemuPeer(tmp_path / "d" / "p", tmp_path / "other") as other:
        other.send(frame(BROADCAST, 2, b"hello"))
        for _ in range(20):
            with make(tmp_path / "d" / "p", tmp_path / "own") as peer:
                # What finds the one before gone is lost; whoever answers a guest answers it again.
                for _ in range(3):
                    peer.send(frame(BROADCAST, 1, b"hello"))
                    assert other.receive() == [frame(BROADCAST, 1, b"hello")]
                    other.send(frame(1, 2, b"answer"))
                    with suppress(TimeoutError):
                        peer.data.settimeout(0.3)
                        assert peer.receive() == [frame(1, 2, b"answer")]
                        break
                else:
                    pytest.fail("no answer came")


def test_a_thousand_clients_one_after_the_other_leak_nothing(daemon: DaemonProcess, tmp_path: Path) -> None:
    worker = worker_of(daemon)

    def descriptors() -> int:
        return len(list(Path(f"/proc/{worker}/fd").iterdir()))

    before = descriptors()
    kinds = (qemu, krunkit)
    for number in range(1000):
        with kinds[number % 2](tmp_path / "d" / "p", tmp_path / f"own{number % 200}") as peer:
            peer.send(frame(BROADCAST, 1))
    wait_until(lambda: descriptors() <= before, "descriptors go back")
    with QemuPeer(tmp_path / "d" / "p", tmp_path / "a") as one, StreamPeer(tmp_path / "s") as two:
        wait_until(lambda: f"{two and 's'}, pid" in daemon.log.read_text(), "plugged in")
        # Newcomers that wait are bounded, and some of those who went may still be among them.
        for _ in range(20):
            one.send(frame(BROADCAST, 1, b"still there"))
            if select.select([two.socket], [], [], 0.5)[0]:
                break
        assert two.receive() == [frame(BROADCAST, 1, b"still there")]


def test_senders_without_an_address_and_with_a_relative_one_are_not_heard(
    daemon: DaemonProcess, tmp_path: Path, peers: Callable[[MakePeer], UnixgramPeer]
) -> None:
    one = peers(qemu)
    one.send(frame(BROADCAST, 1, b"hello"))
    path = os.fspath(tmp_path / "d" / "p")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as nobody:
        nobody.sendto(frame(BROADCAST, 9), path)
        here = Path.cwd()
        os.chdir(tmp_path)
        try:
            nobody.bind("relative")
        finally:
            os.chdir(here)
        nobody.sendto(frame(BROADCAST, 9), path)
        wait_until(lambda: "relative path" in daemon.log.read_text(), "refused")
        (tmp_path / "relative").unlink()
    two = peers(qemu)
    two.send(frame(BROADCAST, 2, b"heard"))
    assert one.receive() == [frame(BROADCAST, 2, b"heard")]


def test_a_flood_of_addresses_costs_only_the_newcomers(
    daemon: DaemonProcess, tmp_path: Path, peers: Callable[[MakePeer], UnixgramPeer]
) -> None:
    one, two = peers(qemu), peers(krunkit)
    introduce(one, two)
    path = os.fspath(tmp_path / "d" / "p")
    for number in range(3000):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as flood:
            flood.setblocking(False)
            flood.bind(f"\0flood-{os.getpid()}-{number}")
            with suppress(BlockingIOError):
                flood.sendto(frame(BROADCAST, 7, size=60), path)
        if number % 100 == 0:
            one.send(frame(2, 1, b"through"))
            while two.receive() != [frame(2, 1, b"through")]:
                pass
    # Its addresses are gone, so that there is room again.
    three = peers(qemu)
    wait_until(lambda: _answers(three, one), "a newcomer is heard again")


def _answers(newcomer: UnixgramPeer, other: UnixgramPeer) -> bool:
    newcomer.send(frame(1, 3, b"am I heard?"))
    other.data.settimeout(0.2)
    try:
        while other.receive() != [frame(1, 3, b"am I heard?")]:
            pass
    except TimeoutError:
        return False
    finally:
        other.data.settimeout(10)
    return True


@pytest.mark.root
def test_a_client_that_we_may_not_write_to_is_told_why(
    daemon: DaemonProcess, tmp_path: Path, peers: Callable[[MakePeer], UnixgramPeer]
) -> None:
    one, two = peers(qemu), peers(krunkit)
    for peer in (one, two):
        peer.own.chmod(0o700)
        peer.send(frame(BROADCAST, 1))
    wait_until(lambda: daemon.log.read_text().count("may not write to its socket") == 2, "both are told")
    one.own.chmod(0o770)
    wait_until(lambda: _plugs_in(one, daemon), "it is admitted later")


def _plugs_in(peer: UnixgramPeer, daemon: DaemonProcess) -> bool:
    peer.send(frame(BROADCAST, 1))
    return "plugged in" in daemon.log.read_text()


def test_the_socket_belongs_to_the_group_and_is_made_anew_after_kill_9(tmp_path: Path) -> None:
    path = tmp_path / "d" / "p"
    with start(tmp_path) as first:
        first.wait_ready()
        status = path.stat()
        assert (stat.S_IMODE(status.st_mode), status.st_gid) == (0o770, os.getegid())
        with ConnectedPeer(path, tmp_path / "own") as peer:
            peer.send(frame(BROADCAST, 1))
            wait_until(lambda: path.stat().st_ino != status.st_ino, "the next one finds a fresh one")
            assert (stat.S_IMODE(path.stat().st_mode), path.stat().st_gid) == (0o770, os.getegid())
        worker = worker_of(first)
        ended = watch_end(worker)
        for pid in {worker, first.process.pid}:
            os.kill(pid, signal.SIGKILL)
        ended()
        first.process.wait()
    assert path.exists()
    with start(tmp_path) as second:
        second.wait_ready()
        with ConnectedPeer(path, tmp_path / "own") as peer:
            peer.send(frame(BROADCAST, 1))
            wait_until(lambda: "plugged in" in second.log.read_text(), "plugged in")
    assert list((tmp_path / "d").iterdir()) == []


def run(*options: str) -> subprocess.CompletedProcess[str]:
    """The daemon, which is to end by itself."""
    return subprocess.run(
        [sys.executable, "-m", "vde_vmnet", *OPTIONS, *options],
        check=False,
        capture_output=True,
        text=True,
        timeout=20,
    )


def test_a_live_socket_is_refused_and_stays(daemon: DaemonProcess, tmp_path: Path) -> None:
    done = run("--dgram", str(tmp_path / "d" / "p"))
    assert done.returncode == 5 and "in use" in done.stderr
    assert "at most" in run("--dgram", str(tmp_path / ("x" * 108))).stderr
    log = daemon.log.read_text()
    assert f"remote.path={tmp_path / 'd' / 'p'}" in log


def test_a_name_that_leads_elsewhere_is_not_followed(
    daemon: DaemonProcess, tmp_path: Path, peers: Callable[[MakePeer], UnixgramPeer]
) -> None:
    bad, one = peers(qemu), peers(qemu)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as victim:
        victim.bind(os.fspath(tmp_path / "victim"))
        (tmp_path / "victim").chmod(0o777)
        bad.own.unlink()
        bad.own.symlink_to(tmp_path / "victim")
        bad.send(frame(BROADCAST, 1))
        one.send(frame(BROADCAST, 2))
        wait_until(lambda: "plugged in" in daemon.log.read_text(), "the other one is")
        assert "own0" not in daemon.log.read_text()
        assert not select.select([victim], [], [], 0.1)[0]
    (tmp_path / "victim").unlink()
