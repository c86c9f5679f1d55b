"""Frames between real sockets: who gets them, and what becomes of odd ones."""

from __future__ import annotations

import pytest

from tests.engine.plug import BROADCAST, Plug, eventually, frame, mac
from vde_vmnet._engine import Engine

#: rust/engine/src/frame.rs
_LONGEST = 65_550


def test_learning_ends_the_flooding(engine: Engine) -> None:
    with Plug(engine, 1) as one, Plug(engine, 2) as two, Plug(engine, 3) as three:
        unknown = frame(mac(2), mac(1))
        one.send(unknown)
        assert two.receive() == three.receive() == [unknown]
        two.send(frame(mac(1), mac(2)))
        one.receive()
        one.send(unknown)
        assert two.receive() == [unknown]
        assert three.nothing_came()
        assert {(entry["mac"], entry["port"]) for entry in engine.fdb()} == {
            ("52:54:00:00:00:01", 1),
            ("52:54:00:00:00:02", 2),
        }
        assert all(0 <= entry["age_seconds"] < 5 for entry in engine.fdb())


def test_a_station_that_moved_is_found_at_its_new_port(engine: Engine) -> None:
    with Plug(engine, 1) as old, Plug(engine, 2) as new, Plug(engine, 3) as other:
        for place in (old, new):
            place.send(frame(BROADCAST, mac(1)))
            other.receive()
        new.receive()  # the announcement from the old place
        old.receive()
        other.send(frame(mac(1), mac(3)))
        new.receive()
        assert old.nothing_came()


def test_endpoints_of_one_port(engine: Engine) -> None:
    with Plug(engine, 1) as one, Plug(engine, 1) as sibling, Plug(engine, 2) as other:
        one.send(frame(BROADCAST, mac(1)))
        other.receive()
        assert sibling.nothing_came()
        other.send(frame(mac(1), mac(2)))
        assert one.receive() == sibling.receive()
        one.detach()
        assert len(engine.fdb()) == 2
        sibling.detach()
        assert [entry["port"] for entry in engine.fdb()] == [2]


def test_a_receive_only_endpoint(engine: Engine) -> None:
    with (
        Plug(engine, 65535) as uplink,
        Plug(engine, 65535, receive_only=True) as extra,
        Plug(engine, 1) as guest,
    ):
        guest.send(frame(BROADCAST, mac(1)))
        uplink.receive()
        assert extra.nothing_came()
        extra.send(frame(BROADCAST, mac(9)), frame(mac(1), mac(9)))
        assert guest.receive() == [frame(mac(1), mac(9))]
        assert extra.drops() == {"group_address": 1}


@pytest.mark.parametrize("length", [14, 60, 1514, 9_234, _LONGEST])
def test_frames_of_every_length_pass(engine: Engine, length: int) -> None:
    with Plug(engine, 1) as one, Plug(engine, 2) as two:
        sent = frame(BROADCAST, mac(1), length=length, mark=7)
        one.send(sent)
        assert two.receive() == [sent]
        counters = engine.counters()
        assert counters[one.endpoint]["rx_bytes"] == counters[two.endpoint]["tx_bytes"] == length


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        pytest.param(b"\x52" * 13, "runt", id="thirteen bytes"),
        pytest.param(b"\x52", "runt", id="one byte"),
        pytest.param(frame(BROADCAST, mac(1), length=_LONGEST + 1), "oversized", id="too long"),
        pytest.param(frame(BROADCAST, BROADCAST), "bad_source", id="source is a group"),
        pytest.param(frame(BROADCAST, bytes(6)), "bad_source", id="source is zero"),
        pytest.param(frame(mac(1), mac(1)), "same_port", id="to itself"),
    ],
)
def test_odd_frames_are_dropped_by_name(engine: Engine, data: bytes, reason: str) -> None:
    with Plug(engine, 1) as one, Plug(engine, 2) as two:
        one.send(data)
        eventually(lambda: one.rx_frames() == 1)
        assert one.drops() == {reason: 1}
        assert two.nothing_came()


def test_a_frame_for_nobody_is_dropped(engine: Engine) -> None:
    with Plug(engine, 1) as one:
        one.send(frame(BROADCAST, mac(1)))
        eventually(lambda: one.drops() == {"no_destination": 1})


def test_an_empty_datagram_is_ignored(engine: Engine) -> None:
    with Plug(engine, 1) as one, Plug(engine, 2) as two:
        one.send(b"", frame(BROADCAST, mac(1)), b"")
        assert two.receive() == [frame(BROADCAST, mac(1))]
        assert one.rx_frames() == 1
        assert one.drops() == {}
        assert two.nothing_came()


def test_tagged_frames_and_reserved_groups_pass(engine: Engine) -> None:
    with Plug(engine, 1) as one, Plug(engine, 2) as two:
        tagged = mac(2) + mac(1) + bytes.fromhex("8100 0064 0800") + bytes(46)
        link_layer_discovery = bytes.fromhex("0180c200000e") + mac(1) + bytes.fromhex("88cc") + bytes(46)
        one.send(tagged, link_layer_discovery)
        assert two.receive(2) == [tagged, link_layer_discovery]


def test_silent_stations_are_forgotten() -> None:
    engine = Engine(fdb_ageing_seconds=0.05)
    try:
        with Plug(engine, 1) as one:
            one.send(frame(BROADCAST, mac(1)))
            eventually(lambda: len(engine.fdb()) == 1)
            eventually(lambda: engine.fdb() == [])
    finally:
        engine.close()


def test_made_up_addresses_stay_bounded_and_push_nobody_out() -> None:
    engine = Engine(fdb_capacity=256)
    try:
        with Plug(engine, 1) as flooder, Plug(engine, 2) as one, Plug(engine, 3) as two:
            one.send(frame(BROADCAST, mac(1)))
            two.send(frame(BROADCAST, mac(2)))
            flooder.receive(2)
            one.receive()
            two.receive()
            for number in range(5_000):
                flooder.send(frame(mac(1), mac(1_000_000 + number)))
                one.receive()
            entries = engine.fdb()
            assert len(entries) == 256
            assert {entry["mac"] for entry in entries} >= {"52:54:00:00:00:01", "52:54:00:00:00:02"}
            assert two.nothing_came()
            # A newcomer on another port still finds a place.
            two.send(frame(mac(1), mac(77)))
            one.receive()
            assert "52:54:00:00:00:4d" in {entry["mac"] for entry in engine.fdb()}
    finally:
        engine.close()


def test_two_hundred_endpoints(engine: Engine) -> None:
    plugs = [Plug(engine, port) for port in range(1, 201)]
    try:
        for plug in plugs:
            plug.send(frame(BROADCAST, mac(plug.port)))
            for other in plugs:
                if other is not plug:
                    other.receive()
        assert len(engine.fdb()) == 200
        plugs[0].send(frame(mac(200), mac(1)))
        plugs[-1].receive()
        assert all(plug.nothing_came() for plug in plugs[1:-1])
    finally:
        for plug in plugs:
            plug.detach()
    assert engine.counters() == {}
