"""Point-to-point mode of newer vdeplug4: peers written from the protocol, as clients and as servers."""

import asyncio
import errno
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.support.bridge import Bridge, with_bridge
from tests.support.daemon import wait_until
from tests.support.packet_peer import PacketPeer, PacketServer
from tests.support.vde_peer import frame
from vde_vmnet.demo.daemon_process import DaemonProcess
from vde_vmnet.opened import MakeListener
from vde_vmnet.ports.base import SEGMENT_PORTS
from vde_vmnet.ports.vde_ptp_packets import VdePtpPacketListener
from vde_vmnet.privileges import invoking_identity
from vde_vmnet.socket_file import PacketPath, connect_packets

BROADCAST = -1
OPTIONS = ("--backend=none", f"--vde-group={os.getegid()}")


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "p"
    assert not (tmp_path / "p").exists()


def packet_path(path: Path) -> PacketPath:
    return PacketPath(path, os.getegid(), 0o660)


def server(path: Path) -> MakeListener:
    ours = packet_path(path).claim(invoking_identity())
    return partial(VdePtpPacketListener, packet_path(path), ours, port=SEGMENT_PORTS[-1])


def client(path: Path) -> MakeListener:
    return partial(VdePtpPacketListener, packet_path(path), connect_packets(path), port=SEGMENT_PORTS[-1])


async def meet(path: Path) -> PacketPeer:
    return await asyncio.to_thread(PacketPeer, path)


def test_a_peer_comes_and_goes_many_times(path: Path) -> None:
    async def scenario(bridge: Bridge) -> None:
        for _ in range(20):
            with await meet(path) as peer:
                await bridge.exchange(peer)
            # The next one is not made to wait until this one's end was noticed.

    with_bridge(server(path), scenario)


def test_what_a_peer_said_before_it_left_arrives_before_the_next_one(path: Path) -> None:
    async def scenario(bridge: Bridge) -> None:
        for _ in range(10):
            with await meet(path) as peer:
                peer.send(*[frame(BROADCAST, 1, b"%d" % number) for number in range(50)])
            with await meet(path) as peer:
                peer.send(frame(BROADCAST, 1, b"next"))
                for number in range(50):
                    await bridge.heard(b"%d" % number)
                await bridge.heard(b"next")

    with_bridge(server(path), scenario)


def test_a_second_peer_gets_the_reason_and_the_first_goes_on(path: Path) -> None:
    async def scenario(bridge: Bridge) -> None:
        with await meet(path) as peer:
            await bridge.exchange(peer)
            for _ in range(3):
                with pytest.raises(OSError, match="answer") as refused:
                    await meet(path)
                assert refused.value.errno == errno.EISCONN
            await bridge.exchange(peer)

    with_bridge(server(path), scenario)


def test_an_empty_packet_is_the_end_and_none_is_ever_sent(path: Path) -> None:
    async def scenario(bridge: Bridge) -> None:
        with await meet(path) as peer:
            await bridge.exchange(peer)
            bridge.uplink.send(b"")
            peer.send(b"")
            assert await asyncio.to_thread(peer.data.recv, 100) == b""
        await bridge.detached()

    with_bridge(server(path), scenario)


def test_frames_up_to_64_kib_pass(path: Path) -> None:
    async def scenario(bridge: Bridge) -> None:
        with await meet(path) as peer:
            await bridge.exchange(peer)
            bridge.uplink.send(frame(1, 2, size=65_550))
            assert await asyncio.to_thread(peer.receive) == [frame(1, 2, size=65_550)]
            peer.send(frame(2, 1, size=65_550))
            assert await asyncio.to_thread(bridge.uplink.recv, 1 << 17) == frame(2, 1, size=65_550)

    with_bridge(server(path), scenario)


def test_a_peer_that_stops_reading_loses_only_its_own_frames(path: Path) -> None:
    async def scenario(bridge: Bridge) -> None:
        with await meet(path) as peer:
            await bridge.exchange(peer)
            for _ in range(4000):
                bridge.uplink.send(frame(1, 2, size=1514))
            await asyncio.to_thread(peer.receive)
            while any(one["queued_frames"] for one in bridge.engine.counters().values()):
                await asyncio.to_thread(peer.receive)
            peer.data.setblocking(False)
            try:
                while True:
                    peer.receive()
            except BlockingIOError:
                peer.data.settimeout(10)
            await bridge.exchange(peer)

    with_bridge(server(path), scenario)


# -- as the client ------------------------------------------------------------------------------------------


def test_a_server_that_is_there_is_joined_and_its_return_noticed(path: Path) -> None:
    async def scenario(bridge: Bridge) -> None:
        await bridge.exchange(theirs)
        theirs.killed()
        await bridge.detached()
        path.unlink(missing_ok=True)

    with PacketServer(path) as theirs:
        make = client(path)
        theirs.answer()
        with_bridge(make, scenario)


def test_when_the_server_goes_we_are_the_server(path: Path) -> None:
    async def scenario(bridge: Bridge) -> None:
        await bridge.exchange(theirs)
        theirs.close()
        await bridge.detached()
        while not path.exists():
            await asyncio.sleep(0.01)
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        with await meet(path) as peer:
            await bridge.exchange(peer)

    with PacketServer(path) as theirs:
        make = client(path)
        theirs.answer()
        with_bridge(make, scenario)


def test_a_new_server_is_asked_until_it_accepts(path: Path) -> None:
    async def scenario(bridge: Bridge) -> None:
        await bridge.exchange(theirs)
        # Both at once: the old one's name never is away.
        fresh = PacketServer(path.with_name("new"))
        path.with_name("new").rename(path)
        theirs.killed()
        for _ in range(3):
            await asyncio.to_thread(fresh.answer, errno.EISCONN)
        await asyncio.to_thread(fresh.answer)
        await bridge.exchange(fresh)
        fresh.path = path
        fresh.close()

    with PacketServer(path) as theirs:
        make = client(path)
        theirs.answer()
        with_bridge(make, scenario)


# -- the daemon ---------------------------------------------------------------------------------------------


def run(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "vde_vmnet", *OPTIONS, *options],
        check=False,
        capture_output=True,
        text=True,
        timeout=20,
    )


def start(place: Path, *options: str) -> DaemonProcess:
    return DaemonProcess(
        Path(f"{place / 'p'}[]"), (*OPTIONS, *options), pidfile=place / "pid", log=place / "log"
    )


def test_the_daemon_serves_packets_when_told_and_removes_its_socket(tmp_path: Path) -> None:
    with start(tmp_path, "--vde-ptp=seqpacket", f"--stream={tmp_path / 's'}") as daemon:
        daemon.wait_ready()
        with PacketPeer(tmp_path / "p"):
            wait_until(lambda: "peer at" in daemon.log.read_text(), "plugged in")
        refused = run("--vde-ptp=dgram", f"{tmp_path / 'p'}[]")
        assert refused.returncode == 5 and "in use" in refused.stderr
    assert daemon.process.returncode == 0
    assert f"sock=ptp://{tmp_path / 'p'}" in daemon.log.read_text()
    assert [entry.name for entry in tmp_path.iterdir()] == ["log"]


def test_two_daemons_are_each_other_s_peer(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    other.chmod(0o777)
    with start(tmp_path, "--vde-ptp=seqpacket", f"--stream={tmp_path / 's'}") as first:
        first.wait_ready()
        # The directory first: it names the network, and the pair names the other one.
        options = (*OPTIONS, str(other / "sw"))
        pair = Path(f"{tmp_path / 'p'}[]")
        with DaemonProcess(pair, options, pidfile=other / "pid", log=other / "log") as second:
            second.wait_ready()
            assert "peer at" in second.log.read_text()  # auto found the server
            refused = run("--vde-ptp=seqpacket", str(other / "x"), str(pair))
            assert refused.returncode == 5 and os.strerror(errno.EISCONN) in refused.stderr
        assert second.process.returncode == 0
    assert first.process.returncode == 0
    assert not (tmp_path / "p").exists()


def test_a_server_that_says_nothing_is_an_error(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as silent:
        silent.bind(os.fspath(tmp_path / "p"))
        silent.listen(1)
        (tmp_path / "p").chmod(0o777)
        refused = run(f"{tmp_path / 'p'}[]", f"{tmp_path / 'x'}[]")
    assert refused.returncode == 5 and "does not answer" in refused.stderr
