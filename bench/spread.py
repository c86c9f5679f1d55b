"""Statistics of a handful of samples: the smallest, the median and the largest, nothing finer. Pure.

With five to ten samples on a shared machine a mean follows the outliers and a standard deviation pretends to a
distribution nobody knows; the three numbers say all there is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

__all__ = ["Spread", "percentile", "ratios"]


@dataclass(frozen=True)
class Spread:
    """Smallest, middle and largest of some samples, in the samples' unit."""

    minimum: float
    median: float
    maximum: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread | None:
        """None when there are no samples."""
        if not values:
            return None
        return cls(min(values), median(values), max(values))


def ratios(ours: Mapping[int, float], reference: Mapping[int, float]) -> list[float]:
    """Ours ÷ reference within each round that has both, in the order of rounds.

    The two samples of a round were taken one right after the other, so that what the machine did meanwhile
    touches both. A round whose reference is 0 has no ratio.
    """
    both = sorted(ours.keys() & reference.keys())
    return [ours[number] / reference[number] for number in both if reference[number] != 0]


def percentile(values: Sequence[float], share: float) -> float:
    """The nearest-rank percentile: the smallest value that at least ``share`` (0…1] of all do not exceed.

    Raises ValueError without values or for a share outside the range.
    """
    if not values:
        raise ValueError("a percentile needs at least one value")
    if not 0 < share <= 1:
        raise ValueError(f"the share {share} is not above 0 and at most 1")
    return sorted(values)[math.ceil(share * len(values)) - 1]
