"""Clients who connected to one datagram socket before they spoke: what goes to them leaves there (Linux)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.daemon import wait_until
from tests.support.stream_peer import StreamPeer
from tests.support.unixgram_peer import ConnectedPeer, UnixgramPeer
from tests.support.vde_peer import frame
from tests.system.dgram.daemon import BROADCAST, OPTIONS, MakePeer, introduce, krunkit
from vde_vmnet.demo.daemon_process import DaemonProcess


def test_two_that_connect_before_either_speaks_share_a_socket(
    peers: Callable[[MakePeer], UnixgramPeer],
) -> None:
    one, two, three = peers(krunkit), peers(krunkit), peers(krunkit)
    introduce(one, two, three)
    for sender, receiver, to, by in ((one, two, 2, 1), (two, three, 3, 2), (three, one, 1, 3)):
        sender.send(frame(to, by, size=1514))
        assert receiver.receive() == [frame(to, by, size=1514)]


def test_one_whose_socket_another_comes_to_share_hears_every_frame_once(
    daemon: DaemonProcess, tmp_path: Path, peers: Callable[[MakePeer], UnixgramPeer]
) -> None:
    hello = frame(BROADCAST, 2, b"hello")
    with StreamPeer(tmp_path / "s") as speaker:
        wait_until(lambda: daemon.log.read_text().count("plugged in") == 1, "plugged in")
        for _ in range(20):
            one, two = peers(krunkit), peers(krunkit)
            one.send(frame(BROADCAST, 1, b"hello"))
            assert speaker.receive() == [frame(BROADCAST, 1, b"hello")]
            said: list[bytes] = []
            heard: list[bytes] = []
            two.send(hello)
            while hello not in heard[:-100]:
                said.append(frame(BROADCAST, 3, len(said).to_bytes(4, "big")))
                speaker.send(said[-1])
                while not heard or heard[-1] != said[-1]:
                    heard += one.receive()
            assert one.receives_nothing()
            heard.remove(hello)
            assert heard == said
            assert speaker.receive() == [hello]
            one.close()
            two.close()


@pytest.mark.root
def test_where_the_daemon_may_make_no_files_connected_clients_share(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path.parent):
        place.chmod(0o755)
    options = (*OPTIONS, f"--dgram={tmp_path / 'p'}")
    with DaemonProcess(tmp_path / "sw", options, pidfile=tmp_path / "pid", log=tmp_path / "log") as daemon:
        daemon.wait_ready()
        with (
            ConnectedPeer(tmp_path / "p", tmp_path / "a") as one,
            ConnectedPeer(tmp_path / "p", tmp_path / "b") as two,
        ):
            introduce(one, two)
        assert "have to share one socket" in daemon.log.read_text()
    assert daemon.process.returncode == 0
    assert not (tmp_path / "p").exists()
