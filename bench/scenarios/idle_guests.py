"""What up to 16 idle guests on the same network cost one that talks: real guests, each with a QEMU of its own.

There is a network for each number of idle guests, all ours and of the same kind, each with one more guest
that talks. All guests run all the time, so that what idle guests cost the machine by being there touches all
networks alike; those that talk do so in turn, and the difference is what presence on the network costs.
"""

from __future__ import annotations

from contextlib import ExitStack

from bench.compare import NOBODY, Curve, Relation, Row, Subject, Target
from bench.guest import boot, guest_unavailable_reason, streams
from bench.scenarios.base import Answer, Bench
from bench.systems import Running, System, Uplink, Wire

__all__ = ["IdleGuests"]

_IDLE = (0, 4, 16)
_ALONE, _MOST = _IDLE[0], _IDLE[-1]
#: Stretch by stretch: none of them is always first, or always after the same one.
_ORDER = (*_IDLE, *reversed(_IDLE))
_WITHIN = Target(Subject.OURS, Relation.AT_LEAST, 0.97)
_DIRECTIONS = {"to_guest": "host to guest", "to_host": "guest to host"}


class IdleGuests:
    """Ours alone: it is compared with itself."""

    rival = NOBODY

    def __init__(self, wire: Wire) -> None:
        self.name = f"idle-guests-{wire.value}"
        self.title = f"TCP between a guest (-netdev {wire.value}, TCG) and the host, beside {_MOST} idle guests"
        curves = {
            key: Curve(key.replace("_", "-"), f"TCP, {words}, -netdev {wire.value}", "idle guests beside")
            for key, words in _DIRECTIONS.items()
        }
        self.rows = (
            *(
                Row(key, f"{words}, with them ÷ without", "", _WITHIN, has_ratio=False)
                for key, words in _DIRECTIONS.items()
            ),
            *(
                Row(f"{key}_cpu", f"{words}, processor time for a GB, with ÷ without", has_ratio=False)
                for key, words in _DIRECTIONS.items()
            ),
            *(
                Row(f"{key}_{count}", f"{words}, beside {count}", "Gbit/s", curve=curves[key], at=count)
                for key, words in _DIRECTIONS.items()
                for count in _IDLE
            ),
            Row("idle_memory", "memory (PSS) of the daemon for an idle guest", "MB", has_ratio=False),
        )
        self._wire = wire
        self._online: dict[int, Running] = {}

    def unavailable_reason(self) -> str | None:
        return guest_unavailable_reason()

    def measure(self, system: System, bench: Bench) -> Answer:
        if not self._online:
            bench.closing.callback(self._online.clear)
            self._start(system, bench.closing)
        seconds = max(1, bench.effort.tcp_seconds // 2)
        detail: dict[str, object] = {}
        sums: dict[tuple[int, str], float] = {}
        for number, idle in enumerate(_ORDER):
            stretch: dict[str, object] = {}
            for key, value in streams(self._online[idle], seconds, stretch).items():
                sums[idle, key] = sums.get((idle, key), 0.0) + value
            detail[f"{number}, beside {idle}"] = stretch
        values = {key: sums[_MOST, key] / sums[_ALONE, key] for idle, key in sums if idle == _MOST}
        for key in _DIRECTIONS:
            values.update({f"{key}_{idle}": sums[idle, key] / _ORDER.count(idle) for idle in _IDLE})
        memory = self._online[_MOST].memory().pss - self._online[_ALONE].memory().pss
        return Answer({**values, "idle_memory": memory / _MOST / 1e6}, detail)

    def _start(self, system: System, closing: ExitStack) -> None:
        for idle in _IDLE:
            running = closing.enter_context(system.start(Uplink.HOST, self._wire, guests=idle + 1))
            boot(running, closing, idle + 1)
            self._online[idle] = running
