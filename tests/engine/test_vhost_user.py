"""The vhost-user port through the native boundary: a front end of our own, right, wrong and hostile."""

from __future__ import annotations

import os
import select
import socket
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.engine.plug import BROADCAST, PATIENCE, Plug, eventually, frame, mac
from tests.support.vhost_user_peer import TRANSMIT, VhostUserPeer
from vde_vmnet._engine import Engine

#: Checksum to finish, TCP over IPv4 to be cut.
SUPER = struct.pack("<BBHHHHH", 1, 1, 54, 1000, 34, 16, 0)


def attach(engine: Engine, port: int) -> tuple[int, VhostUserPeer]:
    """An endpoint and its front end, not started."""
    ours, theirs = socket.socketpair()
    theirs.settimeout(PATIENCE)
    endpoint = engine.attach(port=port, kind="vhost_user", fd=ours.fileno(), name="guest")
    ours.detach()
    return endpoint, VhostUserPeer(theirs)


def reason(engine: Engine, endpoint: int) -> str:
    """Why that endpoint went."""
    while True:
        assert select.select([engine.event_fd], [], [], PATIENCE)[0]
        for event in engine.take_events():
            if event["kind"] == "endpoint_down" and event["endpoint"] == endpoint:
                return event["reason"]


def test_frames_go_both_ways_between_shared_memory_and_a_socket(engine: Engine) -> None:
    _, guest = attach(engine, 1)
    with guest, Plug(engine, 2) as plug:
        guest.start()
        guest.send(frame(BROADCAST, mac(1)))
        assert plug.receive() == [frame(BROADCAST, mac(1))]
        for length in (14, 60, 1514, 9014):
            plug.send(frame(mac(1), mac(2), length=length, mark=8))
            assert guest.receive()[1] == frame(mac(1), mac(2), length=length, mark=8)
        for number in range(600):  # more than the ring has
            guest.send(frame(mac(2), mac(1), mark=number % 256))
            assert plug.receive() == [frame(mac(2), mac(1), mark=number % 256)]


def tcp(payload: bytes) -> bytes:
    """A super-frame from station 1 to station 2."""
    ethernet = frame(mac(2), mac(1))[:12] + b"\x08\x00"
    addresses = b"\x0a\0\0\1\x0a\0\0\2"
    ip = struct.pack(">BBHHHBBH", 0x45, 0, 40 + len(payload), 1, 0x4000, 64, 6, 0) + addresses
    return ethernet + ip + struct.pack(">HHIIBBHHH", 1, 2, 3, 4, 0x50, 0x10, 500, 0, 0) + payload


def test_a_super_frame_passes_whole_to_who_takes_it_and_in_pieces_to_who_does_not(engine: Engine) -> None:
    one, two = attach(engine, 1)[1], attach(engine, 2)[1]
    sent = tcp(os.urandom(1990))
    with one, two:
        one.start()
        two.start()
        two.send(frame(BROADCAST, mac(2)))
        assert one.receive()[1] == frame(BROADCAST, mac(2))
        one.send(sent, SUPER)
        header, got = two.receive()
        assert got == sent
        assert header[:10] == SUPER[:10] and header[10:] == b"\2\0"  # buffers of 2048 bytes
        with Plug(engine, 3) as plug:
            plug.send(frame(BROADCAST, mac(2)))  # it moved here
            one.receive()
            one.send(sent, SUPER)
            pieces: list[bytes] = []
            while len(pieces) < 2:
                pieces += plug.receive()
            assert b"".join(piece[54:] for piece in pieces) == sent[54:]


def test_a_front_end_that_left_is_told_once(engine: Engine) -> None:
    endpoint, guest = attach(engine, 1)
    with guest:
        guest.start()
    assert reason(engine, endpoint) == "peer closed"
    assert endpoint not in engine.counters()


def test_what_a_guest_breaks_costs_its_port_and_no_other(engine: Engine) -> None:
    with Plug(engine, 9) as plug:
        healthy = attach(engine, 8)[1]
        with healthy:
            healthy.start()
            healthy.send(frame(BROADCAST, mac(8)))
            plug.receive()
            for number, (said, break_it) in enumerate(BREAKS.items(), 1):
                endpoint, guest = attach(engine, number)
                with guest:
                    guest.start()
                    break_it(guest)
                    guest.kick(TRANSMIT)
                    assert said in reason(engine, endpoint)
                plug.send(frame(mac(8), mac(9)))
                assert healthy.receive()[1] == frame(mac(8), mac(9))


def outside(guest: VhostUserPeer) -> None:
    guest.descriptor(TRANSMIT, 0, 1 << 40, 60, 0)
    guest.make_available(TRANSMIT, 0)


def loop(guest: VhostUserPeer) -> None:
    guest.descriptor(TRANSMIT, 0, 1 << 20, 60, 1)  # the next one is itself
    guest.make_available(TRANSMIT, 0)


def shorten(guest: VhostUserPeer) -> None:
    os.ftruncate(guest.memory_fd, 4096)


BREAKS: dict[str, Callable[[VhostUserPeer], None]] = {
    "where the guest has no memory": outside,
    "A chain of more than": loop,
    "Descriptor 256 in a ring of 256": lambda guest: guest.make_available(TRANSMIT, 256),
    "shortened the file behind its memory": shorten,
    "message 99 was refused": lambda guest: guest.message(99),
    "sent a message of 5000 bytes": lambda guest: guest.message(1, bytes(5000)),
}


def test_half_a_message_costs_no_processor_time(engine: Engine) -> None:
    ours, theirs = socket.socketpair()
    endpoint = engine.attach(port=1, kind="vhost_user", fd=ours.detach(), name="guest")
    with theirs:
        theirs.sendall(bytes(5))
        before = engine.counters()[endpoint]
        spent = os.times()
        select.select([], [], [], 0.3)
        after = os.times()
        assert (after.user + after.system) - (spent.user + spent.system) < 0.15
        assert engine.counters()[endpoint] == before
    assert reason(engine, endpoint) == "peer closed"


def test_a_guest_without_a_driver_loses_its_frames(engine: Engine) -> None:
    endpoint, guest = attach(engine, 1)
    with guest, Plug(engine, 2) as plug:
        plug.send(frame(BROADCAST, mac(2)))
        eventually(lambda: engine.counters()[endpoint]["drops"]["interface_down"] == 1)


def test_what_is_no_connected_stream_is_refused_and_stays_the_caller_s(engine: Engine, tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET) as inet, (tmp_path / "file").open("w") as file:
        for fd in (inet.fileno(), file.fileno()):
            with pytest.raises(ValueError, match="not a connected stream socket"):
                engine.attach(port=1, kind="vhost_user", fd=fd, name="guest")
            os.fstat(fd)
