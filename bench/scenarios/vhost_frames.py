"""Smallest frames between two vhost-user ports: what the switch does by itself, without the kernel's sockets.

``dpdk-testpmd`` is both guests, in one process: what one port receives goes out of it again, to the other. So a
fixed number of frames goes back and forth through the switch, none is lost by design, and both guests need no
more than one processor core, which leaves another one to the switch. Two processes, of which one only sends
and one only receives, would take turns on that core by milliseconds; a ring is full after some microseconds.
"""

from __future__ import annotations

import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from bench.compare import DPDK, Relation, Row, Subject, Target
from bench.errors import BenchError
from bench.processes import cores
from bench.scenarios.base import Answer, Bench
from bench.systems import Running, System, Uplink, Wire, vhost_user_socket
from bench.testpmd import Testpmd, front_end, received, testpmd_unavailable_reason

__all__ = ["VhostFrames"]

_SIZE = 64
#: Of 32 frames each, sent once by both ports: half of a ring is under way in each direction.
_BURSTS = 16
_SETTLE_SECONDS = 0.2
_IDLE = 16
_FIRST_STATION = 1000
#: Whether the idle plugs are there, stretch by stretch.
_ORDER = (False, True, True, False)
_FIVE_MILLION = Target(Subject.OURS, Relation.AT_LEAST, 5.0)
_WITHIN = Target(Subject.OURS, Relation.AT_LEAST, 0.97)


class VhostFrames:
    """The switch on one core, its guests on another; the rival relays without looking at an address."""

    name = "vhost-frames"
    rival = DPDK
    title = f"vhost-user port to vhost-user port, {_SIZE} B, on one core"
    rows = (
        Row("million_per_second", "delivered; dpdk-testpmd: relayed", "million frames/s", _FIVE_MILLION),
        Row("cpu_per_million", "processor time", "s per million frames"),
        Row("kept", f"delivered beside {_IDLE} idle plugs ÷ without", "", _WITHIN, has_ratio=False),
    )

    def unavailable_reason(self) -> str | None:
        return testpmd_unavailable_reason() or (None if len(cores()) > 1 else "it takes two processor cores")

    def measure(self, system: System, bench: Bench) -> Answer:
        with ExitStack() as closing:
            folder = Path(closing.enter_context(tempfile.TemporaryDirectory()))
            running = closing.enter_context(system.start(Uplink.NONE, Wire.VHOST_USER, guests=2))
            running.pin(cores()[0])
            sockets = [vhost_user_socket(running.directory, number) for number in (0, 1)]
            guests = closing.enter_context(front_end(sockets, cores()[-1], folder))
            guests.ask(f"start tx_first {_BURSTS}")
            # No switch, no plugs.
            order = _ORDER if running.directory.is_dir() else (False,)
            stretches = [_stretch(running, guests, bench, beside) for beside in order]
        values = _values([one for one in stretches if not one["idle"]])
        if len(order) > 1:
            beside = _values([one for one in stretches if one["idle"]])
            values["kept"] = beside["million_per_second"] / values["million_per_second"]
        return Answer(values, {str(number): one for number, one in enumerate(stretches)})


def _stretch(running: Running, guests: Testpmd, bench: Bench, beside: bool) -> dict[str, float]:
    with ExitStack() as closing:
        if beside:
            closing.enter_context(bench.clients.start("hoard", running.directory, _FIRST_STATION, _IDLE))
        running.leave_alone(_SETTLE_SECONDS)
        before, frames, began = running.activity(), _received(guests), time.monotonic()
        running.leave_alone(bench.effort.seconds / 2)
        frames, seconds = _received(guests) - frames, time.monotonic() - began
        spent = running.activity().since(before)
    if frames == 0:
        raise BenchError("no frame arrived")
    return {"idle": beside, "frames": frames, "seconds": seconds, "cpu_seconds": spent.seconds}


def _received(guests: Testpmd) -> int:
    return received(guests.ask("show port stats all"))


def _values(stretches: list[dict[str, float]]) -> dict[str, float]:
    frames = sum(one["frames"] for one in stretches)
    return {
        "million_per_second": frames / sum(one["seconds"] for one in stretches) / 1e6,
        "cpu_per_million": sum(one["cpu_seconds"] for one in stretches) / frames * 1e6,
    }
