"""The stream port through the native boundary: what it takes, counts and says at the end."""

from __future__ import annotations

import hashlib
import select
import socket
import threading

import pytest

from tests.engine.plug import BROADCAST, PATIENCE, Plug, frame, mac
from tests.support.stream_peer import framed
from vde_vmnet._engine import Engine


def attach(engine: Engine, port: int) -> tuple[int, socket.socket]:
    """An endpoint of kind ``stream`` and the guest's end of its socket."""
    ours, theirs = socket.socketpair()
    theirs.settimeout(PATIENCE)
    endpoint = engine.attach(port=port, kind="stream", fd=ours.fileno(), name="guest")
    ours.detach()
    return endpoint, theirs


def read(guest: socket.socket) -> bytes:
    """One frame."""
    length = int.from_bytes(guest.recv(4, socket.MSG_WAITALL), "big")
    return guest.recv(length, socket.MSG_WAITALL)


def reason(engine: Engine) -> str:
    """Why the next endpoint went."""
    while True:
        assert select.select([engine.event_fd], [], [], PATIENCE)[0]
        for event in engine.take_events():
            if event["kind"] == "endpoint_down":
                return event["reason"]


def test_frames_of_every_length_go_both_ways(engine: Engine) -> None:
    _, guest = attach(engine, 1)
    with guest, Plug(engine, 2) as plug:
        plug.send(frame(BROADCAST, mac(2)))
        assert read(guest) == frame(BROADCAST, mac(2))
        for length in (14, 60, 1514, 9014, 65_550):
            guest.sendall(framed(frame(mac(2), mac(1), length=length, mark=7)))
            assert plug.receive() == [frame(mac(2), mac(1), length=length, mark=7)]
            plug.send(frame(mac(1), mac(2), length=length, mark=8))
            assert read(guest) == frame(mac(1), mac(2), length=length, mark=8)


def test_small_frames_that_came_together_all_go_on(engine: Engine) -> None:
    _, one = attach(engine, 1)
    _, two = attach(engine, 2)
    with one, two:
        two.sendall(framed(frame(BROADCAST, mac(2))))
        read(one)
        # More than a batch in one write, after which nothing comes that would wake the engine.
        sent = [frame(mac(2), mac(1), mark=number % 256) for number in range(900)]
        one.sendall(b"".join(framed(data) for data in sent))
        assert [read(two) for _ in sent] == sent
        one.sendall(b"".join(framed(data) for data in sent))
        one.close()
        assert [read(two) for _ in sent] == sent


def test_a_long_transfer_arrives_byte_for_byte(engine: Engine) -> None:
    _, one = attach(engine, 1)
    _, two = attach(engine, 2)
    with one, two:
        two.sendall(framed(frame(BROADCAST, mac(2))))
        read(one)
        sent, got = hashlib.sha256(), hashlib.sha256()
        # Each is acknowledged now and then, as TCP would: without it a switch may drop what does not fit.
        count, window = 40_000, 200

        def send() -> None:
            for number in range(count):
                payload = number.to_bytes(4, "big") * 300
                sent.update(payload)
                one.sendall(framed(mac(2) + mac(1) + b"\x88\xb5" + payload))
                if number % window == window - 1:
                    read(one)

        sender = threading.Thread(target=send)
        sender.start()
        for number in range(count):
            got.update(read(two)[14:])
            if number % window == window - 1:
                two.sendall(framed(frame(mac(1), mac(2))))
        sender.join()
        assert got.digest() == sent.digest()


@pytest.mark.parametrize(
    ("last", "said"),
    [
        (b"", "peer closed"),
        (b"\0\0", "peer closed"),
        (b"\xff" * 8, "4294967295 bytes"),
        (b"SSH-2.0", "bytes was"),
    ],
)
def test_the_end_has_its_reason_and_comes_after_the_frames_before_it(
    engine: Engine, last: bytes, said: str
) -> None:
    endpoint, guest = attach(engine, 1)
    with guest, Plug(engine, 2) as plug:
        guest.sendall(framed(frame(BROADCAST, mac(1))) + last)
        if len(last) < 4:
            guest.shutdown(socket.SHUT_WR)
        assert plug.receive() == [frame(BROADCAST, mac(1))]
        assert said in reason(engine)
        assert endpoint not in engine.counters()


def test_what_is_no_connected_stream_is_refused_and_stays_the_caller_s(engine: Engine) -> None:
    dgram, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with dgram, other, socket.socket() as unconnected:
        for one in (dgram, unconnected):
            with pytest.raises(ValueError, match="not a connected stream socket"):
                engine.attach(port=1, kind="stream", fd=one.fileno(), name="none")
            assert one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
