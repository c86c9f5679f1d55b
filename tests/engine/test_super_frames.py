"""The engine's segmentation and coalescing beside the kernel's own and scapy's, frame by frame.

Two TAPs: the engine has one that takes super-frames, and cuts or makes them; on the other the kernel must cut.
Frames are built by scapy, and so are the segments that must come out.
"""

from __future__ import annotations

import os
import random
import select
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Dot1Q, Ether
from scapy.packet import Packet, Raw

from tests.engine import tap
from tests.engine.plug import PATIENCE, Plug, mac
from tests.support.netns import Namespace
from tests.support.offload import pieces, unfinished
from vde_vmnet._engine import Engine

pytestmark = pytest.mark.root

_GUEST, _HOST = (":".join(f"{octet:02x}" for octet in mac(number)) for number in (1, 2))
_TCP4, _TCP6, _UDP, _ECN = 1, 4, 5, 0x80
_OPTIONS = [("NOP", None), ("NOP", None), ("Timestamp", (7, 8))]


class Bench:
    """The engine between a TAP and a plug, and the kernel's cutting machine."""

    def __init__(self, engine: Engine, namespace: Namespace) -> None:
        self._namespace = namespace
        offload = tap.CSUM | tap.TSO4 | tap.TSO6 | tap.ECN
        try:
            ours = tap.inside(namespace, lambda: tap.open_tap("ours", offload=offload | tap.USO))
            self.has_uso = True
        except OSError:
            ours = tap.inside(namespace, lambda: tap.open_tap("ours", offload=offload))
            self.has_uso = False
        self._cutter = tap.inside(namespace, lambda: tap.open_tap("cutter"))
        for device in ("ours", "cutter"):
            namespace.run("ip", "link", "set", device, "up")
        self.ours, self._to_cutter = tap.Raw(namespace, "ours"), tap.Raw(namespace, "cutter")
        engine.attach(port=0, kind="tap", fd=ours, name="tap")

    def cut_by_kernel(self, frame: tap.Super) -> list[bytes]:
        """What a TAP without offloads hands out for it."""
        self._to_cutter.send(frame)
        assert select.select([self._cutter], [], [], PATIENCE)[0]
        segments = []
        while True:
            try:
                segments.append(os.read(self._cutter, 1 << 17)[12:])
            except BlockingIOError:
                return segments

    @contextmanager
    def another_tap(self, engine: Engine) -> Iterator[tap.Raw]:
        """One more on the engine, and the host's ears on it."""
        fd = tap.inside(self._namespace, lambda: tap.open_tap("another"))
        self._namespace.run("ip", "link", "set", "another", "up")
        raw = tap.Raw(self._namespace, "another")
        engine.attach(port=2, kind="tap", fd=fd, name="another")
        yield raw
        raw.close()

    def close(self) -> None:
        self.ours.close()
        self._to_cutter.close()
        os.close(self._cutter)


@pytest.fixture
def bench(engine: Engine) -> Iterator[Bench]:
    with Namespace("cut") as namespace:
        # Nothing but the tests' own frames on the devices.
        namespace.run("sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1")
        bench = Bench(engine, namespace)
        yield bench
        bench.close()


def _unfinished(packet: Packet, kind: int, size: int) -> tap.Super:
    """``packet`` as a super-frame as the kernel hands it out: the pseudo-header's sum in the checksum field."""
    layer, offset = (UDP, 6) if UDP in packet else (TCP, 16)
    whole = bytes(packet)
    start = len(whole) - len(packet[layer])
    header_len = start + (8 if layer is UDP else (whole[start + 12] >> 4) * 4)
    return tap.Super(unfinished(packet), kind, size, header_len, start, offset)


def _link() -> Packet:
    return Ether(dst=_GUEST, src=_HOST)


def _ip4(**fields: Any) -> Packet:
    return IP(**{"src": "10.1.0.1", "dst": "10.1.0.2", "id": 65_530, "flags": "DF", **fields})


def _ip6(**fields: Any) -> Packet:
    return IPv6(**{"src": "fd00::1", "dst": "fd00::2", "fl": 77, **fields})


def _tcp(length: int, **fields: Any) -> Packet:
    head = TCP(
        **{"sport": 7, "dport": 9, "seq": 0xFFFFF000, "ack": 5, "flags": "A", "options": _OPTIONS, **fields}
    )
    return head / Raw(bytes(at * 7 % 251 for at in range(length)))


def _udp(length: int) -> Packet:
    return UDP(sport=7, dport=9) / Raw(bytes(at * 7 % 251 for at in range(length)))


_CASES: dict[str, tuple[Callable[[], Packet], int, int]] = {
    "TSO over IPv4": (lambda: _link() / _ip4() / _tcp(20_000), _TCP4, 1_448),
    "the longest frame that the kernel hands out": (lambda: _link() / _ip4() / _tcp(65_469), _TCP4, 1_448),
    "the last one pushed and finished": (lambda: _link() / _ip4() / _tcp(9_001, flags="FPA"), _TCP4, 1_000),
    "window reduced": (lambda: _link() / _ip4(tos=2) / _tcp(9_001, flags="CPA"), _TCP4 | _ECN, 1_000),
    "fragments allowed": (lambda: _link() / _ip4(flags=0) / _tcp(4_000, options=[]), _TCP4, 536),
    "options of IPv4": (lambda: _link() / _ip4(options=[b"\x01"] * 4) / _tcp(4_000), _TCP4, 700),
    "TSO over IPv6": (lambda: _link() / _ip6() / _tcp(30_001, flags="PA"), _TCP6, 1_428),
    "tagged": (lambda: _link() / Dot1Q(vlan=5) / _ip4() / _tcp(5_000), _TCP4, 1_400),
    "USO over IPv4": (lambda: _link() / _ip4() / _udp(9_999), _UDP, 1_472),
    "USO over IPv6": (lambda: _link() / _ip6() / _udp(9_999), _UDP, 1_000),
}


@pytest.mark.parametrize("case", _CASES)
def test_the_engine_cuts_as_the_kernel_does(engine: Engine, bench: Bench, case: str) -> None:
    build, kind, size = _CASES[case]
    if kind == _UDP and not bench.has_uso:
        pytest.skip("this kernel knows no UDP super-frames on a TAP")
    whole = _unfinished(build(), kind, size)
    expected = bench.cut_by_kernel(whole)
    assert len(expected) > 1
    with Plug(engine, 1) as guest:
        bench.ours.send(whole)
        assert guest.receive(len(expected)) == expected
        assert engine.counters()[1]["rx_frames"] == 1


@pytest.mark.parametrize("version", [4, 6])
def test_the_kernel_gets_back_what_the_engine_has_joined(engine: Engine, bench: Bench, version: int) -> None:
    # More than a packet holds, in two halves that follow one another.
    sent: list[bytes] = []
    for half in range(2):
        packet = (_ip4(id=100 + 25 * half) if version == 4 else _ip6()) / _tcp(
            25 * 1_400, seq=1 + 35_000 * half, flags="A"
        )
        whole = _unfinished(_link() / packet, _TCP4 if version == 4 else _TCP6, 1_400)
        sent += bench.cut_by_kernel(whole)
    assert len(sent) == 50
    joined = 0
    with Plug(engine, 1) as guest:
        for _ in range(20):
            guest.send(*sent)
            back: list[bytes] = []
            while len(back) < len(sent):
                frame = bench.ours.receive()
                joined += frame.kind != 0
                back += bench.cut_by_kernel(frame) if frame.kind else [frame.frame]
            assert back == sent
    assert joined > 0


def test_udp_super_frames_pass_whole_to_a_kernel_that_takes_them(engine: Engine, bench: Bench) -> None:
    if not bench.has_uso:
        pytest.skip("this kernel knows no UDP super-frames on a TAP")
    with bench.another_tap(engine) as other:
        whole = _unfinished(_link() / _ip4() / _udp(9_999), _UDP, 1_472)
        bench.ours.send(whole)
        assert other.receive() == whole


class _Any:
    """Packets of any kind that a super-frame may have, the same ones for the same seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def packet(self, *, tagged: bool = True) -> tuple[Packet, int, int]:
        """One with more than a segment's data, how it is to be cut, and to which size."""
        choose = self._random
        size = choose.randint(100, 1_400)
        length = choose.choice([size + 1, 2 * size, choose.randint(size + 1, min(40 * size, 60_000))])
        tags = Dot1Q(vlan=choose.randint(1, 4_000)) if tagged and choose.random() < 0.3 else None
        flags = choose.choice(["A", "PA", "FA", "FPA", "CPA", "EA"])
        fields = {
            "seq": choose.getrandbits(32),
            "ack": choose.getrandbits(32),
            "window": choose.getrandbits(16),
            "flags": flags,
            "options": choose.choice([[], _OPTIONS, [("NOP", None)] * 8]),
        }
        if choose.random() < 0.5:
            network, kind = _ip6(fl=choose.getrandbits(20), tc=choose.choice([0, 2, 8])), _TCP6
        else:
            identification = choose.getrandbits(16)
            fragment = choose.choice(["DF", 0])
            network, kind = _ip4(id=identification, flags=fragment, ttl=choose.randint(1, 255)), _TCP4
        link = _link() / tags if tags else _link()
        return link / network / _tcp(length, **fields), kind | (_ECN if "C" in flags else 0), size


@pytest.mark.parametrize("seed", range(4))
def test_engine_kernel_and_scapy_cut_any_packet_alike(engine: Engine, bench: Bench, seed: int) -> None:
    some = _Any(seed)
    with Plug(engine, 1) as guest:
        for _ in range(25):
            packet, kind, size = some.packet()
            whole = _unfinished(packet, kind, size)
            expected = pieces(packet, size)
            assert bench.cut_by_kernel(whole) == expected, packet.summary()
            bench.ours.send(whole)
            assert guest.receive(len(expected)) == expected, packet.summary()


@pytest.mark.parametrize("seed", range(4))
def test_whatever_the_engine_joins_the_kernel_cuts_back(engine: Engine, bench: Bench, seed: int) -> None:
    some, joined = _Any(seed), 0
    with Plug(engine, 1) as guest:
        for _ in range(15):
            # A packet socket gets tags beside the frame; and what has one is not joined.
            packet, _, size = some.packet(tagged=False)
            sent = pieces(packet, size)[:60]
            guest.send(*sent)
            back: list[bytes] = []
            while len(back) < len(sent):
                frame = bench.ours.receive()
                joined += frame.kind != 0
                back += bench.cut_by_kernel(frame) if frame.kind else [frame.frame]
            assert back == sent, packet.summary()
    assert joined > 0
