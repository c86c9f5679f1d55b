"""All counters of a network at one moment; the difference of two is a rate. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from vde_vmnet.control.models import Counters, CountersReply

__all__ = ["Rate", "amount", "bits", "drops_text", "rate", "rates", "total_drops", "total_rate"]

_STEPS = ("", "k", "M", "G", "T", "P")


@dataclass(frozen=True)
class Rate:
    """Per second. From the switch's side, as the counters: received is what a peer sent."""

    rx_frames: float = 0.0
    rx_bytes: float = 0.0
    tx_frames: float = 0.0
    tx_bytes: float = 0.0
    drops: float = 0.0

    @property
    def frames(self) -> float:
        """Both ways."""
        return self.rx_frames + self.tx_frames


def rate(before: Counters, after: Counters, seconds: float) -> Rate:
    """A counter that has fallen was reset by who left the port: what it counts is since then."""

    def per_second(old: int, new: int) -> float:
        return (new - old if new >= old else new) / seconds if seconds > 0 else 0.0

    return Rate(
        per_second(before.rx_frames, after.rx_frames),
        per_second(before.rx_bytes, after.rx_bytes),
        per_second(before.tx_frames, after.tx_frames),
        per_second(before.tx_bytes, after.tx_bytes),
        per_second(total_drops(before), total_drops(after)),
    )


def rates(before: CountersReply, after: CountersReply) -> dict[int, Rate]:
    """By port. One that was not there before has no rate yet but that of its whole count."""
    seconds = after.time - before.time
    earlier = {one.port: one.counters for one in before.ports}
    return {one.port: rate(earlier.get(one.port, Counters()), one.counters, seconds) for one in after.ports}


def total_rate(before: CountersReply, after: CountersReply) -> Rate:
    """Of the whole network."""
    return rate(before.total, after.total, after.time - before.time)


def total_drops(counters: Counters) -> int:
    """Dropped frames, for whatever reason."""
    return sum(counters.drops.values())


def drops_text(drops: Mapping[str, int]) -> str:
    """``12: queue_full 10, runt 2``; the most frequent first."""
    found = sorted(((count, reason) for reason, count in drops.items() if count), reverse=True)
    if not found:
        return "0"
    total = sum(count for count, _ in found)
    return f"{total}: {', '.join(f'{reason} {count}' for count, reason in found)}"


def amount(value: float) -> str:
    """Three digits and a decimal step: ``0``, ``12.3``, ``4.56 k``."""
    step = 0
    while value >= 999.5 and step < len(_STEPS) - 1:
        value /= 1000
        step += 1
    digits = 0 if value == int(value) and not step else 2 if value < 9.995 else 1 if value < 99.95 else 0
    return f"{value:.{digits}f} {_STEPS[step]}".rstrip()


def bits(bytes_per_second: float) -> str:
    """``4.56 Mbit/s``."""
    text = amount(bytes_per_second * 8)
    return f"{text}bit/s" if " " in text else f"{text} bit/s"
