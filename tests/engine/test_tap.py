"""TAP endpoints: real devices in network namespaces of their own."""

from __future__ import annotations

import os
import select
import socket
import struct
from collections.abc import Iterator

import pytest

from tests.engine.plug import BROADCAST, PATIENCE, Plug, engine_thread, eventually, frame, mac
from tests.engine.tap import CSUM, TSO4, inside, open_tap
from tests.support.netns import Namespace
from vde_vmnet._engine import Engine

pytestmark = pytest.mark.root

_ETH_P_ALL = 3
_HOST = "10.99.0.1"
_GUEST = mac(0x99)


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    with Namespace("tap") as namespace:
        # Nothing but the tests' own frames on the device.
        namespace.run("sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1")
        yield namespace


class _Tap:
    """An attached TAP with an address, and the host's mouth and ears on it."""

    def __init__(self, engine: Engine, namespace: Namespace, *, offload: int = 0) -> None:
        self._namespace = namespace
        fd = inside(namespace, lambda: open_tap("tap0", offload=offload))
        namespace.run("ip", "address", "add", f"{_HOST}/24", "dev", "tap0")
        namespace.run("ip", "link", "set", "tap0", "up")
        namespace.run(
            "ip", "neigh", "add", "10.99.0.2", "lladdr", ":".join(f"{b:02x}" for b in _GUEST), "dev", "tap0"
        )
        self.endpoint = engine.attach(port=0, kind="tap", fd=fd, name="tap tap0")
        self.packets = inside(namespace, self._packets)
        self.mac = bytes.fromhex(namespace.run("cat", "/sys/class/net/tap0/address").strip().replace(":", ""))

    @staticmethod
    def _packets() -> socket.socket:
        packets = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
        packets.bind(("tap0", 0))
        packets.settimeout(PATIENCE)
        return packets

    def udp(self) -> socket.socket:
        return inside(self._namespace, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))


@pytest.fixture
def tap(engine: Engine, namespace: Namespace) -> Iterator[_Tap]:
    tap = _Tap(engine, namespace)
    yield tap
    tap.packets.close()


def test_frames_pass_both_ways(engine: Engine, tap: _Tap) -> None:
    with Plug(engine, 1) as guest:
        sent = frame(BROADCAST, mac(1), length=1514, mark=9)
        guest.send(sent)
        assert tap.packets.recv(2000) == sent
        back = frame(mac(1), mac(2), mark=7)
        tap.packets.send(back)
        assert guest.receive() == [back]
        counters = engine.counters()[tap.endpoint]
        assert (counters["rx_frames"], counters["tx_frames"]) == (1, 1)
        assert (counters["rx_bytes"], counters["tx_bytes"]) == (60, 1514)


def test_a_batch_passes_in_order(engine: Engine, tap: _Tap) -> None:
    with Plug(engine, 1) as guest:
        for mark in range(200):
            guest.send(frame(BROADCAST, mac(1), mark=mark))
        assert [tap.packets.recv(2000)[-1] for _ in range(200)] == list(range(200))
        for mark in range(200):
            tap.packets.send(frame(mac(1), mac(2), mark=mark))
        assert [received[-1] for received in guest.receive(200)] == list(range(200))


def test_what_the_kernel_left_to_hardware_is_finished_for_a_plug(engine: Engine, namespace: Namespace) -> None:
    tap = _Tap(engine, namespace, offload=CSUM)
    with Plug(engine, 1) as guest, tap.packets, tap.udp() as udp:
        payload = b"checksum me"
        udp.sendto(payload, ("10.99.0.2", 9))
        (received,) = guest.receive()
        segment = received[34:]
        assert segment[8:] == payload
        pseudo = received[26:34] + struct.pack(">HH", 17, len(segment))
        assert _folded(pseudo + segment) == 0xFFFF


def _folded(data: bytes) -> int:
    data += bytes(len(data) % 2)
    total: int = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def test_what_the_kernel_left_to_be_cut_is_cut_for_a_plug(engine: Engine, namespace: Namespace) -> None:
    tap = _Tap(engine, namespace, offload=CSUM | TSO4)
    listener = inside(namespace, lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM))
    with Plug(engine, 1) as guest, tap.packets, listener:
        # A TCP connection in which the test is the guest, so that the kernel has segments to coalesce.
        listener.bind((_HOST, 7))
        listener.listen(1)
        guest.send(_tcp(tap.mac, sequence=1, acknowledged=0, flags=_SYN))
        (answer,) = guest.receive()
        theirs = struct.unpack(">I", answer[38:42])[0]
        guest.send(_tcp(tap.mac, sequence=2, acknowledged=theirs + 1, flags=_ACK))
        connection, _ = listener.accept()
        with connection:
            connection.setblocking(False)
            connection.send(bytes(100_000))
            # As much as it may send before the guest answers, ten segments, came as two or three frames.
            segments = guest.receive(10)
            assert [len(segment) for segment in segments] == [1514] * 10
            for number, segment in enumerate(segments):
                assert struct.unpack(">I", segment[38:42])[0] == (theirs + 1 + number * 1460) % (1 << 32)
                assert _folded(segment[26:34] + struct.pack(">HH", 6, 1480) + segment[34:]) == 0xFFFF
            assert engine.counters()[tap.endpoint]["rx_frames"] < 10


_SYN, _ACK = 0x02, 0x10


def _tcp(to: bytes, *, sequence: int, acknowledged: int, flags: int) -> bytes:
    source, destination = socket.inet_aton("10.99.0.2"), socket.inet_aton(_HOST)
    options = b"\x02\x04\x05\xb4" if flags & _SYN else b""
    offset = (20 + len(options)) // 4 << 4
    head = struct.pack(">HHIIBBHHH", 7777, 7, sequence, acknowledged, offset, flags, 65535, 0, 0) + options
    pseudo = source + destination + struct.pack(">HH", 6, len(head))
    head = head[:16] + struct.pack(">H", 0xFFFF - _folded(pseudo + head)) + head[18:]
    ip = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(head), 0, 0, 64, 6, 0, source, destination)
    ip = ip[:10] + struct.pack(">H", 0xFFFF - _folded(ip)) + ip[12:]
    return to + _GUEST + b"\x08\x00" + ip + head


def test_an_interface_that_is_down_drops_and_comes_back(
    engine: Engine, tap: _Tap, namespace: Namespace
) -> None:
    with Plug(engine, 1) as guest:
        namespace.run("ip", "link", "set", "tap0", "down")
        guest.send(frame(BROADCAST, mac(1)))
        eventually(lambda: engine.counters()[tap.endpoint]["drops"]["interface_down"] == 1)
        _rests()
        namespace.run("ip", "link", "set", "tap0", "up")
        # Taking the interface down put an error on the host's socket.
        tap.packets.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        guest.send(frame(BROADCAST, mac(1)))
        assert tap.packets.recv(2000) == frame(BROADCAST, mac(1))


def test_an_interface_that_is_deleted_is_told(engine: Engine, tap: _Tap, namespace: Namespace) -> None:
    namespace.run("ip", "link", "delete", "tap0")
    assert select.select([engine.event_fd], [], [], PATIENCE)[0]
    (event,) = engine.take_events()
    assert (event["kind"], event["endpoint"], event["port"]) == ("endpoint_down", tap.endpoint, 0)
    assert event["reason"]
    assert engine.counters() == {}


def _rests() -> None:
    before = engine_thread()
    select.select([], [], [], 0.2)
    assert engine_thread()[0] - before[0] < 0.005


@pytest.mark.parametrize("wrong", [{"flags": 0}, {"header": 10}])
def test_other_taps_are_refused(engine: Engine, namespace: Namespace, wrong: dict[str, int]) -> None:
    fd = inside(namespace, lambda: open_tap("tap1", **wrong))
    try:
        with pytest.raises(ValueError, match="is not a TAP with IFF_VNET_HDR and a 12-byte header"):
            engine.attach(port=0, kind="tap", fd=fd, name="tap")
    finally:
        os.close(fd)


def test_a_tap_that_waits_is_made_one_that_does_not(engine: Engine, namespace: Namespace) -> None:
    fd = inside(namespace, lambda: open_tap("tap0"))
    os.set_blocking(fd, True)
    engine.attach(port=0, kind="tap", fd=fd, name="tap")
    # Were it still one that waits, the engine's thread would do so for ever.
    eventually(lambda: len(engine.counters()) == 1)
