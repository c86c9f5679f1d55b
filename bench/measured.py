"""A stored result, read back for drawing: its filled rows, flat. Pure but for the reading."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.errors import BenchError
from bench.spread import Spread

__all__ = ["Measured", "Point", "Promise", "Value", "read"]

#: What older results look like is in git.
_FORMAT = 3


@dataclass(frozen=True)
class Point:
    """Where a row stands on a curve."""

    name: str
    label: str
    axis: str
    at: float


@dataclass(frozen=True)
class Promise:
    """What is promised for a row."""

    #: Of the ratio to the rival's, and not of our value.
    of_ratio: bool
    limit: float
    #: May the value be more than the limit, or less?
    at_least: bool
    missed: bool


@dataclass(frozen=True)
class Value:
    """One filled row of the table."""

    scenario: str
    rival: str
    label: str
    unit: str
    ours: Spread | None
    theirs: Spread | None
    ratio: Spread | None
    promise: Promise | None
    point: Point | None


@dataclass(frozen=True)
class Measured:
    """One run of the bench."""

    #: When, on what, and in how many rounds: a line to stand below a drawing.
    caption: str
    values: Sequence[Value]


def read(raw: Path) -> Measured:
    """Raises BenchError when it is not a result of this version."""
    try:
        document: dict[str, Any] = json.loads(raw.read_text())
    except (OSError, ValueError) as error:
        raise BenchError(f"{raw}: {error}") from error
    if document.get("format") != _FORMAT:
        raise BenchError(f"{raw} has format {document.get('format')}, and only {_FORMAT} can be drawn")
    machine = document["machine"]
    caption = (
        f"{document['date'][:10]}, {machine['processor']}, {machine['cores']} cores"
        f"{', virtual' if machine['virtual'] == 'yes' else ''}, {machine['kernel'].split('-')[0]}; "
        f"{document['effort']['rounds']} rounds: median, smallest, largest"
    )
    return Measured(
        caption,
        [
            _value(scenario, comparison)
            for scenario in document["scenarios"]
            for comparison in scenario["comparisons"]
        ],
    )


def _value(scenario: Mapping[str, Any], comparison: Mapping[str, Any]) -> Value:
    promised, curve = comparison["limit"], comparison["curve"]
    missed = comparison["verdict"] == "MISSED"
    return Value(
        scenario["name"],
        scenario["rival"],
        comparison["label"],
        comparison["unit"],
        _spread(comparison["ours"]),
        _spread(comparison["reference"]),
        _spread(comparison["ratio"]),
        Promise(promised["subject"] == "ratio", promised["value"], promised["relation"] == "≥", missed)
        if promised
        else None,
        Point(**curve) if curve else None,
    )


def _spread(stored: Mapping[str, float] | None) -> Spread | None:
    return Spread(stored["minimum"], stored["median"], stored["maximum"]) if stored else None
