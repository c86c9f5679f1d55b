"""bench/plot.py and bench/measured.py: a stored result is read back, and drawn."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path

import pytest
from bench.compare import NOBODY, OURS, REFERENCE, Curve, Relation, Row, Sample, Subject, Target
from bench.errors import BenchError
from bench.measured import Point, Promise, read
from bench.plot import draw, main
from bench.report import Run, ScenarioResult, to_json
from bench.spread import Spread

_MACHINE = {"processor": "Some CPU", "cores": "2", "virtual": "yes", "kernel": "Linux 6.18.1-x y86"}
_CURVE = Curve("frames", "All at full speed", "ports")


def _result(name: str, rival: str, row: Row, ours: list[float], theirs: list[float]) -> ScenarioResult:
    samples = [
        Sample(system, number, {row.key: value})
        for system, values in ((OURS, ours), (rival, theirs))
        for number, value in enumerate(values)
    ]
    return ScenarioResult(name, name.title(), rival, [row], samples)


def _stored(folder: Path, *results: ScenarioResult) -> Path:
    run = Run("2026-01-02T03:04:05+00:00", {"rounds": 2}, _MACHINE, (0.1,), results)
    raw = folder / "raw.json"
    raw.write_text(to_json(run))
    return raw


def _promised(relation: Relation, limit: float, unit: str = "Gbit/s") -> Row:
    return Row("rate", "to guest", unit, Target(Subject.RATIO, relation, limit))


_FAST = _result("fast", REFERENCE, _promised(Relation.AT_LEAST, 2.0), [3.0, 4.0], [1.0, 1.0])
_SLOW = _result("slow", REFERENCE, _promised(Relation.AT_LEAST, 2.0), [1.0, 1.5], [1.0, 1.0])
_LIGHT = _result("light", REFERENCE, _promised(Relation.AT_MOST, 0.6, "s per GB"), [1.0], [2.0])
_SHARE = Row("kept", "with them", target=Target(Subject.OURS, Relation.AT_LEAST, 0.97), has_ratio=False)
_ITSELF = _result("itself", NOBODY, _SHARE, [0.99, 1.0], [])


def _point(at: float, ours: float) -> ScenarioResult:
    row = Row(f"frames_{at}", f"{at} ports", "frames/s", curve=_CURVE, at=at)
    return _result("scaling", REFERENCE, row, [ours], [ours / 2])


def test_a_stored_result_is_read_back(tmp_path: Path) -> None:
    measured = read(_stored(tmp_path, _SLOW, _ITSELF, _point(4, 8.0)))
    assert "Some CPU, 2 cores, virtual, Linux 6.18.1; 2 rounds" in measured.caption
    slow, itself, point = measured.values
    assert slow.ratio == Spread(1.0, 1.25, 1.5)
    assert slow.promise == Promise(of_ratio=True, limit=2.0, at_least=True, missed=True)
    assert itself.promise == Promise(of_ratio=False, limit=0.97, at_least=True, missed=False)
    assert itself.theirs is None
    assert point.point == Point("frames", "All at full speed", "ports", 4)
    assert point.promise is None


def test_an_older_result_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw = _stored(tmp_path, _FAST)
    raw.write_text(json.dumps({**json.loads(raw.read_text()), "format": 2}))
    with pytest.raises(BenchError, match="has format 2"):
        read(raw)
    assert main([str(raw), "--folder", str(tmp_path)]) == 1
    assert "has format 2" in capsys.readouterr().err


def _texts(drawn: Path) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", drawn.read_text())).split())


def test_promises_rates_costs_and_curves_are_drawn(tmp_path: Path) -> None:
    raw = _stored(tmp_path, _FAST, _SLOW, _LIGHT, _ITSELF, _point(2, 5.0), _point(4, 8.0))
    drawn = {path.name: _texts(path) for path in draw(raw, tmp_path / "plots")}
    assert set(drawn) == {"ratios.svg", "itself.svg", "rates.svg", "costs.svg", "scaling-frames.svg"}
    ratios = drawn["ratios.svg"]
    assert "fast: to guest" in ratios and "3.5 ×" in ratios
    assert "slow: to guest" in ratios and "1.25 ×" in ratios
    assert "ours ÷ rival: more is better" in ratios and "ours ÷ rival: less is better" in ratios
    assert "0.995 ×" in drawn["itself.svg"] and "ours ÷ ours: more is better" in drawn["itself.svg"]
    assert "Gbit/s" in drawn["rates.svg"] and "s per GB" in drawn["costs.svg"]
    assert "All at full speed" in drawn["scaling-frames.svg"] and "frames/s" in drawn["scaling-frames.svg"]
    assert all("2026-01-02, Some CPU" in text for text in drawn.values())


def test_a_missed_promise_has_another_colour(tmp_path: Path) -> None:
    def colours(result: ScenarioResult) -> tuple[int, int]:
        (drawn,) = (one for one in draw(_stored(tmp_path, result), tmp_path) if one.name == "ratios.svg")
        text = drawn.read_text().lower()
        return text.count("#0072b2"), text.count("#d55e00")

    kept, missed = colours(_FAST), colours(_SLOW)
    assert kept[0] > missed[0]
    assert kept[1] < missed[1]


def test_the_same_result_gives_the_same_files(tmp_path: Path) -> None:
    raw = _stored(tmp_path, _FAST, _point(2, 5.0), _point(4, 8.0))
    first = [path.read_bytes() for path in draw(raw, tmp_path / "first")]
    assert first == [path.read_bytes() for path in draw(raw, tmp_path / "second")]


def test_nothing_measured_is_nothing_drawn(tmp_path: Path) -> None:
    nothing = _result("fast", REFERENCE, _promised(Relation.AT_LEAST, 2.0), [], [])
    assert draw(_stored(tmp_path, nothing), tmp_path) == []
