"""The round trip of a smallest frame between two plugs of an otherwise idle switch."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from bench.compare import REFERENCE, Relation, Row, Subject, Target
from bench.errors import BenchError
from bench.scenarios.base import Answer, Bench
from bench.spread import percentile
from bench.systems import Running, System, Uplink, VdeVmnet

__all__ = ["Latency", "LatencyAwake", "one_processor", "round_trips"]

_SIZE = 60
_ECHO_STATION = 400
_PING_STATION = 401
_NOT_ABOVE = Target(Subject.RATIO, Relation.AT_MOST, 0.9)
_ROWS = (Row("p50", "p50", "µs", _NOT_ABOVE), Row("p99", "p99", "µs"))
_BUSY_POLL = "--busy-poll=50"


class Latency:
    """p50 and p99; the mean would be one late timer's.

    Twice: as the scheduler places the three processes, where waking a sleeping processor is most of the time
    and the placement most of the difference; and all on one processor, which shows the switch's own path.
    """

    name = "round-trip"
    rival = REFERENCE
    title = f"Round trip, {_SIZE} B"
    rows: tuple[Row, ...] = (
        *_ROWS,
        Row("one_processor_p50", "p50, all on one processor", "µs", _NOT_ABOVE),
        Row("one_processor_p99", "p99, all on one processor", "µs"),
    )

    def unavailable_reason(self) -> str | None:
        return None

    def measure(self, system: System, bench: Bench) -> Answer:
        free = _of_a_new_one(system, bench)
        with one_processor():
            pinned = _of_a_new_one(system, bench)
        values = {
            "p50": percentile(free, 0.5),
            "p99": percentile(free, 0.99),
            "one_processor_p50": percentile(pinned, 0.5),
            "one_processor_p99": percentile(pinned, 0.99),
        }
        return Answer(values, {"free": _summary(free), "one_processor": _summary(pinned)})


class LatencyAwake:
    """The same with an engine that stays awake for some microseconds after each frame.

    Not on one processor, where nobody else could run meanwhile.
    """

    name = "round-trip-busy-poll"
    rival = REFERENCE
    title = f"Round trip, {_SIZE} B, {_BUSY_POLL}"
    rows = _ROWS

    def unavailable_reason(self) -> str | None:
        return None

    def measure(self, system: System, bench: Bench) -> Answer:
        if isinstance(system, VdeVmnet):
            system = system.with_options(_BUSY_POLL)
        free = _of_a_new_one(system, bench)
        return Answer({"p50": percentile(free, 0.5), "p99": percentile(free, 0.99)}, {"free": _summary(free)})


@contextmanager
def one_processor() -> Iterator[None]:
    """What is started meanwhile runs on the last of our processors."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(allowed)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def _of_a_new_one(system: System, bench: Bench) -> list[float]:
    with system.start(Uplink.NONE) as running:
        return round_trips(running, bench, bench.effort.pings)


def round_trips(running: Running, bench: Bench, count: int) -> list[float]:
    """In microseconds. Raises BenchError."""
    with (
        bench.clients.start("echo", running.directory, _ECHO_STATION) as echo,
        bench.clients.start("ping", running.directory, _PING_STATION, _ECHO_STATION, _SIZE, count) as ping,
    ):
        ping.tell()
        ping.await_ready()
        ping.tell()
        # A slow machine takes a tenth of a millisecond for a round trip, a busy one ten times that.
        result = ping.result(count / 1000)
        echo.tell()
        running.check()
    if result["lost"] > count // 1000:
        raise BenchError(f"{result['lost']} of {count} frames were lost on an idle switch")
    return [nanoseconds / 1000 for nanoseconds in result["round_trip_ns"]]


def _summary(microseconds: list[float]) -> dict[str, float]:
    return {
        "count": len(microseconds),
        "minimum": min(microseconds),
        "p10": percentile(microseconds, 0.1),
        "p90": percentile(microseconds, 0.9),
        "p999": percentile(microseconds, 0.999),
        "maximum": max(microseconds),
    }
