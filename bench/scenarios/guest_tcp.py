"""TCP between a real guest and the host: what a user of the network gets, by a switch or by a stream socket.

The guest's own work is most of the time under TCG: two systems lie closer together than plug to plug.
"""

from __future__ import annotations

from bench.compare import PASST, REFERENCE, Relation, Row, Subject, Target
from bench.guest import boot, guest_unavailable_reason, streams
from bench.scenarios.base import Answer, Bench
from bench.systems import Passt, Running, System, Uplink, Wire

__all__ = ["GuestTcp"]

_LIGHT = Target(Subject.RATIO, Relation.AT_MOST, 0.6)


class GuestTcp:
    """One guest, one stream in each direction, one after the other."""

    def __init__(self, wire: Wire, at_least: float) -> None:
        by_stream = wire is Wire.STREAM
        self.rival = PASST if by_stream else REFERENCE
        self.name = "stream-tcp" if by_stream else "guest-tcp"
        self.title = f"TCP between a guest (-netdev {wire.value}, TCG) and the host"
        as_fast = Target(Subject.RATIO, Relation.AT_LEAST, at_least)
        light = None if by_stream else _LIGHT
        self.rows = (
            Row("to_guest", "host to guest", "Gbit/s", as_fast),
            Row("to_host", "guest to host", "Gbit/s", as_fast),
            Row("to_guest_cpu", "host to guest, processor time of the switch", "s per GB", light),
            Row("to_host_cpu", "guest to host, processor time of the switch", "s per GB", light),
        )
        self._wire = wire
        self._online: dict[str, Running] = {}

    def unavailable_reason(self) -> str | None:
        return guest_unavailable_reason() or (Passt().unavailable_reason() if self.rival == PASST else None)

    def measure(self, system: System, bench: Bench) -> Answer:
        running = self._online.get(system.name)
        if running is None:
            bench.closing.callback(self._online.clear)
            running = bench.closing.enter_context(system.start(Uplink.HOST, self._wire))
            boot(running, bench.closing)
            self._online[system.name] = running
        detail: dict[str, object] = {}
        return Answer(streams(running, bench.effort.tcp_seconds, detail), detail)
