"""TCP between a guest and the host without any privilege, beside what QEMU itself has for that.

Both are libslirp. Ours is behind a switch, so that a frame goes one way more; what it can have instead are
longer frames.
"""

from __future__ import annotations

from bench.compare import QEMU_USER, Relation, Row, Subject, Target
from bench.guest import Online, guest_unavailable_reason, streams
from bench.scenarios.base import Answer, Bench
from bench.systems import System, Uplink, Wire

__all__ = ["UserTcp"]

_AS_FAST = Target(Subject.RATIO, Relation.AT_LEAST, 1.2)


class UserTcp:
    """One guest, through a forward, one stream in each direction, one after the other."""

    rival = QEMU_USER
    rows = (
        Row("to_guest", "host to guest", "Gbit/s", _AS_FAST),
        Row("to_host", "guest to host", "Gbit/s", _AS_FAST),
    )

    def __init__(self, name: str, uplink: Uplink = Uplink.USER, wire: Wire = Wire.VDE) -> None:
        self.name = name
        mtu = "--vmnet-mtu=16384" if uplink is Uplink.USER_LONG else "MTU 1500"
        what = f"-netdev {wire.value}, {mtu}, TCG"
        self.title = f"TCP between a guest ({what}) and the host, --backend=user; {QEMU_USER}: MTU 1500"
        self._uplink, self._wire = uplink, wire
        self._online = Online()

    def unavailable_reason(self) -> str | None:
        return guest_unavailable_reason()

    def measure(self, system: System, bench: Bench) -> Answer:
        running, _ = self._online.get(system, bench.closing, self._uplink, self._wire)
        detail: dict[str, object] = {}
        values = streams(running, bench.effort.tcp_seconds, detail)
        return Answer({row.key: values[row.key] for row in self.rows}, detail)
