"""bench/compare.py: from samples to a verdict."""

from __future__ import annotations

import pytest
from bench.compare import OURS, REFERENCE, Relation, Row, Sample, Subject, Target, Verdict, compare
from bench.spread import Spread


def _samples(ours: list[float], reference: list[float], key: str = "rate") -> list[Sample]:
    return [
        Sample(system, number, {key: value})
        for system, values in ((OURS, ours), (REFERENCE, reference))
        for number, value in enumerate(values)
    ]


def _row(subject: Subject, relation: Relation, limit: float) -> Row:
    return Row("rate", "delivered", "frames/s", Target(subject, relation, limit))


def test_spreads_of_both_and_of_the_ratios() -> None:
    comparison = compare(Row("rate", "delivered"), _samples([10.0, 40.0, 20.0], [10.0, 10.0, 10.0]))
    assert comparison.ours == Spread(10.0, 20.0, 40.0)
    assert comparison.reference == Spread(10.0, 10.0, 10.0)
    assert comparison.ratio == Spread(1.0, 2.0, 4.0)
    assert comparison.verdict is Verdict.NONE


@pytest.mark.parametrize(
    ("relation", "limit", "verdict"),
    [
        (Relation.AT_LEAST, 2.0, Verdict.MET),
        (Relation.AT_LEAST, 2.01, Verdict.MISSED),
        (Relation.AT_MOST, 2.0, Verdict.MET),
        (Relation.AT_MOST, 1.99, Verdict.MISSED),
        (Relation.BELOW, 2.0, Verdict.MISSED),
        (Relation.BELOW, 2.01, Verdict.MET),
    ],
)
def test_the_median_ratio_is_judged(relation: Relation, limit: float, verdict: Verdict) -> None:
    samples = _samples([10.0, 40.0, 20.0], [10.0, 10.0, 10.0])
    assert compare(_row(Subject.RATIO, relation, limit), samples).verdict is verdict


def test_a_promise_about_ours_alone_needs_no_reference() -> None:
    comparison = compare(_row(Subject.OURS, Relation.BELOW, 0.5), _samples([0.4, 0.1, 0.6], []))
    assert comparison.verdict is Verdict.MET
    assert comparison.reference is None
    assert comparison.ratio is None


@pytest.mark.parametrize("subject", list(Subject))
def test_a_promise_without_samples_is_not_kept_and_not_broken(subject: Subject) -> None:
    assert compare(_row(subject, Relation.AT_LEAST, 1.0), []).verdict is Verdict.UNMEASURED


def test_a_promised_ratio_without_the_reference_is_unmeasured() -> None:
    row = _row(Subject.RATIO, Relation.AT_LEAST, 1.0)
    assert compare(row, _samples([5.0], [])).verdict is Verdict.UNMEASURED


def test_other_keys_do_not_count() -> None:
    samples = [*_samples([10.0], [5.0]), *_samples([99.0], [1.0], key="loss")]
    assert compare(Row("rate", "delivered"), samples).ratio == Spread(2.0, 2.0, 2.0)


def test_no_ratio_where_it_would_mean_nothing() -> None:
    comparison = compare(Row("rate", "lost", "%", has_ratio=False), _samples([0.01], [2.0]))
    assert comparison.ratio is None
    assert comparison.ours is not None
