"""The daemon with the offload keys of vmnet, on the simulated framework: super-frames both ways, for all."""

from __future__ import annotations

import hashlib
import os
import re
import select
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Self

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from tests.engine import tap
from tests.support.mac import GATEWAY, SimulatedMac, TapGuest
from tests.support.netns import Namespace
from tests.support.offload import folded_sum, is_right, pieces, unfinished
from tests.support.stream_peer import StreamPeer
from tests.support.unixgram_peer import ConnectedPeer
from vde_vmnet.demo.daemon_process import DaemonProcess
from vde_vmnet.demo.traffic import HttpServer, fetch

pytestmark = pytest.mark.root

_SHARED = f"--vmnet-gateway={GATEWAY}"
_PLAIN, _KRUNKIT, _HOST = "52:54:00:00:00:01", "52:54:00:00:00:02", "52:54:00:00:00:03"
_TCP4, _TCP6 = 1, 4


@pytest.fixture(scope="module")
def mac() -> Iterator[SimulatedMac]:
    with SimulatedMac() as simulated:
        yield simulated


def max_packet_size(daemon: DaemonProcess) -> int:
    found = re.search(r"\* vmnet_max_packet_size: (\d+)", daemon.log.read_text())
    assert found is not None
    return int(found[1])


class Guests:
    """A guest without offloads, one of krunkit's with them, and the host's own mouth and ears."""

    def __init__(self, mac: SimulatedMac, place: Path, stack: ExitStack) -> None:
        self.plain = stack.enter_context(StreamPeer(mac.place / "stream"))
        self.krunkit = stack.enter_context(ConnectedPeer(mac.place / "open" / "offload", place / "own"))
        # Its ears are for an address that its system does not answer for.
        mac.namespace.run("ip", "link", "set", "bridge100", "promisc", "on")
        self.host = tap.Raw(mac.namespace, "bridge100")
        stack.callback(self.host.close)
        for peer, own in ((self.plain, _PLAIN), (self.krunkit, _KRUNKIT)):
            peer.send(bytes(Ether(dst="ff:ff:ff:ff:ff:ff", src=own, type=0x88B5) / Raw(bytes(46))))
            self.heard(own)
        self.host.send(
            tap.Super(bytes(Ether(dst="ff:ff:ff:ff:ff:ff", src=_HOST, type=0x88B5) / Raw(bytes(46))))
        )
        for peer in (self.plain, self.krunkit):
            while Ether(self._next(peer)).src != _HOST:
                pass

    @staticmethod
    def _next(peer: StreamPeer | ConnectedPeer) -> bytes:
        return peer.receive()[0]

    def heard(self, source: str) -> tap.Super:
        """The next frame from there that the host hears."""
        while True:
            frame = self.host.receive()
            if Ether(frame.frame).src == source:
                return frame

    def get(self, peer: StreamPeer | ConnectedPeer, count: int = 1) -> list[bytes]:
        """The next frames from the host; its system says other things too."""
        found: list[bytes] = []
        while len(found) < count:
            frame = self._next(peer)
            if Ether(frame).src == _HOST:
                found.append(frame)
        return found


def open_sockets(mac: SimulatedMac) -> tuple[str, ...]:
    (mac.place / "open").mkdir(exist_ok=True)
    (mac.place / "open").chmod(0o777)
    return (f"--stream={mac.place / 'stream'}", f"--dgram-offload={mac.place / 'open' / 'offload'}")


def tcp(destination: str, source: str, length: int, *, v6: bool = False) -> Packet:
    network = IPv6(src="fd00::1", dst="fd00::2") if v6 else IP(src="10.1.0.1", dst="10.1.0.2", id=7, flags="DF")
    data = Raw(bytes(at * 7 % 251 for at in range(length)))
    return Ether(dst=destination, src=source) / network / TCP(seq=1, ack=5, flags="PA") / data


def finished(frame: tap.Super) -> bytes:
    """With the checksum that is left to do."""
    if not frame.checksum_offset:
        return frame.frame
    at = frame.checksum_start + frame.checksum_offset
    checksum = 0xFFFF ^ folded_sum(frame.frame[frame.checksum_start :])
    return frame.frame[:at] + checksum.to_bytes(2, "big") + frame.frame[at + 2 :]


def left_to_do(packet: Packet, *, kind: int = 0, size: int = 0) -> tap.Super:
    """As the host's stack hands it to a card."""
    start = 54 if IPv6 in packet else 34
    return tap.Super(unfinished(packet), kind, size, start + 20, start, 16)


@pytest.mark.parametrize(
    ("macos", "options", "packet_size"),
    [
        ("26", (_SHARED,), 65_550),
        ("26", (_SHARED, "--vmnet-disable-dhcp"), 65_550),  # the network API
        ("15", (_SHARED, "--vmnet-offload=on"), 65_550),
        ("15.4", (_SHARED, "--vmnet-offload=virtio"), 65_562),
        ("26", (_SHARED, "--vmnet-disable-dhcp", "--vmnet-offload=virtio"), 65_562),
    ],
)
def test_super_frames_both_ways(
    mac: SimulatedMac, tmp_path: Path, macos: str, options: tuple[str, ...], packet_size: int
) -> None:
    with mac.daemon(*options, *open_sockets(mac), macos=macos) as daemon, ExitStack() as stack:
        assert max_packet_size(daemon) == packet_size
        guests = Guests(mac, tmp_path, stack)
        packet = tcp(_HOST, _KRUNKIT, 50_000)
        guests.krunkit.send(unfinished(packet))
        heard = guests.heard(_KRUNKIT)
        assert (heard.kind, heard.size) == (_TCP4, 1460)
        assert finished(heard) == bytes(packet)
        packet = tcp(_HOST, _KRUNKIT, 500)
        guests.krunkit.send(unfinished(packet))
        assert finished(guests.heard(_KRUNKIT)) == bytes(packet)
        # Nobody says that vmnet takes them for IPv6, unless it is told with each frame what it is.
        packet = tcp(_HOST, _KRUNKIT, 4_000, v6=True)
        guests.krunkit.send(unfinished(packet))
        if "virtio" in options[-1]:
            heard = guests.heard(_KRUNKIT)
            assert heard.kind == _TCP6 and finished(heard) == bytes(packet)
        else:
            assert [finished(guests.heard(_KRUNKIT)) for _ in range(3)] == pieces(packet, 1440)
        packet = tcp(_KRUNKIT, _HOST, 50_000)
        guests.host.send(left_to_do(packet, kind=_TCP4, size=1460))
        assert guests.get(guests.krunkit) == [bytes(packet)]
        for packet, size in ((tcp(_PLAIN, _HOST, 50_000), 1460), (tcp(_PLAIN, _HOST, 20_000, v6=True), 1440)):
            expected = pieces(packet, size)
            guests.host.send(left_to_do(packet, kind=_TCP6 if IPv6 in packet else _TCP4, size=size))
            assert guests.get(guests.plain, len(expected)) == expected
        packet = tcp(_PLAIN, _HOST, 700)
        guests.host.send(left_to_do(packet))
        assert guests.get(guests.plain) == [bytes(packet)]


@pytest.mark.parametrize(
    ("macos", "options"), [("15", (_SHARED,)), ("26", (_SHARED, "--vmnet-offload=off")), ("11", (_SHARED,))]
)
def test_without_offloads_vmnet_gets_finished_frames(
    mac: SimulatedMac, tmp_path: Path, macos: str, options: tuple[str, ...]
) -> None:
    with mac.daemon(*options, *open_sockets(mac), macos=macos) as daemon, ExitStack() as stack:
        assert max_packet_size(daemon) == 1514
        guests = Guests(mac, tmp_path, stack)
        packet = tcp(_HOST, _KRUNKIT, 5_000)
        guests.krunkit.send(unfinished(packet))
        assert [guests.heard(_KRUNKIT).frame for _ in range(4)] == pieces(packet, 1460)


def test_segments_that_are_short_for_a_reason_stay_short(mac: SimulatedMac, tmp_path: Path) -> None:
    # As of a sender who knows of a narrow link on the way: vmnet would make them longer.
    with mac.daemon(_SHARED, *open_sockets(mac)), ExitStack() as stack:
        guests = Guests(mac, tmp_path, stack)
        expected = pieces(tcp(_HOST, _PLAIN, 20_000), 1_200)
        guests.plain.send(*expected)
        heard = [guests.heard(_PLAIN) for _ in expected]
        assert {frame.kind for frame in heard} == {0}
        assert [finished(frame) for frame in heard] == expected
        whole = pieces(tcp(_HOST, _PLAIN, 40 * 1460), 1460)
        guests.plain.send(*whole)
        sent = 0
        while sent < 40 * 1460:
            frame = guests.heard(_PLAIN)
            assert is_right(finished(frame))
            sent += len(Ether(frame.frame)[TCP].payload)


@pytest.mark.parametrize("offload", ["on", "virtio", "off"])
def test_what_a_guest_fetches_and_serves_arrives_whole(mac: SimulatedMac, offload: str) -> None:
    page = b"".join(hashlib.sha256(b"%d" % number).digest() for number in range(200_000))
    with (
        mac.daemon(_SHARED, f"--vmnet-offload={offload}") as daemon,
        TapGuest(daemon) as guest,
        HttpServer(mac.namespace.path, "0.0.0.0", 80, page),
        HttpServer(guest.namespace.path, "0.0.0.0", 80, page),
    ):
        guest.run("ip", "address", "add", "192.168.105.77/24", "dev", "eth0")
        assert fetch(guest.namespace.path, GATEWAY, 80) == page
        assert fetch(mac.namespace.path, "192.168.105.77", 80) == page


class OffloadingGuest:
    """A namespace whose ``eth0`` is a TAP with offloads, behind a relay that does what libkrun does."""

    def __init__(self, path: Path, own: Path) -> None:
        self.namespace = Namespace("krunkit")
        device = tap.inside(self.namespace, lambda: tap.open_tap("eth0", offload=tap.CSUM | tap.TSO4))
        for command in ("link set eth0 up", "address add 192.168.105.78/24 dev eth0"):
            self.namespace.run("ip", *command.split())
        self._peer = ConnectedPeer(path, own)
        #: The longest frames each way.
        self.sent = self.received = 0
        self._end, self._stop = os.pipe()
        self._device = device
        self._thread = threading.Thread(target=self._relay)
        self._thread.start()

    def _relay(self) -> None:
        data = self._peer.data
        while True:
            ready = select.select([self._end, self._device, data.fileno()], [], [])[0]
            if self._end in ready:
                return
            if self._device in ready:
                frame = os.read(self._device, 1 << 17)[12:]
                self.sent = max(self.sent, len(frame))
                data.send(frame)
            if data.fileno() in ready:
                frame = data.recv(1 << 17)
                self.received = max(self.received, len(frame))
                with suppress(OSError):
                    os.write(self._device, bytes(12) + frame)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._stop)
        self._thread.join()
        self._peer.close()
        os.close(self._device)
        os.close(self._end)
        self.namespace.close()


@pytest.mark.parametrize("offload", ["auto", "off"])
def test_a_system_with_offloads_behind_krunkit_fetches_and_serves(
    mac: SimulatedMac, tmp_path: Path, offload: str
) -> None:
    page = b"".join(hashlib.sha256(b"%d" % number).digest() for number in range(200_000))
    with (
        mac.daemon(_SHARED, f"--vmnet-offload={offload}", *open_sockets(mac)) as daemon,
        OffloadingGuest(mac.place / "open" / "offload", tmp_path / "own") as guest,
        TapGuest(daemon) as plain,
        HttpServer(mac.namespace.path, "0.0.0.0", 80, page),
        HttpServer(guest.namespace.path, "0.0.0.0", 80, page),
    ):
        plain.run("ip", "address", "add", "192.168.105.77/24", "dev", "eth0")
        assert fetch(guest.namespace.path, GATEWAY, 80) == page
        if offload == "auto":
            assert guest.received > 2 * 1514, "no super-frame came in"
        assert fetch(mac.namespace.path, "192.168.105.78", 80) == page
        assert fetch(plain.namespace.path, "192.168.105.78", 80) == page
        assert guest.sent > 2 * 1514, "the guest sent no super-frame"


@pytest.mark.parametrize(("macos", "offload", "since"), [("11", "on", "12.0"), ("15", "virtio", "15.4")])
def test_what_this_macos_does_not_have_is_said(mac: SimulatedMac, macos: str, offload: str, since: str) -> None:
    status, words = mac.refused(_SHARED, f"--vmnet-offload={offload}", macos=macos)
    assert status != 0
    assert f"--vmnet-offload={offload} needs macOS {since}" in words
