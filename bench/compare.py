"""From samples to one line of the table: medians, the spread of the ratios, and the verdict. Pure.

The words: a *sample* is what one system gave in one *round*; a *row* is one number of a scenario that goes into
the table, perhaps with a *target*; a *comparison* is a filled row.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from bench.spread import Spread, ratios

__all__ = [
    "C_SOCKET_VMNET",
    "C_VDE_VMNET",
    "DPDK",
    "NOBODY",
    "OURS",
    "PASST",
    "QEMU_TAP",
    "QEMU_USER",
    "REFERENCE",
    "Comparison",
    "Curve",
    "Relation",
    "Row",
    "Sample",
    "Subject",
    "Target",
    "Verdict",
    "compare",
]

#: Names of the systems under test, as they stand in results: ours, and its rivals. A scenario has one rival.
OURS = "vde_vmnet"
REFERENCE = "vde_switch"
PASST = "passt"
QEMU_TAP = "QEMU tap"
QEMU_USER = "QEMU user"
DPDK = "dpdk-testpmd"
C_VDE_VMNET = "the C vde_vmnet"
C_SOCKET_VMNET = "the C socket_vmnet"
#: The rival of a scenario that measures ours alone.
NOBODY = ""


@dataclass(frozen=True)
class Sample:
    """What one system gave in one round."""

    system: str
    round: int
    #: By the key of a row; a row that this system cannot fill is absent.
    values: Mapping[str, float]
    #: What the values were computed from, kept in the raw result for whoever doubts them.
    detail: Mapping[str, object] = field(default_factory=dict)


class Subject(enum.Enum):
    """What a target speaks about; its median is judged."""

    RATIO = "ratio"
    OURS = "ours"


class Relation(enum.Enum):
    """How the subject must relate to the limit."""

    AT_LEAST = "≥"
    AT_MOST = "≤"
    BELOW = "<"

    def holds(self, value: float, limit: float) -> bool:
        if self is Relation.AT_LEAST:
            return value >= limit
        return value <= limit if self is Relation.AT_MOST else value < limit


@dataclass(frozen=True)
class Target:
    """What the project promises for a row."""

    subject: Subject
    relation: Relation
    limit: float


@dataclass(frozen=True)
class Curve:
    """Rows that are points of one curve share it."""

    #: A word, for its file.
    name: str
    label: str
    #: What the points differ in.
    axis: str


@dataclass(frozen=True)
class Row:
    """One number of a scenario."""

    key: str
    label: str
    #: Empty for a pure number.
    unit: str = ""
    target: Target | None = None
    #: False where the two systems' values are no multiples of each other: both near 0, or a share already.
    has_ratio: bool = True
    curve: Curve | None = None
    #: Where on the curve's axis.
    at: float = 0.0


class Verdict(enum.Enum):
    """What became of a row's target."""

    MET = "met"
    MISSED = "MISSED"
    UNMEASURED = "NOT MEASURED"
    NONE = ""


@dataclass(frozen=True)
class Comparison:
    """A filled row; a spread is None where there was nothing to measure."""

    row: Row
    ours: Spread | None
    reference: Spread | None
    #: Ours ÷ reference, round by round.
    ratio: Spread | None
    verdict: Verdict


def compare(row: Row, samples: Sequence[Sample]) -> Comparison:
    """Fill one row from the samples of its scenario."""
    ours = _by_round(row.key, [sample for sample in samples if sample.system == OURS])
    reference = _by_round(row.key, [sample for sample in samples if sample.system != OURS])
    comparison = Comparison(
        row,
        Spread.of(list(ours.values())),
        Spread.of(list(reference.values())),
        Spread.of(ratios(ours, reference)) if row.has_ratio else None,
        Verdict.NONE,
    )
    return Comparison(row, comparison.ours, comparison.reference, comparison.ratio, _judge(comparison))


def _by_round(key: str, samples: Sequence[Sample]) -> dict[int, float]:
    return {sample.round: sample.values[key] for sample in samples if key in sample.values}


def _judge(comparison: Comparison) -> Verdict:
    target = comparison.row.target
    if target is None:
        return Verdict.NONE
    subject = comparison.ratio if target.subject is Subject.RATIO else comparison.ours
    if subject is None:
        return Verdict.UNMEASURED
    return Verdict.MET if target.relation.holds(subject.median, target.limit) else Verdict.MISSED
