"""From the start of the program to its pidfile, which says that guests may come."""

from __future__ import annotations

from bench.compare import REFERENCE, Relation, Row, Subject, Target
from bench.netns import namespaces_unavailable_reason
from bench.scenarios.base import Answer, Bench
from bench.systems import System, Uplink

__all__ = ["Startup"]

_KEYS = {Uplink.NONE: "isolated", Uplink.HOST: "host", Uplink.HOST_DHCP: "host_dhcp"}
_WITHOUT_DHCP = Target(Subject.OURS, Relation.BELOW, 0.5)
_WITH_DHCP = Target(Subject.OURS, Relation.BELOW, 1.0)


class Startup:
    """Each uplink once. What vde_switch leaves to others (addresses, NAT, DHCP) is not in its time."""

    name = "startup"
    rival = REFERENCE
    title = "Time to ready"
    rows = (
        Row("isolated", "isolated switch", "s", _WITHOUT_DHCP),
        Row("host", "shared network without DHCP; vde_switch: a TAP", "s", _WITHOUT_DHCP),
        Row("host_dhcp", "shared network with DHCP", "s", _WITH_DHCP),
    )

    def unavailable_reason(self) -> str | None:
        return namespaces_unavailable_reason()

    def measure(self, system: System, bench: Bench) -> Answer:  # noqa: ARG002 - nothing scales with effort
        values: dict[str, float] = {}
        for uplink, key in _KEYS.items():
            if system.offers(uplink):
                with system.start(uplink) as running:
                    values[key] = running.ready_seconds
        return Answer(values, {})
