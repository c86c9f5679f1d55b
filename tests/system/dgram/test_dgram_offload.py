"""The real daemon with --dgram-offload and --stream-offload: guests of krunkit with offloading=on, and others.

libkrun strips the virtio-net header of what its guest sends, and puts an empty one before what it receives.
So a peer here sends super-frames and unfinished checksums bare, and may be sent super-frames whose checksum is
right. Its frames, and what others must make of them, are built by scapy.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from tests.support.daemon import wait_until
from tests.support.offload import data_of, is_right, pieces, unfinished
from tests.support.stream_peer import StreamPeer
from tests.support.unixgram_peer import ConnectedPeer, QemuPeer
from vde_vmnet.demo.daemon_process import DaemonProcess

_MSS = 1500 - 40


class Peer(Protocol):
    def send(self, *frames: bytes) -> None: ...

    def receive(self, count: int = 1) -> list[bytes]: ...

    def receives_nothing(self) -> bool: ...


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[DaemonProcess]:
    (tmp_path / "d").mkdir()
    (tmp_path / "d").chmod(0o777)
    options = [
        "--backend=none",
        f"--vde-group={os.getegid()}",
        f"--dgram-offload={tmp_path / 'd' / 'offload'}",
        f"--stream-offload={tmp_path / 's-offload'}",
        f"--dgram={tmp_path / 'd' / 'plain'}",
        f"--stream={tmp_path / 's'}",
    ]
    with DaemonProcess(tmp_path / "sw", options, pidfile=tmp_path / "pid", log=tmp_path / "log") as process:
        process.wait_ready()
        yield process
    assert process.process.returncode == 0, process.words()


@pytest.fixture
def krunkit(daemon: DaemonProcess, tmp_path: Path) -> Iterator[Callable[[], ConnectedPeer]]:
    """A function that makes one more guest with offloads, on the datagram socket."""
    with ExitStack() as stack:
        numbers = iter(range(100))
        path = tmp_path / "d" / "offload"
        yield lambda: stack.enter_context(
            ConnectedPeer(path, tmp_path / f"krun{next(numbers)}", introduction=b"VFKT")
        )


@pytest.fixture
def plain(daemon: DaemonProcess, tmp_path: Path) -> Iterator[StreamPeer]:
    with StreamPeer(tmp_path / "s") as peer:
        wait_until(lambda: daemon.log.read_text().count("plugged in") == 1, "it is plugged in")
        yield peer


def mac(number: int) -> str:
    return f"52:54:00:00:00:{number:02x}"


def hello(peer: Peer, number: int, *others: Peer) -> None:
    """Now the switch knows where ``number`` is, and so do ``others``."""
    frame = bytes(Ether(dst="ff:ff:ff:ff:ff:ff", src=mac(number), type=0x88B5) / Raw(bytes([number]) * 46))
    peer.send(frame)
    for other in others:
        assert other.receive() == [frame]


def tcp(destination: int, source: int, length: int, *, v6: bool = False, seq: int = 1) -> Packet:
    """Headers of 54 bytes (74) and ``length`` bytes of data."""
    network = IPv6(src="fd00::1", dst="fd00::2") if v6 else IP(src="10.1.0.1", dst="10.1.0.2", id=7, flags="DF")
    data = Raw(bytes((seq + at) * 7 % 251 for at in range(length)))
    return Ether(dst=mac(destination), src=mac(source)) / network / TCP(seq=seq, ack=5, flags="PA") / data


def udp(destination: int, source: int, length: int) -> Packet:
    return Ether(dst=mac(destination), src=mac(source)) / IP(dst="10.1.0.2") / UDP() / Raw(bytes(range(length)))


def test_others_get_what_a_guest_without_offloads_would_have_sent(
    krunkit: Callable[[], ConnectedPeer], plain: StreamPeer
) -> None:
    guest = krunkit()
    hello(guest, 1, plain)
    hello(plain, 2, guest)
    for packet in (tcp(2, 1, 600), udp(2, 1, 99), tcp(2, 1, _MSS), tcp(2, 1, 700, v6=True)):
        guest.send(unfinished(packet))
        assert plain.receive() == [bytes(packet)]
        # Nor does a finished one come to harm.
        guest.send(bytes(packet))
        assert plain.receive() == [bytes(packet)]
    for packet, size in (
        (tcp(2, 1, 30_000), _MSS),
        (tcp(2, 1, 65_000), _MSS),
        (tcp(2, 1, 9_000, v6=True), 1440),
    ):
        expected = pieces(packet, size)
        guest.send(unfinished(packet))
        assert plain.receive(len(expected)) == expected
    assert plain.receives_nothing()


def test_the_first_frame_of_a_guest_is_no_different(
    krunkit: Callable[[], ConnectedPeer], plain: StreamPeer
) -> None:
    # The daemon keeps it until it knows who that is.
    hello(plain, 2)
    guest, packet = krunkit(), tcp(2, 1, 10_000)
    guest.send(unfinished(packet), unfinished(udp(2, 1, 50)))
    expected = [*pieces(packet, _MSS), bytes(udp(2, 1, 50))]
    assert plain.receive(len(expected)) == expected


def test_a_guest_with_offloads_gets_super_frames_whole_and_finished(
    krunkit: Callable[[], ConnectedPeer], plain: StreamPeer, tmp_path: Path
) -> None:
    one = krunkit()
    hello(one, 1, plain)
    two = krunkit()
    hello(two, 2, plain, one)
    packet = tcp(2, 1, 60_000)
    one.send(unfinished(packet))
    assert two.receive() == [bytes(packet)]
    # krunkit offers its guests nothing for IPv6.
    packet = tcp(2, 1, 8_000, v6=True)
    one.send(unfinished(packet))
    assert two.receive(6) == pieces(packet, 1440)
    with StreamPeer(tmp_path / "s-offload") as three:
        hello(three, 3, plain, one, two)
        packet = tcp(3, 1, 50_000)
        one.send(unfinished(packet))
        assert three.receive() == [bytes(packet)]
        packet = tcp(1, 3, 40_000)
        three.send(unfinished(packet))
        assert one.receive() == [bytes(packet)]


def test_what_others_send_in_pieces_reaches_it_joined(
    krunkit: Callable[[], ConnectedPeer], plain: StreamPeer
) -> None:
    guest = krunkit()
    hello(guest, 1, plain)
    hello(plain, 2, guest)
    packet = tcp(1, 2, 25 * _MSS)
    largest = 0
    for _ in range(20):
        plain.send(*pieces(packet, _MSS))
        data = b""
        while len(data) < 25 * _MSS:
            (frame,) = guest.receive()
            assert is_right(frame)
            sequence, part = data_of(frame)
            assert sequence == 1 + len(data)
            data += part
            largest = max(largest, len(frame))
        assert data == bytes(packet[Raw])
    assert largest > 2 * _MSS, "nothing was joined"


def test_a_guest_that_lies_harms_itself_alone(krunkit: Callable[[], ConnectedPeer], plain: StreamPeer) -> None:
    guest = krunkit()
    hello(guest, 1, plain)
    hello(plain, 2, guest)
    whole = unfinished(tcp(2, 1, 20_000))
    for frame in (
        whole[:-1],  # shorter than its packet says
        whole[:60] + bytes(3_000),  # the same, and larger than the link
        whole[:46] + b"\x10" + whole[47:],  # a TCP header of four bytes
        bytes(udp(2, 1, 99))[:42] + bytes(5_000),  # no TCP
        bytes(Ether(dst=mac(2), src=mac(1), type=0x88B5)) + bytes(40_000),
    ):
        guest.send(frame)
    last = tcp(2, 1, 10)
    guest.send(unfinished(last))
    assert plain.receive() == [bytes(last)]


def test_without_the_option_frames_pass_as_they_are(
    daemon: DaemonProcess, plain: StreamPeer, tmp_path: Path
) -> None:
    with QemuPeer(tmp_path / "d" / "plain", tmp_path / "own") as guest:
        hello(guest, 1, plain)
        frame = unfinished(tcp(2, 1, 5_000))
        guest.send(frame)
        assert plain.receive() == [frame]
