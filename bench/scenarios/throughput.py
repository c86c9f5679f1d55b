"""Plug to plug: how many frames arrive, how many are lost, and what the switch spends on a million of them."""

from __future__ import annotations

from bench.compare import REFERENCE, Relation, Row, Subject, Target
from bench.scenarios.base import Answer, Bench
from bench.scenarios.traffic import run_pairs
from bench.systems import System, Uplink

__all__ = ["Throughput"]

_LOSS = Target(Subject.OURS, Relation.BELOW, 1.0)


class Throughput:
    """One frame size and one number of pairs."""

    def __init__(
        self, pairs: int, size: int, *, at_least: float | None = None, as_they_come: bool = False
    ) -> None:
        """``at_least``: the promised ratio of frames/s.

        ``as_they_come``: pairs plug in one after another and receivers only listen afterwards. A switch that
        forgets stations when another plug arrives then has to flood, and pays for it.
        """
        self._pairs = pairs
        self._size = size
        self._meet_last = not as_they_come
        count = {1: "one pair", 4: "four pairs"}[pairs]
        self.rival = REFERENCE
        self.name = f"pairs-{pairs}-{size}" + ("-as-they-come" if as_they_come else "")
        self.title = f"Plug to plug, {count}, {size} B" + (", plugged in one by one" if as_they_come else "")
        promised = Target(Subject.RATIO, Relation.AT_LEAST, at_least) if at_least is not None else None
        self.rows = (
            Row("frames_per_second", "delivered", "frames/s", promised),
            Row("loss_percent", "lost", "%", _LOSS, has_ratio=False),
            Row("cpu_per_million", "processor time of the switch", "s per million frames"),
        )

    def unavailable_reason(self) -> str | None:
        return None

    def measure(self, system: System, bench: Bench) -> Answer:
        with system.start(Uplink.NONE) as running:
            before = running.activity()
            flow = run_pairs(
                bench.clients,
                running.directory,
                pairs=self._pairs,
                size=self._size,
                seconds=bench.effort.seconds,
                meet_last=self._meet_last,
            )
            spent = running.activity().since(before)
            running.check()
        values = {
            "frames_per_second": flow.frames_per_second,
            "loss_percent": flow.loss_percent,
            "cpu_per_million": spent.seconds / flow.received * 1e6,
        }
        return Answer(values, {**flow.detail(), "cpu_seconds": spent.seconds, "wakeups": spent.wakeups})
