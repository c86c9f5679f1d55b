"""200 plugs at once: what one costs to plug in and to keep, and what it costs a pair that talks."""

from __future__ import annotations

from bench.compare import REFERENCE, Relation, Row, Subject, Target
from bench.scenarios.base import Answer, Bench
from bench.scenarios.traffic import run_pairs
from bench.systems import System, Uplink

__all__ = ["ManyPlugs"]

_PLUGS = 200
_FIRST_STATION = 1000
_SIZE = 1514


class ManyPlugs:
    """The engine's rule: the cost of a frame does not grow with the number of ports."""

    name = "many-plugs"
    rival = REFERENCE
    title = f"{_PLUGS} idle plugs"
    rows = (
        Row(
            "kept",
            f"frames/s of one pair beside them, {_SIZE} B, against the same without them",
            "×",
            Target(Subject.OURS, Relation.AT_LEAST, 0.9),
            has_ratio=False,
        ),
        Row("frames_per_second", f"delivered by one pair beside them, {_SIZE} B", "frames/s"),
        Row("open_milliseconds", "to plug one in", "ms"),
        Row("rss_per_plug", "resident memory of the switch per plug", "KiB"),
    )

    def unavailable_reason(self) -> str | None:
        return None

    def measure(self, system: System, bench: Bench) -> Answer:
        seconds = bench.effort.seconds
        with system.start(Uplink.NONE) as running:
            alone = run_pairs(bench.clients, running.directory, pairs=1, size=_SIZE, seconds=seconds)
            before = running.memory()
            with bench.clients.start("hoard", running.directory, _FIRST_STATION, _PLUGS) as hoard:
                after = running.memory()
                beside = run_pairs(bench.clients, running.directory, pairs=1, size=_SIZE, seconds=seconds)
                opened = hoard.stop()
            running.check()
        values = {
            "kept": beside.frames_per_second / alone.frames_per_second,
            "frames_per_second": beside.frames_per_second,
            "open_milliseconds": opened["open_ns"] / opened["plugs"] / 1e6,
            "rss_per_plug": (after.rss - before.rss) / opened["plugs"] / 1024,
        }
        return Answer(values, {"alone": alone.detail(), "beside": beside.detail(), **opened})
