"""TCP between a guest on shared memory and the host: super-frames and checksums left to whoever needs them."""

from __future__ import annotations

from bench.compare import REFERENCE, Relation, Row, Subject, Target
from bench.guest import Online, guest_unavailable_reason, streams
from bench.scenarios.base import Answer, Bench
from bench.systems import System, Uplink, Wire

__all__ = ["VhostTcp"]

_LIGHT = Target(Subject.RATIO, Relation.AT_MOST, 0.2)


class VhostTcp:
    """Ours by vhost-user; the rival by the wire that it has."""

    def __init__(
        self,
        name: str,
        rival: str,
        theirs: Wire,
        *,
        to_host: float | None = None,
        to_guest: float | None = None,
    ) -> None:
        """``to_host``, ``to_guest``: promised ratios, if any are."""
        self.name = name
        self.rival = rival
        self.title = (
            f"TCP between a guest (-netdev vhost-user, TCG) and the host; {rival}: -netdev {theirs.value}"
        )
        self.rows: tuple[Row, ...] = (
            Row("to_guest", "host to guest", "Gbit/s", _as_fast(to_guest)),
            Row("to_host", "guest to host", "Gbit/s", _as_fast(to_host)),
        )
        # Where there is no program beside QEMU its processor time cannot be told from the guest's.
        light = _LIGHT if rival == REFERENCE else None
        self.rows += (
            Row("to_guest_cpu", "host to guest, processor time of the switch", "s per GB", light),
            Row("to_host_cpu", "guest to host, processor time of the switch", "s per GB", light),
        )
        self._theirs = theirs
        self._online = Online()

    def unavailable_reason(self) -> str | None:
        return guest_unavailable_reason()

    def measure(self, system: System, bench: Bench) -> Answer:
        wire = self._theirs if system.name == self.rival else Wire.VHOST_USER
        running, _ = self._online.get(system, bench.closing, Uplink.HOST, wire)
        detail: dict[str, object] = {}
        values = streams(running, bench.effort.tcp_seconds, detail)
        if not running.process_ids():
            values = {key: value for key, value in values.items() if not key.endswith("_cpu")}
        return Answer(values, detail)


def _as_fast(ratio: float | None) -> Target | None:
    return None if ratio is None else Target(Subject.RATIO, Relation.AT_LEAST, ratio)
