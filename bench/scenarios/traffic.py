"""Traffic between plugs, as several scenarios need it: pairs at full speed, and a trickle to one station."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.clients import Client, Clients
from bench.errors import BenchError

__all__ = ["Flow", "Trickle", "run_pairs"]

#: Stations of senders and receivers; hoards count from 1000.
_SENDERS = 200
_RECEIVERS = 100
_TRICKLE_SENDER = 300
_TRICKLE_RECEIVER = 301

_SMALL_FRAME = 64
#: A trickle begins before the pairs' traffic and must outlast it.
_TRICKLE_MARGIN_SECONDS = 0.5


@dataclass(frozen=True)
class Trickle:
    """One more station that meanwhile gets small frames, and reads them or does not."""

    #: Frames a second.
    rate: int
    #: It never reads after the first frame, as a guest whose QEMU is stopped.
    stuck: bool


@dataclass(frozen=True)
class Flow:
    """What some pairs did together."""

    sent: int
    received: int
    #: From the first frame sent to the last received.
    seconds: float
    #: Reordered or doubled frames, and frames that came to the wrong plug.
    late: int
    stray: int

    @property
    def frames_per_second(self) -> float:
        return self.received / self.seconds

    @property
    def loss_percent(self) -> float:
        return 100.0 * (self.sent - self.received) / self.sent

    def detail(self) -> dict[str, object]:
        return {
            "sent": self.sent,
            "received": self.received,
            "seconds": self.seconds,
            "late": self.late,
            "stray": self.stray,
        }


def run_pairs(
    clients: Clients,
    switch: Path,
    *,
    pairs: int,
    size: int,
    seconds: float,
    meet_last: bool = True,
    trickle: Trickle | None = None,
) -> Flow:
    """Let ``pairs`` senders send to a receiver each, at full speed, all at once.

    ``meet_last``: each sender exchanges a frame with its receiver after all have plugged in, so that every
    address is known to the switch. Otherwise it does so as soon as it is plugged in itself, before the next
    pair comes. Raises BenchError.
    """
    with ExitStack() as closing:

        def plug_in(program: str, *arguments: object) -> Client:
            return closing.enter_context(clients.start(program, switch, *arguments))

        other: tuple[Client, Client] | None = None
        if trickle is not None:
            receiver = plug_in("receiver", _TRICKLE_RECEIVER, "stuck" if trickle.stuck else "read")
            lasting = _milliseconds(seconds + _TRICKLE_MARGIN_SECONDS)
            arguments = (_TRICKLE_SENDER, _TRICKLE_RECEIVER, _SMALL_FRAME, lasting, trickle.rate)
            other = receiver, plug_in("sender", *arguments)
        receivers: list[Client] = []
        senders: list[Client] = []
        for index in range(pairs):
            receivers.append(plug_in("receiver", _RECEIVERS + index, "read"))
            arguments = (_SENDERS + index, _RECEIVERS + index, size, _milliseconds(seconds), 0)
            senders.append(plug_in("sender", *arguments))
            if not meet_last:
                _meet(senders[-1:])
        if meet_last:
            _meet(senders)
        if other is not None:
            _meet([other[1]])
            other[1].tell()
        for sender in senders:
            sender.tell()
        sent = [sender.result(seconds) for sender in senders]
        received = [receiver.stop() for receiver in receivers]
        if other is not None:
            other[1].result(_TRICKLE_MARGIN_SECONDS)
            other[0].stop()
    return _flow(sent, received)


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


def _meet(senders: list[Client]) -> None:
    for sender in senders:
        sender.tell()
    for sender in senders:
        sender.await_ready()


def _flow(sent: list[dict[str, Any]], received: list[dict[str, Any]]) -> Flow:
    frames = sum(result["frames"] for result in received)
    if any(result["frames"] == 0 for result in received):
        raise BenchError("a receiver got no frame at all")
    nanoseconds = max(result["last_ns"] for result in received) - min(result["start_ns"] for result in sent)
    return Flow(
        sent=sum(result["sent"] for result in sent),
        received=frames,
        seconds=nanoseconds / 1e9,
        late=sum(result["late"] for result in received),
        stray=sum(result["stray"] for result in received),
    )
