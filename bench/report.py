"""A run as JSON (raw, to be kept) and as Markdown (to be read). Pure.

The Markdown is made from the same document as the JSON, so that an old result can be rendered again.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

from bench.compare import Comparison, Row, Sample, Subject, Target, Verdict, compare
from bench.spread import Spread

__all__ = ["Run", "ScenarioResult", "from_json", "number", "to_json", "to_markdown", "to_page"]

#: Raised when the form of the JSON changes.
_FORMAT = 3
_NOTHING = "–"


@dataclass(frozen=True)
class ScenarioResult:
    """What one scenario gave."""

    name: str
    title: str
    #: Whom ours was compared with.
    rival: str
    rows: Sequence[Row]
    samples: Sequence[Sample]
    #: Why it could not be measured, or not to the end; empty when it was.
    failure: str = ""
    #: How long all its rounds took.
    seconds: float = 0.0

    def comparisons(self) -> list[Comparison]:
        return [compare(row, self.samples) for row in self.rows]


@dataclass(frozen=True)
class Run:
    """One call of the bench."""

    #: ISO 8601 with the offset from UTC.
    date: str
    #: ``quick`` or ``full``, and the numbers that follow from it.
    effort: Mapping[str, object]
    machine: Mapping[str, str]
    #: The load average when the run began: what else the machine had to do.
    load: Sequence[float]
    results: Sequence[ScenarioResult] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Whether everything that was asked for could be measured."""
        return not any(result.failure for result in self.results)


def to_json(run: Run) -> str:
    """The raw result, with the comparisons that the table shows."""
    document = {
        "format": _FORMAT,
        "date": run.date,
        "effort": dict(run.effort),
        "machine": dict(run.machine),
        "load": list(run.load),
        "scenarios": [_scenario(result) for result in run.results],
    }
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def from_json(text: str, rows: Mapping[str, Sequence[Row]]) -> Run:
    """The run whose raw result this is. ``rows`` by scenario: their comparisons are made anew.

    Raises ValueError or KeyError when it is none of this version, or has a scenario that is not in ``rows``.
    """
    document = json.loads(text)
    if document["format"] != _FORMAT:
        raise ValueError(f"its format is {document['format']} and not {_FORMAT}")
    results = [
        ScenarioResult(
            stored["name"],
            stored["title"],
            stored["rival"],
            rows[stored["name"]],
            [Sample(**sample) for sample in stored["samples"]],
            stored["failure"],
            stored["seconds"],
        )
        for stored in document["scenarios"]
    ]
    return Run(document["date"], document["effort"], document["machine"], document["load"], results)


def _scenario(result: ScenarioResult) -> dict[str, object]:
    return {
        "name": result.name,
        "title": result.title,
        "rival": result.rival,
        "failure": result.failure,
        "seconds": result.seconds,
        "samples": [
            {
                "system": sample.system,
                "round": sample.round,
                "values": dict(sample.values),
                "detail": dict(sample.detail),
            }
            for sample in result.samples
        ],
        "comparisons": [_comparison(comparison) for comparison in result.comparisons()],
    }


def _comparison(comparison: Comparison) -> dict[str, object]:
    row = comparison.row
    curve = {**asdict(row.curve), "at": row.at} if row.curve else None
    return {
        "key": row.key,
        "label": row.label,
        "unit": row.unit,
        "ours": asdict(comparison.ours) if comparison.ours else None,
        "reference": asdict(comparison.reference) if comparison.reference else None,
        "ratio": asdict(comparison.ratio) if comparison.ratio else None,
        "target": _target(row.target) if row.target else "",
        "limit": _limit(row.target) if row.target else None,
        "verdict": comparison.verdict.value,
        "curve": curve,
    }


def _limit(target: Target) -> dict[str, object]:
    return {"subject": target.subject.value, "relation": target.relation.value, "value": target.limit}


def to_markdown(run: Run) -> str:
    """One table, the machine below it, and a sentence about what was missed."""
    lines = [
        "| what | ours | rival | ours ÷ rival | target | |",
        "|---|---|---|---|---|---|",
    ]
    missed: list[str] = []
    for result in run.results:
        unmeasured = "not measured, see below" if result.failure else ""
        lines.append(f"| **{result.title}** | | {result.rival or _NOTHING} | | | {unmeasured} |")
        for comparison in result.comparisons():
            lines.append(_line(comparison))
            if comparison.verdict is Verdict.MISSED:
                missed.append(f"- {result.title}: {_missed(comparison)}")
    lines += [
        "",
        "Each field: median (smallest … largest) over the rounds; ratios are taken within a round.",
        "The median is judged.",
        "",
        *(["Targets missed:", *missed] if missed else ["No target was missed."]),
        *_unmeasured(run.results),
        "",
        f"{run.date}; {', '.join(f'{key} {value}' for key, value in run.effort.items())}.",
        f"It took {sum(result.seconds for result in run.results) / 60:.1f} minutes.",
        f"Load average before: {' '.join(f'{value:.2f}' for value in run.load)}.",
        "; ".join(f"{key}: {value}" for key, value in run.machine.items()) + ".",
    ]
    return "\n".join(lines) + "\n"


def to_page(table: str, raw: str, drawings: Sequence[str]) -> str:
    """The table behind drawings, which are beside the page; ``raw`` is the way to the samples."""
    pictures = [f"![{name.removesuffix('.svg')}]({name})" for name in drawings]
    head = ["# The last run", "", f"Drawn from [its samples]({raw}).", ""]
    return "\n".join([*head, "\n\n".join(pictures), "", table])


def _unmeasured(results: Sequence[ScenarioResult]) -> list[str]:
    failed = [f"- {result.title}: {result.failure}".rstrip() for result in results if result.failure]
    return ["", "Not measured:", *failed] if failed else []


def _line(comparison: Comparison) -> str:
    row = comparison.row
    label = f"{row.label}, {row.unit}" if row.unit else row.label
    fields = [
        label,
        _spread(comparison.ours),
        _spread(comparison.reference),
        _spread(comparison.ratio),
        _target(row.target) if row.target else "",
        comparison.verdict.value,
    ]
    return "| " + " | ".join(fields) + " |"


def _missed(comparison: Comparison) -> str:
    target = comparison.row.target
    assert target is not None
    subject = comparison.ratio if target.subject is Subject.RATIO else comparison.ours
    assert subject is not None
    return f"{comparison.row.label}: {number(subject.median)}, promised {_target(target)}"


def _target(target: Target) -> str:
    unit = " ×" if target.subject is Subject.RATIO else ""
    return f"{target.relation.value} {number(target.limit)}{unit}"


def _spread(spread: Spread | None) -> str:
    if spread is None:
        return _NOTHING
    if spread.minimum == spread.maximum:
        return number(spread.median)
    return f"{number(spread.median)} ({number(spread.minimum)} … {number(spread.maximum)})"


def number(value: float) -> str:
    """Three significant digits, thousands set apart: 372000 is ``372,000``, 0.01234 is ``0.0123``."""
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else str(value)
    digits = 2 - math.floor(math.log10(abs(value)))
    rounded = round(value, digits)
    text = f"{rounded:,.{max(digits, 0)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
