"""One daemon, several VDESWITCHes, one segment: served, joined, point to point, beside a stream socket."""

import os
import stat
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

from tests.support.daemon import wait_until
from tests.support.ptp_peer import PtpPeer
from tests.support.stream_peer import StreamPeer
from tests.support.vde_peer import VdePeer, frame
from tests.support.vde_switch import VdeSwitch
from vde_vmnet.demo.daemon_process import DaemonProcess

BROADCAST = -1


class Station(Protocol):
    def send(self, *frames: bytes) -> None: ...
    def receive(self) -> list[bytes]: ...


def everybody_hears_everybody(stations: Sequence[Station]) -> None:
    """A broadcast of each reaches all others once; after it, a frame to each reaches that one alone."""
    for number, station in enumerate(stations):
        hello = frame(BROADCAST, number, b"hello")
        station.send(hello)
        for other in stations:
            if other is not station:
                assert other.receive() == [hello]
    for number, station in enumerate(stations):
        for target, other in enumerate(stations):
            if other is not station:
                word = frame(target, number, b"word")
                station.send(word)
                assert other.receive() == [word]


def test_everybody_hears_everybody(tmp_path: Path) -> None:
    ours, second, pair, theirs, stream = (tmp_path / name for name in ("ours", "second", "p", "sw", "stream"))
    tmp_path.chmod(0o777)  # the daemon serves as somebody else, and makes sockets here
    with VdeSwitch(theirs, "-m", "666") as switch:
        options = ("--backend=none", f"--vde-group={os.getegid()}", f"--stream={stream}")
        with (
            DaemonProcess(
                ours,
                (*options, str(second), f"{pair}[]", str(theirs)),
                pidfile=tmp_path / "pid",
                log=tmp_path / "log",
            ) as daemon,
            ExitStack() as peers,
        ):
            daemon.wait_ready()
            single = peers.enter_context(PtpPeer(pair))
            single.path.chmod(0o777)
            guests = [peers.enter_context(VdePeer(directory)) for directory in (second, ours, ours)]
            streaming = peers.enter_context(StreamPeer(stream))
            far = peers.enter_context(VdePeer(switch.directory))
            # Two of them have no handshake that would say when they are there.
            wait_until(lambda: daemon.log.read_text().count(" plugged in") == 5, "everybody is there")
            everybody_hears_everybody([single, *guests, streaming, far])
            # Port numbers belong to the network, not to a directory.
            names = [Path(os.fsdecode(one.switch_path)).name for one in guests]
            assert [name.partition(".")[0] for name in names] == ["001", "002", "003"]
        assert daemon.process.returncode == 0, daemon.words()
        assert stat.S_ISSOCK((theirs / "ctl").stat().st_mode), "somebody else's switch stays"
    single.path.unlink()
    assert [entry.name for entry in tmp_path.iterdir()] == ["log"]


def test_when_one_cannot_be_opened_nothing_stays_of_the_others(tmp_path: Path) -> None:
    with VdeSwitch(tmp_path / "sw", "-m", "666") as switch:
        daemon = DaemonProcess(
            tmp_path / "ours",
            ("--backend=none", "--vde-switch=serve", str(switch.directory)),
            pidfile=tmp_path / "pid",
            log=tmp_path / "log",
        )
        assert daemon.process.wait(20) == 5
        assert "is in use by a running switch" in daemon.words()
        assert sorted(entry.name for entry in tmp_path.iterdir()) == ["log", "sw"]
