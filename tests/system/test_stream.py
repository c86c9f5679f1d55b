"""The real daemon with --stream: peers that frame well, badly and not at all; its sockets from start to end."""

import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.daemon import wait_until
from tests.support.stream_peer import StreamPeer, framed
from tests.support.vde_peer import VdePeer, frame
from vde_vmnet.demo.daemon_process import DaemonProcess

BROADCAST = -1
#: As root the daemon serves as nobody; the test's own group lets it, and the tests, in.
OPTIONS = ("--backend=none", f"--vde-group={os.getegid()}")


def start(place: Path) -> DaemonProcess:
    options = (*OPTIONS, f"--stream={place / 'one'}", "--stream", str(place / "two"))
    return DaemonProcess(place / "sw", options, pidfile=place / "pid", log=place / "log")


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[DaemonProcess]:
    with start(tmp_path) as process:
        process.wait_ready()
        yield process
    assert process.process.returncode == 0, process.words()
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["log"]


def introduce(*peers: StreamPeer | VdePeer) -> None:
    """Each says hello; afterwards the switch knows all of them.

    The last first: connections are accepted in order, so that the others are plugged in when it is heard.
    """
    for number, peer in reversed(list(enumerate(peers, 1))):
        peer.send(frame(BROADCAST, number, b"hello"))
        for other in peers:
            if other is not peer:
                other.receive()


def test_guests_of_two_paths_and_of_the_directory_are_one_network(
    daemon: DaemonProcess, tmp_path: Path
) -> None:
    with (
        StreamPeer(tmp_path / "one") as one,
        StreamPeer(tmp_path / "one") as two,
        StreamPeer(tmp_path / "two") as three,
        VdePeer(daemon.directory) as four,
    ):
        wait_until(lambda: daemon.log.read_text().count("plugged in") == 4, "all four are plugged in")
        introduce(one, two, three, four)
        for number, peer in ((2, two), (3, three), (4, four)):
            one.send(frame(number, 1, b"short"), frame(number, 1, size=1514), frame(number, 1, size=65_000))
            got = peer.receive(3)
            assert [len(one_frame) for one_frame in got] == [60, 1514, 65_000]
            peer.send(frame(1, number, b"back"))
            assert one.receive() == [frame(1, number, b"back")]
        assert all(peer.receives_nothing() for peer in (one, two, three))


def test_frames_arrive_however_they_are_cut(daemon: DaemonProcess, tmp_path: Path) -> None:
    with StreamPeer(tmp_path / "one") as one, StreamPeer(tmp_path / "one") as two:
        introduce(one, two)
        for byte in framed(frame(2, 1, b"byte by byte", size=1514)):
            one.send_raw(bytes([byte]))
        data = framed(*[frame(2, 1, number.to_bytes(2, "big"), size=900) for number in range(100)])
        for at in range(0, len(data), 1013):
            one.send_raw(data[at : at + 1013])
        got = two.receive(101)
        assert got[0] == frame(2, 1, b"byte by byte", size=1514)
        assert [int.from_bytes(one_frame[14:16], "big") for one_frame in got[1:]] == list(range(100))


def test_nothing_runts_and_what_is_too_long_for_a_frame_is_passed_over(
    daemon: DaemonProcess, tmp_path: Path
) -> None:
    with StreamPeer(tmp_path / "one") as one, StreamPeer(tmp_path / "one") as two:
        introduce(one, two)
        one.send(b"", b"short", frame(2, 1, size=69_632), b"", frame(2, 1, b"whole"))
        assert two.receive() == [frame(2, 1, b"whole")]


@pytest.mark.parametrize(
    "what",
    [
        lambda peer: peer.send_raw(b"GET / HTTP/1.1\r\n\r\n"),
        lambda peer: peer.send_raw((69_633).to_bytes(4, "big")),
        lambda peer: peer.send_raw(b"\xff" * 100_000),
        lambda peer: peer.socket.shutdown(socket.SHUT_WR),
        lambda peer: (peer.send_raw(b"\0\0\5"), peer.socket.shutdown(socket.SHUT_WR)),
        lambda peer: (peer.send_raw(b"\0\0\5\0half"), peer.socket.shutdown(socket.SHUT_WR)),
    ],
    ids=["another protocol", "one too many", "ones", "half closed", "half a header", "half a frame"],
)
def test_who_breaks_the_framing_is_cut_off_and_the_others_go_on(
    daemon: DaemonProcess, tmp_path: Path, what: Callable[[StreamPeer], object]
) -> None:
    with (
        StreamPeer(tmp_path / "one") as one,
        StreamPeer(tmp_path / "one") as two,
        StreamPeer(tmp_path / "one") as bad,
    ):
        introduce(one, two, bad)
        with suppress(BrokenPipeError, ConnectionResetError):  # it is faster than the rest of our words
            what(bad)
        assert bad.is_cut_off()
        one.send(frame(2, 1, b"goes on"))
        assert two.receive() == [frame(2, 1, b"goes on")]
        with StreamPeer(tmp_path / "one") as again:
            introduce(one, two, again)


def test_what_was_sent_before_the_end_still_arrives(daemon: DaemonProcess, tmp_path: Path) -> None:
    with StreamPeer(tmp_path / "one") as one, StreamPeer(tmp_path / "one") as two:
        introduce(one, two)
        one.send(*[frame(2, 1, number.to_bytes(2, "big")) for number in range(200)])
        one.close()
        assert len(two.receive(200)) == 200


def test_a_guest_that_stops_reading_costs_the_others_nothing(daemon: DaemonProcess, tmp_path: Path) -> None:
    with (
        StreamPeer(tmp_path / "one") as one,
        StreamPeer(tmp_path / "one") as two,
        StreamPeer(tmp_path / "one") as stuck,
    ):
        introduce(one, two, stuck)
        for _ in range(200):
            one.send(*[frame(3, 1, size=1514)] * 50)  # far beyond what its socket and queue hold
            one.send(frame(2, 1, b"through"))
            assert two.receive()[0] == frame(2, 1, b"through")
        # What it gets when it reads again is whole frames all the same.
        got = 0
        while not stuck.receives_nothing():
            assert stuck.receive() == [frame(3, 1, size=1514)]
            got += 1
        assert got > 500


def test_two_thousand_guests_one_after_the_other_leak_nothing(daemon: DaemonProcess, tmp_path: Path) -> None:
    children = Path(f"/proc/{daemon.process.pid}/task/{daemon.process.pid}/children").read_text().split()
    worker = int(children[0]) if children else daemon.process.pid

    def descriptors() -> int:
        return len(list(Path(f"/proc/{worker}/fd").iterdir()))

    before = descriptors()
    for _ in range(2000):
        with StreamPeer(tmp_path / "one") as guest:
            guest.send(frame(BROADCAST, 1))
    wait_until(lambda: descriptors() <= before, "descriptors go back")
    with StreamPeer(tmp_path / "one") as one, StreamPeer(tmp_path / "one") as two:
        introduce(one, two)


def test_the_sockets_belong_to_the_group_and_are_made_anew_after_kill_9(tmp_path: Path) -> None:
    with start(tmp_path) as first:
        first.wait_ready()
        status = (tmp_path / "one").stat()
        assert (stat.S_IMODE(status.st_mode), status.st_gid) == (0o770, os.getegid())
        first.process.send_signal(signal.SIGKILL)
        first.process.wait()
    assert (tmp_path / "one").exists()
    with start(tmp_path) as second:
        second.wait_ready()
        with StreamPeer(tmp_path / "one") as one, StreamPeer(tmp_path / "two") as two:
            wait_until(lambda: (tmp_path / "log").read_text().count("plugged in") == 2, "plugged in")
            introduce(one, two)
    assert not (tmp_path / "one").exists() and not (tmp_path / "two").exists()


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
    done = run("--stream", str(tmp_path / "one"))
    assert done.returncode == 5 and "in use" in done.stderr
    with StreamPeer(tmp_path / "one") as one, StreamPeer(tmp_path / "one") as two:
        introduce(one, two)


def test_what_is_no_socket_is_refused_and_stays(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    done = run("--stream", str(tmp_path / "file"))
    assert done.returncode == 1 and "is not a socket" in done.stderr
    assert (tmp_path / "file").read_text() == "mine"
    assert "not a directory" in run("--stream", str(tmp_path / "none" / "x")).stderr
    assert "at most" in run("--stream", str(tmp_path / ("x" * 108))).stderr


def test_no_switch_directory_is_needed(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "vde_vmnet", *OPTIONS, "--stream", str(tmp_path / "one")]
    daemon = subprocess.Popen([*command, "-p", str(tmp_path / "pid")], stderr=subprocess.PIPE, text=True)
    try:
        wait_until((tmp_path / "pid").exists, "ready")
        with StreamPeer(tmp_path / "one") as one, StreamPeer(tmp_path / "one") as two:
            introduce(one, two)
        daemon.send_signal(signal.SIGTERM)
        _, said = daemon.communicate(timeout=20)
    finally:
        daemon.kill()
        daemon.wait()
    assert daemon.returncode == 0
    assert "-netdev stream,id=net0,addr.type=unix,addr.path=" in said
    assert not list(tmp_path.iterdir())
