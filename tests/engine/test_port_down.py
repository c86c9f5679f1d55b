"""A port that was put down: nothing from it, nothing to it, and each frame counted."""

from __future__ import annotations

import pytest

from tests.engine.plug import BROADCAST, Plug, eventually, frame, mac
from vde_vmnet._engine import Engine, EngineError


def test_a_port_that_is_down_neither_sends_nor_receives(engine: Engine) -> None:
    with Plug(engine, 1) as one, Plug(engine, 2) as two, Plug(engine, 3) as three:
        two.send(frame(BROADCAST, mac(2)))
        one.receive(), three.receive()
        engine.set_port(port=2, up=False)
        assert engine.fdb() == []
        one.send(frame(mac(2), mac(1)), frame(BROADCAST, mac(1)))
        assert len(three.receive(2)) == 2
        assert two.drops() == {"port_down": 2}
        two.send(frame(BROADCAST, mac(2)))
        eventually(lambda: two.rx_frames() == 2)
        assert two.drops() == {"port_down": 3}
        assert one.nothing_came() and two.nothing_came() and three.nothing_came()
        assert [entry["port"] for entry in engine.fdb()] == [1], "it teaches nothing"
        assert one.drops() == three.drops() == {}

        engine.set_port(port=2, up=True)
        two.send(frame(mac(1), mac(2)))
        assert one.receive() == [frame(mac(1), mac(2))]
        one.send(frame(mac(2), mac(1)))
        assert two.receive() == [frame(mac(2), mac(1))]


def test_who_joins_a_port_that_is_down_is_down_too(engine: Engine) -> None:
    engine.set_port(port=2, up=False)
    engine.set_port(port=2, up=False)
    with Plug(engine, 1) as one, Plug(engine, 2) as late, Plug(engine, 2) as sibling:
        one.send(frame(BROADCAST, mac(1)))
        eventually(lambda: late.drops() == sibling.drops() == {"port_down": 1})
        engine.set_port(port=2, up=True)
        one.send(frame(BROADCAST, mac(1)))
        assert late.receive() == sibling.receive()


def test_it_stays_down_when_everybody_has_left_it(engine: Engine) -> None:
    with Plug(engine, 1) as one, Plug(engine, 2) as first:
        engine.set_port(port=2, up=False)
        first.detach()
        with Plug(engine, 2) as next_one:
            next_one.send(frame(BROADCAST, mac(2)))
            eventually(lambda: next_one.drops() == {"port_down": 1})
            assert one.nothing_came()


def test_what_waited_there_is_lost_and_its_senders_go_on(engine: Engine) -> None:
    with Plug(engine, 1) as sender, Plug(engine, 2) as slow, Plug(engine, 3) as other:
        slow.send(frame(BROADCAST, mac(2)))
        sender.receive(), other.receive()

        def queued() -> int:
            return engine.counters()[slow.endpoint]["queued_frames"]

        while not queued():
            sender.send(frame(mac(2), mac(1), length=1514))
        waiting = queued()
        engine.set_port(port=2, up=False)
        assert queued() == 0
        assert slow.drops() == {"port_down": waiting}
        sender.send(frame(BROADCAST, mac(1)))
        assert other.receive() == [frame(BROADCAST, mac(1))]


def test_wrong_ports_are_refused(engine: Engine) -> None:
    for port in (-1, 65536):
        with pytest.raises(ValueError, match="port must be 0…65535"):
            engine.set_port(port=port, up=False)
    engine.close()
    with pytest.raises(EngineError):
        engine.set_port(port=1, up=False)
