"""bench/report.py: the raw result and the table."""

from __future__ import annotations

import json

import pytest
from bench.compare import OURS, REFERENCE, Relation, Row, Sample, Subject, Target
from bench.report import Run, ScenarioResult, from_json, number, to_json, to_markdown, to_page

_ROWS = (
    Row("rate", "delivered", "frames/s", Target(Subject.RATIO, Relation.AT_LEAST, 1.2)),
    Row("loss", "lost", "%", Target(Subject.OURS, Relation.BELOW, 1.0), has_ratio=False),
)


def _run(ours: float = 372_000.0, *, failure: str = "") -> Run:
    samples = [
        Sample(OURS, 0, {"rate": ours, "loss": 0.25}, {"sent": 7}),
        Sample(REFERENCE, 0, {"rate": 186_000.0, "loss": 2.0}),
        Sample(OURS, 1, {"rate": ours, "loss": 0.5}),
        Sample(REFERENCE, 1, {"rate": 93_000.0, "loss": 2.0}),
    ]
    result = ScenarioResult("pairs", "One pair", REFERENCE, _ROWS, samples, failure)
    machine = {"cores": "2", "processor": "Some CPU"}
    return Run("2026-01-02T03:04:05+00:00", {"name": "quick"}, machine, (0.5, 0.25, 0.1), [result])


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (372_000.0, "372,000"),
        (372_499.0, "372,000"),
        (1_234_567.0, "1,230,000"),
        (1514.0, "1,510"),
        (999.6, "1,000"),
        (3.0, "3"),
        (3.14159, "3.14"),
        (0.012345, "0.0123"),
        (-2.5, "-2.5"),
        (float("inf"), "inf"),
    ],
)
def test_numbers_have_three_digits(value: float, text: str) -> None:
    assert number(value) == text


def test_a_line_has_medians_the_spread_of_the_ratio_and_the_verdict() -> None:
    table = to_markdown(_run())
    assert "| delivered, frames/s | 372,000 | 140,000 (93,000 … 186,000) | 3 (2 … 4) | ≥ 1.2 × | met |" in table
    assert "| lost, % | 0.375 (0.25 … 0.5) | 2 | – | < 1 | met |" in table
    assert "No target was missed." in table


def test_a_missed_target_is_said_plainly() -> None:
    table = to_markdown(_run(ours=93_000.0))
    assert "| ≥ 1.2 × | MISSED |" in table
    assert "Targets missed:\n- One pair: delivered: 0.75, promised ≥ 1.2 ×" in table


def test_what_could_not_be_measured_is_said_and_makes_the_run_incomplete() -> None:
    run = _run(failure="no such | program")
    table = to_markdown(run)
    assert "| **One pair** | | vde_switch | | | not measured, see below |" in table
    assert "Not measured:\n- One pair: no such | program" in table
    assert not run.complete
    assert _run().complete


def test_the_raw_result_keeps_every_sample() -> None:
    document = json.loads(to_json(_run()))
    assert document["date"] == "2026-01-02T03:04:05+00:00"
    assert document["machine"]["processor"] == "Some CPU"
    [scenario] = document["scenarios"]
    assert [(sample["system"], sample["round"]) for sample in scenario["samples"]] == [
        (OURS, 0),
        (REFERENCE, 0),
        (OURS, 1),
        (REFERENCE, 1),
    ]
    assert scenario["samples"][0]["detail"] == {"sent": 7}
    assert scenario["comparisons"][0]["ratio"] == {"minimum": 2.0, "median": 3.0, "maximum": 4.0}
    assert scenario["comparisons"][1]["ratio"] is None
    assert scenario["comparisons"][0]["verdict"] == "met"


def test_every_line_of_the_table_has_the_same_number_of_fields() -> None:
    lines = [line for line in to_markdown(_run()).splitlines() if line.startswith("|")]
    assert {line.count("|") for line in lines} == {7}


def test_a_page_shows_drawings_before_the_table() -> None:
    page = to_page("| table |\n", "../2026-01/box/02-030405.json", ["ratios.svg", "rates.svg"])
    assert "[its samples](../2026-01/box/02-030405.json)" in page
    assert page.index("![ratios](ratios.svg)") < page.index("![rates](rates.svg)") < page.index("| table |")


def test_a_stored_run_is_read_back_and_compared_anew() -> None:
    run = _run()
    again = from_json(to_json(run), {"pairs": _ROWS})
    assert to_json(again) == to_json(run)
    assert to_markdown(again) == to_markdown(run)


def test_a_scenario_that_is_no_more_is_not_read() -> None:
    with pytest.raises(KeyError, match="pairs"):
        from_json(to_json(_run()), {})
