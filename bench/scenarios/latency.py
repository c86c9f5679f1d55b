"""The round trip of a smallest frame between two plugs of an otherwise idle switch."""

from __future__ import annotations

from bench.compare import Relation, Row, Subject, Target
from bench.errors import BenchError
from bench.scenarios.base import Answer, Bench
from bench.spread import percentile
from bench.systems import System, Uplink

__all__ = ["Latency"]

_SIZE = 60
_ECHO_STATION = 400
_PING_STATION = 401


class Latency:
    """p50 and p99; the mean would be one late timer's."""

    name = "round-trip"
    title = f"Round trip, {_SIZE} B"
    rows = (
        Row("p50", "p50", "µs", Target(Subject.RATIO, Relation.AT_MOST, 1.0)),
        Row("p99", "p99", "µs"),
    )

    def unavailable_reason(self) -> str | None:
        return None

    def measure(self, system: System, bench: Bench) -> Answer:
        with (
            system.start(Uplink.NONE) as running,
            bench.clients.start("echo", running.directory, _ECHO_STATION) as echo,
            bench.clients.start(
                "ping", running.directory, _PING_STATION, _ECHO_STATION, _SIZE, bench.effort.pings
            ) as ping,
        ):
            ping.tell()
            ping.await_ready()
            ping.tell()
            # A slow machine takes a tenth of a millisecond for a round trip, a busy one ten times that.
            result = ping.result(bench.effort.pings / 1000)
            echo.tell()
            running.check()
        if result["lost"] > bench.effort.pings // 1000:
            raise BenchError(f"{result['lost']} of {bench.effort.pings} frames were lost on an idle switch")
        microseconds = [nanoseconds / 1000 for nanoseconds in result["round_trip_ns"]]
        values = {"p50": percentile(microseconds, 0.5), "p99": percentile(microseconds, 0.99)}
        detail = {
            "lost": result["lost"],
            "count": len(microseconds),
            "minimum": min(microseconds),
            "p90": percentile(microseconds, 0.9),
            "p999": percentile(microseconds, 0.999),
            "maximum": max(microseconds),
        }
        return Answer(values, detail)
