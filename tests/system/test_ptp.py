"""Point-to-point mode: raw peers and Debian's vde_plug, strangers, and peers that go and come back."""

import asyncio
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
from tests.support.ptp_peer import PtpPeer
from tests.support.vde_peer import frame
from tests.support.vde_plug import Plugged
from vde_vmnet.config.model import SwitchConfig
from vde_vmnet.demo.daemon_process import DaemonProcess
from vde_vmnet.directory_watch import NameWatch
from vde_vmnet.errors import ConfigurationError, ConflictError
from vde_vmnet.opened import MakeListener
from vde_vmnet.ports.base import SEGMENT_PORTS
from vde_vmnet.ports.vde_ptp import VdePtpListener
from vde_vmnet.privileges import invoking_identity
from vde_vmnet.socket_file import SocketFile

BROADCAST = -1


def claim(path: Path) -> SocketFile:
    return SocketFile.claim(
        "Socket", path, socket.SOCK_DGRAM, identity=invoking_identity(), gid=os.getegid(), mode=0o660, room=1
    )


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "p"
    assert not (tmp_path / "p").exists()


def server(path: Path, *, watched: bool = True) -> MakeListener:
    watch = NameWatch(Path(f"{path}+"))
    if not watched:
        watch.close()  # as on a system without inotify
    return partial(VdePtpListener, claim(path), watch, port=SEGMENT_PORTS[0])


@pytest.mark.parametrize("watched", [True, False], ids=["inotify", "timer"])
def test_a_peer_that_only_listens_is_found(path: Path, watched: bool) -> None:
    async def scenario(bridge: Bridge) -> None:
        with PtpPeer(path) as peer:
            await bridge.attached()
            bridge.uplink.send(frame(BROADCAST, 2, b"anybody?"))
            assert await asyncio.to_thread(peer.receive) == [frame(BROADCAST, 2, b"anybody?")]
            await bridge.exchange(peer)

    with_bridge(server(path, watched=watched), scenario)


def test_the_first_frame_is_not_lost(path: Path) -> None:
    async def scenario(bridge: Bridge) -> None:
        with PtpPeer(path) as peer:
            peer.send(frame(BROADCAST, 1, b"first"))  # the event loop has had no turn since the bind
            await bridge.heard(b"first")

    with_bridge(server(path), scenario)


def test_a_peer_leaves_and_comes_back_many_times(path: Path) -> None:
    async def scenario(bridge: Bridge) -> None:
        for _ in range(20):
            with PtpPeer(path) as peer:
                await bridge.exchange(peer)
                peer.left()
            await bridge.detached()

    with_bridge(server(path), scenario)


def test_a_killed_peer_is_missed_and_the_next_one_served(path: Path) -> None:
    async def scenario(bridge: Bridge) -> None:
        with PtpPeer(path) as peer:
            await bridge.exchange(peer)
            peer.killed()
        await bridge.detached()
        Path(f"{path}+").unlink()  # as every client does when nobody answers there
        with PtpPeer(path) as peer:
            await bridge.exchange(peer)

    with_bridge(server(path), scenario)


def test_strangers_and_a_second_peer_are_refused(path: Path) -> None:
    async def scenario(bridge: Bridge) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stranger:
            stranger.sendto(frame(BROADCAST, 9, b"I am nobody"), os.fspath(path))
            with PtpPeer(path) as peer:
                peer.send(frame(BROADCAST, 1, b"hello"))
                # The stranger's frame was first, and went nowhere.
                await bridge.heard(b"hello")
                with pytest.raises(PermissionError):
                    stranger.sendto(frame(BROADCAST, 9), os.fspath(path))
                with pytest.raises(PermissionError):
                    PtpPeer(path)
                await bridge.exchange(peer)

    with_bridge(server(path), scenario)


def test_debian_s_vde_plug_comes_and_goes(path: Path) -> None:
    async def scenario(bridge: Bridge) -> None:
        for number in range(3):
            plug = Plugged(f"ptp://{path}")
            await bridge.attached()
            plug.send(frame(BROADCAST, 1, b"from vde_plug"))
            await bridge.heard(b"from vde_plug")
            bridge.uplink.send(frame(1, 2, b"to vde_plug"))
            await asyncio.to_thread(plug.receive_until, frame(1, 2, b"to vde_plug"))
            if number == 1:
                plug.process.kill()
            plug.close()
            await bridge.detached()

    with_bridge(server(path), scenario)


def test_a_second_vde_plug_is_refused(path: Path) -> None:
    async def scenario(bridge: Bridge) -> None:
        with PtpPeer(path) as peer:
            await bridge.exchange(peer)
            done = await asyncio.to_thread(
                subprocess.run, ["vde_plug", f"ptp://{path}"], stdin=subprocess.PIPE, capture_output=False
            )
            assert done.returncode != 0
            await bridge.exchange(peer)

    with_bridge(server(path), scenario)


# -- the path -----------------------------------------------------------------------------------------------


def test_what_a_dead_server_left_is_replaced_and_a_live_one_is_not(tmp_path: Path) -> None:
    first = claim(tmp_path / "p")
    with pytest.raises(ConflictError, match="in use by a running program"):
        claim(tmp_path / "p")
    first.socket.close()
    second = claim(tmp_path / "p")
    assert stat.S_IMODE((tmp_path / "p").stat().st_mode) == 0o660
    (tmp_path / "p").rename(tmp_path / "elsewhere")
    third = claim(tmp_path / "p")
    second.remove()  # not its file any more
    assert (tmp_path / "p").exists()
    third.remove()
    (tmp_path / "elsewhere").unlink()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "message"),
    [("no/p", "is not a directory"), ("x" * 100, "at most 106"), ("file", "is not a socket")],
)
def test_paths_that_cannot_be(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match=message):
        claim(tmp_path / name)


@pytest.mark.root
def test_the_service_user_owns_the_socket_and_nothing_is_left(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        place.chmod(0o755)
    with DaemonProcess(
        Path(f"{tmp_path / 'p'}[]"),
        ("--backend=none", f"--vde-group={os.getegid()}"),
        pidfile=tmp_path / "pid",
        log=tmp_path / "log",
    ) as daemon:
        daemon.wait_ready()
        status = (tmp_path / "p").stat()
        assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (65534, os.getegid(), 0o660)
        again = subprocess.run(
            [sys.executable, "-m", "vde_vmnet", "--backend=none", f"{tmp_path / 'p'}[]"],
            capture_output=True,
            text=True,
        )
        assert again.returncode == 5 and "in use by a running program" in again.stderr
    assert daemon.process.returncode == 0
    assert f"sock=ptp://{tmp_path / 'p'}" in daemon.log.read_text()
    assert [entry.name for entry in tmp_path.iterdir()] == ["log"]


def test_a_key_of_its_own(tmp_path: Path) -> None:
    assert SwitchConfig(tmp_path).key != SwitchConfig(tmp_path, point_to_point=True).key
