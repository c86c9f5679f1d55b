"""What 16 idle guests on the same network cost one that talks: real guests, each with a QEMU of its own.

There are two networks, both ours and of the same kind: one with the idle guests and a guest that talks, one
with such a guest alone. All guests run all the time, so that what idle guests cost the machine by being there
touches both networks alike; the two talk in turn, and the difference is what presence on the network costs.
"""

from __future__ import annotations

from contextlib import ExitStack

from bench.compare import NOBODY, Relation, Row, Subject, Target
from bench.guest import boot, boot_many, guest_unavailable_reason, streams
from bench.scenarios.base import Answer, Bench
from bench.systems import Running, System, Uplink, Wire

__all__ = ["IdleGuests"]

_IDLE = 16
#: Whether it is the one beside them, stretch by stretch.
_ORDER = (True, False, False, True)
_WITHIN = Target(Subject.OURS, Relation.AT_LEAST, 0.97)


class IdleGuests:
    """Ours alone: it is compared with itself."""

    rival = NOBODY
    rows = (
        Row("to_guest", "host to guest, with them ÷ without", "", _WITHIN, has_ratio=False),
        Row("to_host", "guest to host, with them ÷ without", "", _WITHIN, has_ratio=False),
        Row("to_guest_cpu", "host to guest, processor time for a GB, with ÷ without", "", has_ratio=False),
        Row("to_host_cpu", "guest to host, processor time for a GB, with ÷ without", "", has_ratio=False),
        Row("idle_memory", "memory (PSS) of the daemon for each idle guest", "MB", has_ratio=False),
    )

    def __init__(self, wire: Wire) -> None:
        self.name = f"idle-guests-{wire.value}"
        self.title = f"TCP between a guest (-netdev {wire.value}, TCG) and the host, beside {_IDLE} idle guests"
        self._wire = wire
        self._beside: Running | None = None
        self._alone: Running | None = None

    def unavailable_reason(self) -> str | None:
        return guest_unavailable_reason()

    def measure(self, system: System, bench: Bench) -> Answer:
        if self._beside is None or self._alone is None:
            self._beside, self._alone = self._start(system, bench.closing)
        seconds = max(1, bench.effort.tcp_seconds // 2)
        detail: dict[str, object] = {}
        sums: dict[tuple[bool, str], float] = {}
        for number, beside in enumerate(_ORDER):
            stretch: dict[str, object] = {}
            values = streams(self._beside if beside else self._alone, seconds, stretch)
            detail[f"{number} {'beside them' if beside else 'alone'}"] = stretch
            for key, value in values.items():
                sums[beside, key] = sums.get((beside, key), 0.0) + value
        memory = self._beside.memory().pss - self._alone.memory().pss
        kept = {key: sums[True, key] / sums[False, key] for beside, key in sums if beside}
        return Answer({**kept, "idle_memory": memory / _IDLE / 1e6}, detail)

    def _start(self, system: System, closing: ExitStack) -> tuple[Running, Running]:
        def forget() -> None:
            self._beside = self._alone = None

        closing.callback(forget)
        alone = closing.enter_context(system.start(Uplink.HOST, self._wire))
        boot(alone, closing)
        beside = closing.enter_context(system.start(Uplink.HOST, self._wire, guests=_IDLE + 1))
        boot_many(beside, closing, _IDLE + 1)
        return beside, alone
