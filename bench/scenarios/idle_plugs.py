"""What 16 idle neighbours cost plugs that talk: the same with them and without, in turn, within a sample.

The neighbours behave as guests that have nothing to do: each has said once who it is, reads what is broadcast,
and is otherwise silent. All are one process that sleeps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack

from bench.compare import NOBODY, Relation, Row, Subject, Target
from bench.scenarios.base import Answer, Bench
from bench.scenarios.latency import one_processor, round_trips
from bench.scenarios.traffic import run_pairs
from bench.spread import percentile
from bench.systems import Running, System, Uplink

__all__ = ["IdlePlugs"]

_IDLE = 16
_FIRST_STATION = 1000
_SIZE = 64
#: Whether they are there, stretch by stretch: neither comes first, nor always after the other.
_ORDER = (True, False, False, True, False, True, True, False)
_AS_FAST = Target(Subject.OURS, Relation.AT_LEAST, 0.97)
_AS_SOON = Target(Subject.OURS, Relation.AT_MOST, 1.03)


class IdlePlugs:
    """Ours alone: it is compared with itself."""

    name = "idle-plugs"
    rival = NOBODY
    title = f"Plug to plug beside {_IDLE} idle plugs"
    rows = (
        Row("pairs_1", f"one pair, {_SIZE} B, frames/s with them ÷ without", "", _AS_FAST, has_ratio=False),
        Row("pairs_4", f"four pairs, {_SIZE} B, frames/s with them ÷ without", "", _AS_FAST, has_ratio=False),
        Row("p50", "round trip on one processor, p50 with them ÷ without", "", _AS_SOON, has_ratio=False),
    )

    def unavailable_reason(self) -> str | None:
        return None

    def measure(self, system: System, bench: Bench) -> Answer:
        found: dict[bool, dict[str, list[float]]] = {True: {}, False: {}}
        with system.start(Uplink.NONE) as running:
            _stretches(running, bench, _pairs, found)
        # As the scheduler places three processes on two processors, where they sleep is most of a round trip.
        with one_processor(), system.start(Uplink.NONE) as running:
            _stretches(running, bench, _round_trip, found)
        values = {key: sum(found[True][key]) / sum(found[False][key]) for key in found[True]}
        return Answer(values, {"beside them": found[True], "alone": found[False]})


def _stretches(
    running: Running,
    bench: Bench,
    measure: Callable[[Running, Bench], Mapping[str, float]],
    found: dict[bool, dict[str, list[float]]],
) -> None:
    """Put what ``measure`` gives into ``found``, by whether the neighbours are there."""
    for beside in _ORDER:
        with ExitStack() as closing:
            if beside:
                closing.enter_context(bench.clients.start("hoard", running.directory, _FIRST_STATION, _IDLE))
            for key, value in measure(running, bench).items():
                found[beside].setdefault(key, []).append(value)
    running.check()


def _pairs(running: Running, bench: Bench) -> Mapping[str, float]:
    def rate(pairs: int) -> float:
        seconds = bench.effort.seconds / 4
        flow = run_pairs(bench.clients, running.directory, pairs=pairs, size=_SIZE, seconds=seconds)
        return flow.frames_per_second

    return {f"pairs_{pairs}": rate(pairs) for pairs in (1, 4)}


def _round_trip(running: Running, bench: Bench) -> Mapping[str, float]:
    return {"p50": percentile(round_trips(running, bench, bench.effort.pings // 4), 0.5)}
