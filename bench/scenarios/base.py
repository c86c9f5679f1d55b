"""The Scenario contract: one question to ours and to one rival, asked once per round.

A scenario starts the system itself, measures, and gives the values of its rows. It never compares: that is done
from the samples (``compare.py``), so that nothing here can favour a side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Protocol

from bench.clients import Clients
from bench.compare import Row
from bench.systems import System

__all__ = ["Answer", "Bench", "Effort", "Scenario"]


@dataclass(frozen=True)
class Effort:
    """How long things are measured; rounds are not a scenario's matter."""

    #: ``quick`` or ``full``.
    name: str
    #: Pairs of samples, ours and the reference's, one after the other.
    rounds: int
    #: A stretch of traffic, in seconds.
    seconds: float
    #: Round trips in one sample.
    pings: int
    #: How long an idle system is watched, in seconds.
    idle_seconds: float
    #: One TCP stream, in seconds.
    tcp_seconds: int


@dataclass(frozen=True)
class Bench:
    """What a scenario works with."""

    clients: Clients
    effort: Effort
    #: Closed after the last round, for what a scenario keeps between rounds.
    closing: ExitStack


@dataclass(frozen=True)
class Answer:
    """One sample as a scenario gives it."""

    #: By the key of a row; a row that this system cannot fill is left out.
    values: Mapping[str, float]
    #: What the values were computed from.
    detail: Mapping[str, object]


class Scenario(Protocol):
    """One question."""

    @property
    def name(self) -> str:
        """As given to ``--only``."""

    @property
    def rival(self) -> str:
        """The name of the system that ours is compared with, or NOBODY."""

    @property
    def title(self) -> str:
        """The heading in the table."""

    @property
    def rows(self) -> Sequence[Row]:
        """What it can fill."""

    def unavailable_reason(self) -> str | None:
        """Why it cannot be measured here, as one sentence, or None."""

    def measure(self, system: System, bench: Bench) -> Answer:
        """One sample. Raises BenchError."""
