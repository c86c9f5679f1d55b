"""What idle neighbours cost: TCP between a guest and the host, alone and beside eight more stream sockets.

The idle ones behave as guests that have nothing to do: each has said once who it is, reads what is broadcast,
and is otherwise silent. Within a sample they come and go several times, so that a drift of the machine
touches both alike. There is no rival: passt serves one guest.
"""

from __future__ import annotations

import select
import socket
import threading
from contextlib import nullcontext
from types import TracebackType

from bench.compare import REFERENCE, Relation, Row, Subject, Target
from bench.errors import BenchError
from bench.guest import boot, guest_unavailable_reason, streams
from bench.scenarios.base import Answer, Bench
from bench.systems import Running, System, Uplink, Wire

__all__ = ["IdleNeighbours"]

_NEIGHBOURS = 8
#: Whether they are there, stretch by stretch: neither comes first, nor always after the other.
_ORDER = (True, False, False, True, False, True, True, False)
_PATIENCE_SECONDS = 5.0
_SETTLE_SECONDS = 0.3
_WITHIN = Target(Subject.OURS, Relation.AT_LEAST, 0.97)
_BROADCAST = b"\xff" * 6
_PREFIX = b"\x52\x54\x00\xbe\x7d"
_FRAME_OCTETS = 60
#: An EtherType for experiments (IEEE 802).
_ETHERTYPE = b"\x88\xb5"


class IdleNeighbours:
    """One guest, and eight peers that come and go."""

    name = "stream-idle"
    rival = REFERENCE
    title = f"TCP between a guest (-netdev stream, TCG) and the host, beside {_NEIGHBOURS} idle stream sockets"
    rows = (
        Row("to_guest", "host to guest, with them ÷ without", "", _WITHIN, has_ratio=False),
        Row("to_host", "guest to host, with them ÷ without", "", _WITHIN, has_ratio=False),
        Row(
            "to_guest_cpu", "host to guest, processor time for a GB, with ÷ without", "", None, has_ratio=False
        ),
        Row("to_host_cpu", "guest to host, processor time for a GB, with ÷ without", "", None, has_ratio=False),
    )

    def __init__(self) -> None:
        self._online: dict[str, Running] = {}

    def unavailable_reason(self) -> str | None:
        return guest_unavailable_reason()

    def measure(self, system: System, bench: Bench) -> Answer:
        if not system.offers(Uplink.HOST, Wire.STREAM):
            return Answer({}, {})
        running = self._online.get(system.name)
        if running is None:
            bench.closing.callback(self._online.clear)
            running = bench.closing.enter_context(system.start(Uplink.HOST, Wire.STREAM))
            boot(running, bench.closing)
            self._online[system.name] = running
        seconds = max(1, bench.effort.tcp_seconds // 2)
        detail: dict[str, object] = {}
        sums: dict[tuple[bool, str], float] = {}
        for number, beside in enumerate(_ORDER):
            stretch: dict[str, object] = {}
            with _Neighbours(running) if beside else nullcontext():
                # Coming and going costs too, and is not what is asked.
                running.leave_alone(_SETTLE_SECONDS)
                values = streams(running, seconds, stretch)
            detail[f"{number} {'beside them' if beside else 'alone'}"] = stretch
            for key, value in values.items():
                sums[beside, key] = sums.get((beside, key), 0.0) + value
        return Answer({row.key: sums[True, row.key] / sums[False, row.key] for row in self.rows}, detail)


class _Neighbours:
    """Connected, known to the switch, and read by a thread that sleeps unless something comes.

    Raises BenchError when the switch does not take them.
    """

    def __init__(self, running: Running) -> None:
        self._sockets = [socket.socket(socket.AF_UNIX) for _ in range(_NEIGHBOURS)]
        self._ended, self._end = socket.socketpair()
        self._reader = threading.Thread(target=self._read)
        try:
            self._introduce(str(running.directory))
        except OSError as error:
            self._close()
            raise BenchError(f"the idle neighbours: {error}") from error

    def _introduce(self, path: str) -> None:
        for number, peer in enumerate(self._sockets):
            peer.settimeout(_PATIENCE_SECONDS)
            peer.connect(path)
            frame = _BROADCAST + _PREFIX + bytes([number]) + _ETHERTYPE + bytes(_FRAME_OCTETS - 14)
            peer.sendall(len(frame).to_bytes(4, "big") + frame)
        # The first one hears all others: then they are on the switch.
        missing = (_NEIGHBOURS - 1) * (4 + _FRAME_OCTETS)
        while missing > 0:
            missing -= len(self._sockets[0].recv(1 << 16)) or missing

    def _read(self) -> None:
        everything = [self._ended, *self._sockets]
        while self._ended not in (ready := select.select(everything, [], [])[0]):
            for peer in ready:
                peer.recv(1 << 16)

    def __enter__(self) -> _Neighbours:
        self._reader.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.close()
        self._reader.join()
        self._close()

    def _close(self) -> None:
        for peer in (self._ended, self._end, *self._sockets):
            peer.close()
