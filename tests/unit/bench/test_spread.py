"""bench/spread.py: what is said about a handful of samples."""

from __future__ import annotations

import pytest
from bench.spread import Spread, percentile, ratios
from hypothesis import given
from hypothesis import strategies as st

_VALUES = st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=40)


def test_the_middle_of_an_even_number_lies_between_two() -> None:
    assert Spread.of([4.0, 1.0, 3.0, 2.0]) == Spread(1.0, 2.5, 4.0)


def test_no_samples_have_no_spread() -> None:
    assert Spread.of([]) is None


@given(_VALUES)
def test_the_median_lies_within(values: list[float]) -> None:
    spread = Spread.of(values)
    assert spread is not None
    assert spread.minimum <= spread.median <= spread.maximum


def test_a_ratio_is_taken_within_a_round_that_has_both() -> None:
    ours = {0: 30.0, 1: 20.0, 3: 7.0}
    reference = {1: 10.0, 0: 10.0, 2: 99.0}
    assert ratios(ours, reference) == [3.0, 2.0]


def test_a_reference_of_zero_gives_no_ratio() -> None:
    assert ratios({0: 1.0, 1: 4.0}, {0: 0.0, 1: 2.0}) == [2.0]


@pytest.mark.parametrize(
    ("share", "expected"), [(0.01, 1.0), (0.5, 5.0), (0.51, 6.0), (0.9, 9.0), (0.99, 10.0), (1.0, 10.0)]
)
def test_nearest_rank(share: float, expected: float) -> None:
    values = [float(value) for value in range(10, 0, -1)]
    assert percentile(values, share) == expected


@given(_VALUES, st.floats(0.001, 1.0))
def test_a_percentile_is_a_sample_that_its_share_does_not_exceed(values: list[float], share: float) -> None:
    found = percentile(values, share)
    assert found in values
    assert sum(value <= found for value in values) / len(values) >= share - 1e-9


@pytest.mark.parametrize("share", [0.0, -0.1, 1.1])
def test_a_share_outside_the_range_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="share"):
        percentile([1.0], share)


def test_a_percentile_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        percentile([], 0.5)
