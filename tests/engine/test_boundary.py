"""The native boundary: arguments, ownership of descriptors, threads, signals, the end."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from importlib import metadata
from typing import Any

import pytest

from tests.engine.plug import BROADCAST, Plug, frame, mac, open_descriptors
from vde_vmnet import _engine
from vde_vmnet._engine import Engine, EngineError


def test_the_version_is_that_of_the_package() -> None:
    assert _engine.__version__ == metadata.version("vde_vmnet")


def test_everything_is_keyword_only(engine: Engine) -> None:
    untyped: Any = engine
    for call in (lambda: untyped.attach(1, "dgram", 0, "name"), lambda: untyped.detach(1), lambda: Engine(1)):  # type: ignore[call-arg]
        with pytest.raises(TypeError):
            call()


@pytest.mark.parametrize(
    "wrong",
    [
        {"fdb_capacity": 0},
        {"fdb_capacity": 1 << 21},
        {"fdb_ageing_seconds": 0.0},
        {"fdb_ageing_seconds": -1.0},
        {"fdb_ageing_seconds": float("nan")},
        {"fdb_ageing_seconds": float("inf")},
        {"busy_poll_seconds": -1e-6},
        {"busy_poll_seconds": 0.0011},
        {"busy_poll_seconds": float("nan")},
    ],
)
def test_an_engine_out_of_range_is_not_started(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Engine(**wrong)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"port": -1}, "port must be 0…65535, not -1"),
        ({"port": 65536}, "port must be 0…65535, not 65536"),
        ({"kind": "pipe"}, "kind must be .*, not 'pipe'"),
        ({"kind": "tap"}, r"Descriptor \d+ is not a TAP with IFF_VNET_HDR"),
        ({"kind": "stream"}, r"Descriptor \d+ is not a connected stream socket"),
    ],
)
def test_what_attach_refuses_stays_the_callers(engine: Engine, wrong: dict[str, Any], said: str) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, theirs:
        before = open_descriptors()
        arguments: dict[str, Any] = {"port": 1, "kind": "dgram", "fd": ours.fileno(), "name": "x"}
        with pytest.raises(ValueError, match=said):
            engine.attach(**(arguments | wrong))
        assert open_descriptors() == before
        assert theirs.send(b"still open") == len(b"still open")
    assert engine.counters() == {}


def test_other_descriptors_are_refused(engine: Engine) -> None:
    unconnected = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.connect(("127.0.0.1", 9))
    with unconnected, udp, open("/dev/null") as file:  # noqa: PTH123 - any descriptor will do
        for fd in (unconnected.fileno(), udp.fileno(), file.fileno(), -1, 1 << 20):
            with pytest.raises(ValueError, match=f"Descriptor {fd} "):
                engine.attach(port=1, kind="dgram", fd=fd, name="x")


def test_an_attached_descriptor_is_the_engines(engine: Engine) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    number = ours.detach()
    with theirs:
        endpoint = engine.attach(port=1, kind="dgram", fd=number, name="x")
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(number)
        theirs.send(frame(BROADCAST, mac(1)))
        engine.detach(endpoint=endpoint)
        with pytest.raises(ConnectionRefusedError):
            theirs.send(frame(BROADCAST, mac(1)))


def test_detaching_twice_or_nobody_is_no_error(engine: Engine) -> None:
    plug = Plug(engine, 1)
    plug.detach()
    for endpoint in (plug.endpoint, 12_345, -1):
        engine.detach(endpoint=endpoint)


def test_a_closed_engine_has_let_go_of_everything_and_refuses() -> None:
    before = open_descriptors()
    engine = Engine()
    plug = Plug(engine, 1)
    engine.close()
    engine.close()
    with pytest.raises(ConnectionRefusedError):
        plug.socket.send(frame(BROADCAST, mac(1)))
    for request in (engine.counters, engine.fdb):
        with pytest.raises(EngineError, match="ended: closed"):
            request()
    engine.detach(endpoint=plug.endpoint)
    assert engine.take_events() == []
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, theirs, plug.socket:
        with pytest.raises(EngineError, match="ended: closed"):
            engine.attach(port=1, kind="dgram", fd=ours.fileno(), name="x")
        assert theirs.send(b"still open") > 0
    del engine, plug, request
    assert open_descriptors() == before


def test_an_engine_that_is_dropped_is_closed() -> None:
    before = open_descriptors(), threading.active_count()
    for _ in range(20):
        Engine()
    assert (open_descriptors(), threading.active_count()) == before


def test_waiting_releases_the_gil(engine: Engine) -> None:
    progress = 0
    done = threading.Event()

    def count() -> None:
        nonlocal progress
        while not done.is_set():
            progress += 1
            os.sched_yield()

    interval = sys.getswitchinterval()
    # So long that the other thread runs only while this one has let the GIL go.
    sys.setswitchinterval(1000)
    thread = threading.Thread(target=count)
    try:
        thread.start()
        before = progress
        for _ in range(300):
            engine.counters()
        assert progress > before
    finally:
        done.set()
        sys.setswitchinterval(interval)
        thread.join()


def test_it_may_be_called_from_many_threads(engine: Engine) -> None:
    failures: list[BaseException] = []

    def work(port: int) -> None:
        try:
            for _ in range(50):
                plug = Plug(engine, port)
                plug.send(frame(BROADCAST, mac(port)))
                engine.counters()
                engine.fdb()
                engine.take_events()
                plug.detach()
        except (OSError, EngineError) as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(port,)) for port in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert engine.counters() == {}
    assert engine.fdb() == []


def test_ctrl_c_gets_through(engine: Engine) -> None:
    main = threading.main_thread().ident
    assert main is not None
    timer = threading.Timer(0.05, signal.pthread_kill, (main, signal.SIGINT))
    timer.start()

    def ask_for_ever() -> None:
        while True:
            engine.counters()

    with pytest.raises(KeyboardInterrupt):
        ask_for_ever()
    timer.join()
    assert engine.counters() == {}
