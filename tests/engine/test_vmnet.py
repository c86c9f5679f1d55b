"""vmnet.framework at the native boundary: handlers, and an interface as an endpoint, against a double."""

from __future__ import annotations

import gc
import signal
import threading
import time
from typing import Any

import pytest

from tests.engine.plug import BROADCAST, Plug, eventually, frame, mac
from tests.engine.vmnet_double import SUCCESS, Framework, HeldBlock, Retained, blocks, invoke
from vde_vmnet._engine import Completion, Engine, EngineError

OBJECT = 0x5000


def completion(**keywords: Any) -> Completion:
    return Completion(blocks=blocks(), **keywords)  # type: ignore[arg-type]


def test_a_handler_keeps_status_and_object() -> None:
    objects = Retained()
    handler = completion(retain=objects.retain, release=objects.release)
    assert handler.wait(0) is None
    invoke(handler.block, SUCCESS, OBJECT)
    assert handler.wait(0) == (SUCCESS, OBJECT)
    assert handler.wait(0) == (SUCCESS, 0), "the object is given once"
    del handler
    assert objects.counts == {OBJECT: 1}


def test_a_handler_of_a_status_alone() -> None:
    handler = completion()
    invoke(handler.block, 1009)
    assert handler.wait(1) == (1009, 0)


def test_a_null_object_is_none() -> None:
    objects = Retained()
    handler = completion(retain=objects.retain, release=objects.release)
    invoke(handler.block, 1001, 0)
    assert handler.wait(1) == (1001, 0)
    assert objects.counts == {}


def test_a_handler_may_come_while_it_is_waited_for() -> None:
    handler = completion()
    thread = threading.Timer(0.1, invoke, (handler.block, SUCCESS))
    thread.start()
    assert handler.wait(10) == (SUCCESS, 0)
    thread.join()


def test_a_wait_ends_in_time() -> None:
    handler = completion()
    before = time.monotonic()
    assert handler.wait(0.15) is None
    assert 0.15 <= time.monotonic() - before < 5


def test_a_signal_ends_the_wait() -> None:
    handler = completion()
    timer = threading.Timer(0.1, signal.raise_signal, (signal.SIGINT,))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        handler.wait(30)
    timer.join()


def test_a_handler_that_comes_too_late_is_harmless() -> None:
    objects = Retained()
    handler = completion(retain=objects.retain, release=objects.release)
    kept = HeldBlock(handler.block)
    assert handler.wait(0) is None
    del handler
    gc.collect()
    kept(SUCCESS, OBJECT)
    kept.release()
    assert sum(objects.counts.values()) == 0


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"blocks": blocks() | {"copy": 0}}, "blocks: an address is null"),
        ({"retain": 1}, "retain and release go together"),
        ({"release": 1}, "retain and release go together"),
    ],
)
def test_null_addresses_are_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Completion(**({"blocks": blocks()} | wrong))


@pytest.mark.parametrize("timeout", [-1.0, float("nan"), float("inf")])
def test_a_wait_has_an_end(timeout: float) -> None:
    with pytest.raises(ValueError, match="timeout"):
        completion().wait(timeout)


def test_frames_go_both_ways(engine: Engine) -> None:
    framework = Framework()
    uplink = framework.attach(engine)
    with Plug(engine, 1) as guest:
        framework.arrive(frame(BROADCAST, mac(9), length=42))
        assert guest.receive() == [frame(BROADCAST, mac(9), length=42)]
        guest.send(*(frame(mac(9), mac(1), mark=mark) for mark in range(100)))
        sent = framework.wait_for_written(100)
        assert sent == [frame(mac(9), mac(1), mark=mark) for mark in range(100)]
        counters = engine.counters()[uplink]
        assert (counters["rx_frames"], counters["tx_frames"], counters["name"]) == (1, 100, "vmnet")


@pytest.mark.parametrize("how", ["detach", "close"])
def test_the_callback_is_taken_back(engine: Engine, how: str) -> None:
    framework = Framework()
    endpoint = framework.attach(engine)
    held = framework.callback
    assert held is not None
    if how == "detach":
        engine.detach(endpoint=endpoint)
    else:
        engine.close()
    assert framework.callback is None


def test_what_is_too_long_or_not_taken_is_counted_and_told(engine: Engine) -> None:
    framework = Framework()
    uplink = framework.attach(engine)

    def drops(reason: str) -> int:
        return engine.counters()[uplink]["drops"][reason]

    with Plug(engine, 1) as guest:
        guest.send(frame(BROADCAST, mac(1), length=1515))
        eventually(lambda: drops("too_long") == 1)
        framework.write_status = 1001
        guest.send(*(frame(BROADCAST, mac(1)) for _ in range(10)))
        eventually(lambda: drops("write_failed") == 10)
        framework.write_status = 1003
        guest.send(frame(BROADCAST, mac(1)))
        eventually(lambda: drops("refused") == 1)
        events: list[Any] = []

        def all_has_been_told() -> bool:
            events.extend(engine.take_events())
            return len(events) >= 3

        eventually(all_has_been_told)
        troubles = [event for event in events if event["kind"] == "trouble"]
        assert [(event["endpoint"], event["port"], event["reason"]) for event in troubles] == [
            (uplink, 0, "vmnet_write gives VMNET_FAILURE (1001); frames are dropped"),
            (uplink, 0, "vmnet_write gives VMNET_INVALID_ARGUMENT (1003); such frames are dropped"),
        ]
        framework.write_status = SUCCESS
        guest.send(frame(BROADCAST, mac(1)))
        framework.wait_for_written(1)


def test_what_there_is_no_room_for_waits_and_is_written_later(engine: Engine) -> None:
    framework = Framework()
    uplink = framework.attach(engine)
    with Plug(engine, 1) as guest:
        framework.write_status = 1007
        guest.send(*(frame(BROADCAST, mac(1), mark=mark) for mark in range(20)))
        eventually(lambda: engine.counters()[uplink]["queued_frames"] == 20)
        framework.write_status = SUCCESS
        assert [data[-1] for data in framework.wait_for_written(20)] == list(range(20))
        assert sum(engine.counters()[uplink]["drops"].values()) == 0


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"port": 65536}, "port must be 0…65535"),
        ({"interface": 0}, "interface is a null address"),
        ({"queue": 0}, "queue is a null address"),
        ({"functions": {"read": 1, "write": 0, "set_event_callback": 1}}, "functions: an address is null"),
        ({"read_max_packets": 0}, "read_max_packets must be 1…"),
        ({"write_max_packets": 0}, "write_max_packets must be 1…"),
        ({"max_packet_size": 70_000}, "max_packet_size must be 60…65550, not 70000"),
    ],
)
def test_what_cannot_be_is_refused(engine: Engine, wrong: dict[str, Any], said: str) -> None:
    framework = Framework()
    with pytest.raises(ValueError, match=said):
        framework.attach(engine, **wrong)
    assert framework.callback is None
    assert engine.counters() == {}


def test_a_callback_that_is_refused_is_said(engine: Engine) -> None:
    framework = Framework()
    framework.callback_status = 1005
    with pytest.raises(
        ValueError, match=r"vmnet_interface_set_event_callback gives VMNET_INVALID_ACCESS \(1005\)"
    ):
        framework.attach(engine)


def test_a_closed_engine_takes_no_interface(engine: Engine) -> None:
    framework = Framework()
    engine.close()
    with pytest.raises(EngineError, match="ended"):
        framework.attach(engine)
    assert framework.callback is None
