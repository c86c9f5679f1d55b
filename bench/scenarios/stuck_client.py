"""A client that stops reading must cost the others nothing."""

from __future__ import annotations

from statistics import mean

from bench.compare import REFERENCE, Relation, Row, Subject, Target
from bench.scenarios.base import Answer, Bench
from bench.scenarios.traffic import Flow, Trickle, run_pairs
from bench.systems import Running, System, Uplink

__all__ = ["StuckClient"]

#: Fills any queue in well under a second and keeps it full; what reading it costs is lost in the noise.
_RATE = 5_000
_SIZE = 1514


class StuckClient:
    """One pair at full speed beside a station with a trickle of frames: once it reads, once it does not."""

    name = "stuck-client"
    rival = REFERENCE
    title = f"One pair, {_SIZE} B, beside a client that stopped reading"
    rows = (
        Row(
            "kept",
            "frames/s, against the same beside a client that reads",
            "×",
            # Two samples a second apart differ by some percent on any machine; a stall costs far more.
            Target(Subject.OURS, Relation.AT_LEAST, 0.95),
            has_ratio=False,
        ),
        Row("frames_per_second", "delivered", "frames/s"),
        Row("loss_percent", "lost", "%", Target(Subject.OURS, Relation.BELOW, 1.0), has_ratio=False),
    )

    def unavailable_reason(self) -> str | None:
        return None

    def measure(self, system: System, bench: Bench) -> Answer:
        with system.start(Uplink.NONE) as running:
            # A B B A: a drift of the machine's speed cancels out.
            reading = [self._pair(running, bench, stuck=False)]
            stuck = [self._pair(running, bench, stuck=True) for _ in range(2)]
            reading.append(self._pair(running, bench, stuck=False))
            running.check()
        rate = mean(flow.frames_per_second for flow in stuck)
        values = {
            "kept": rate / mean(flow.frames_per_second for flow in reading),
            "frames_per_second": rate,
            "loss_percent": mean(flow.loss_percent for flow in stuck),
        }
        detail = {
            "reading": [flow.detail() for flow in reading],
            "stuck": [flow.detail() for flow in stuck],
        }
        return Answer(values, detail)

    def _pair(self, running: Running, bench: Bench, *, stuck: bool) -> Flow:
        return run_pairs(
            bench.clients,
            running.directory,
            pairs=1,
            size=_SIZE,
            seconds=bench.effort.seconds,
            trickle=Trickle(_RATE, stuck),
        )
