"""What a network costs while nothing happens: processor time, wake-ups, resident memory."""

from __future__ import annotations

from bench.compare import REFERENCE, Relation, Row, Subject, Target
from bench.netns import namespaces_unavailable_reason
from bench.scenarios.base import Answer, Bench
from bench.systems import Running, System, Uplink

__all__ = ["Footprint"]

_PLUGS = 4
_FIRST_STATION = 1000
#: Plugging in, and what a namespace's new interface says about itself, is over by then.
_SETTLE_SECONDS = 1.0
_MEGABYTE = 1e6
_MEMORY = Target(Subject.OURS, Relation.BELOW, 60.0)
_IDLE = Target(Subject.OURS, Relation.AT_MOST, 0.0)


class Footprint:
    """An isolated switch with some idle plugs, and the fullest uplink the system offers."""

    name = "footprint"
    rival = REFERENCE
    title = f"Idle, {_PLUGS} plugs"
    rows = (
        Row("idle_ticks", "processor time of an isolated switch", "ticks of 10 ms", _IDLE, has_ratio=False),
        Row("idle_wakeups", "wake-ups of an isolated switch", has_ratio=False),
        Row("rss", "RSS of an isolated switch, all processes", "MB", _MEMORY),
        Row("pss", "PSS of an isolated switch, all processes", "MB"),
        Row(
            "host_idle_ticks",
            "processor time with DHCP; vde_switch: with a TAP",
            "ticks of 10 ms",
            _IDLE,
            has_ratio=False,
        ),
        Row("host_rss", "RSS with DHCP, all processes; vde_switch: with a TAP", "MB", _MEMORY),
        Row("host_pss", "PSS with DHCP, all processes; vde_switch: with a TAP", "MB"),
    )

    def unavailable_reason(self) -> str | None:
        return namespaces_unavailable_reason()

    def measure(self, system: System, bench: Bench) -> Answer:
        with system.start(Uplink.NONE) as running:
            isolated = self._watch(running, bench)
        with system.start(Uplink.HOST_DHCP if system.offers(Uplink.HOST_DHCP) else Uplink.HOST) as running:
            host = self._watch(running, bench)
        values = {**isolated, **{f"host_{key}": value for key, value in host.items()}}
        return Answer(values, {"idle_seconds": bench.effort.idle_seconds})

    def _watch(self, running: Running, bench: Bench) -> dict[str, float]:
        with bench.clients.start("hoard", running.directory, _FIRST_STATION, _PLUGS):
            running.leave_alone(_SETTLE_SECONDS)
            before = running.activity()
            running.leave_alone(bench.effort.idle_seconds)
            spent = running.activity().since(before)
            memory = running.memory()
        return {
            "idle_ticks": spent.ticks,
            "idle_wakeups": spent.wakeups,
            "rss": memory.rss / _MEGABYTE,
            "pss": memory.pss / _MEGABYTE,
        }
