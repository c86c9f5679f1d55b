"""What the engine reports, and the descriptor that says so."""

from __future__ import annotations

import select
import socket

import pytest

from tests.engine.plug import BROADCAST, PATIENCE, Plug, eventually, frame, mac
from vde_vmnet._engine import Engine


def _readable(engine: Engine, seconds: float = 0.0) -> bool:
    return bool(select.select([engine.event_fd], [], [], seconds)[0])


def test_the_descriptor_is_readable_while_something_is_to_be_told(engine: Engine) -> None:
    with Plug(engine, 1) as one:
        assert not _readable(engine)
        one.send(frame(BROADCAST, mac(1)))
        assert _readable(engine, PATIENCE)
        (event,) = engine.take_events()
        assert event == {
            "kind": "first_mac",
            "endpoint": one.endpoint,
            "port": 1,
            "mac": "52:54:00:00:00:01",
            "reason": "",
            "address": b"",
        }
        assert not _readable(engine)
        assert engine.take_events() == []
        one.send(frame(BROADCAST, mac(1)))
        eventually(lambda: one.rx_frames() == 2)
        assert not _readable(engine)


def test_an_endpoint_that_makes_addresses_up_is_reported_a_few_times(engine: Engine) -> None:
    with Plug(engine, 1) as one:
        for number in range(100):
            one.send(frame(BROADCAST, mac(number)))
        eventually(lambda: one.rx_frames() == 100)
        assert [event["mac"][-2:] for event in engine.take_events()] == [f"{n:02x}" for n in range(8)]


def test_what_a_detached_endpoint_did_is_not_told(engine: Engine) -> None:
    with Plug(engine, 1) as one, Plug(engine, 2) as two:
        one.send(frame(BROADCAST, mac(1)))
        two.receive()
        one.detach()
        assert not _readable(engine)
        assert engine.take_events() == []


def test_a_stream_whose_peer_closed_is_told_once(engine: Engine) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    ours.setblocking(False)
    endpoint = engine.attach(port=5, kind="stream", fd=ours.detach(), name="stream")
    theirs.close()
    assert _readable(engine, PATIENCE)
    (event,) = engine.take_events()
    assert event == {
        "kind": "endpoint_down",
        "endpoint": endpoint,
        "port": 5,
        "mac": "",
        "reason": "peer closed",
        "address": b"",
    }
    assert engine.counters() == {}
    engine.detach(endpoint=endpoint)
    assert not _readable(engine)


@pytest.mark.parametrize("plugs", [40])
def test_events_come_in_order(engine: Engine, plugs: int) -> None:
    opened = [Plug(engine, port) for port in range(1, plugs + 1)]
    for plug in opened:
        plug.send(frame(mac(0), mac(plug.port)))
        eventually(lambda plug=plug: plug.rx_frames() == 1)  # type: ignore[misc]
    assert [event["port"] for event in engine.take_events()] == list(range(1, plugs + 1))
    for plug in opened:
        plug.detach()
