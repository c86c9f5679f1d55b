"""``python -m bench.plot RESULT.json``: draw a stored result.

``ratios`` all that is promised against a rival, ``itself`` against ours in other company; ``rates`` and
``costs`` what both did; and each curve.
Whiskers reach from the smallest to the largest sample. On white, to be read on any page.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter, NullLocator

from bench.errors import BenchError
from bench.measured import Promise, Value, read
from bench.report import number
from bench.spread import Spread

__all__ = ["draw", "main"]

# Told apart by the colour-blind too (Okabe and Ito), and in print by their lightness.
_OURS, _THEIRS, _MISSED = "#0072B2", "#E69F00", "#D55E00"
_BAR = 0.38
_INCHES_PER_BAR = 0.3
_WIDTH = 9.0
_STYLE: dict[Any, Any] = {
    # The same result gives the same file; text stays text.
    "svg.hashsalt": "vde_vmnet",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
}
_RATE_UNITS = ("Gbit/s", "frames/s", "million frames/s")
#: Of rows that are a multiple of ours by itself.
_SHARES = ("", "×")
_COST_UNITS = ("s per GB", "s per million frames", "µs", "MB")


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw what the command line names; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.plot", description="Draw a stored result.")
    parser.add_argument("result", type=Path, metavar="RESULT.json")
    parser.add_argument("--folder", type=Path, help="where to (default: latest, beside the result's month)")
    parser.add_argument("--format", choices=("svg", "png"), default="svg")
    options = parser.parse_args(arguments)
    folder = options.folder or options.result.resolve().parents[2] / "latest"
    try:
        drawn = draw(options.result, folder, options.format)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    for path in drawn:
        print(path)
    return 0


def draw(raw: Path, folder: Path, kind: str = "svg") -> list[Path]:
    """Draw all that ``raw`` has into ``folder``; the files. Raises BenchError."""
    measured = read(raw)
    figures = {
        "ratios": _promises(measured.values, of_ratio=True),
        "itself": _promises(measured.values, of_ratio=False),
        "rates": _both(measured.values, _RATE_UNITS),
        "costs": _both(measured.values, _COST_UNITS),
        **_curves(measured.values),
    }
    folder.mkdir(parents=True, exist_ok=True)
    drawn = []
    for name, make in figures.items():
        if make is None:
            continue
        with mpl.rc_context(_STYLE):
            figure = make()
            figure.supxlabel(measured.caption, fontsize=7, color="#555555")
            path = folder / f"{name}.{kind}"
            figure.savefig(path, metadata={"Date": None} if kind == "svg" else None, dpi=110)
            drawn.append(path)
    return drawn


# -- what is promised ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Kept:
    """What became of one promise."""

    name: str
    share: Spread
    promise: Promise


def _kept(value: Value) -> _Kept | None:
    """None where nothing is promised, or not in multiples of anything."""
    if value.promise is None:
        return None
    if value.promise.of_ratio:
        return _Kept(_name(value), value.ratio, value.promise) if value.ratio else None
    if value.unit not in _SHARES or value.ours is None:
        return None
    return _Kept(f"{value.scenario}: {value.label}", value.ours, value.promise)


def _promises(values: Sequence[Value], *, of_ratio: bool) -> Callable[[], Figure] | None:
    kept = [one for one in map(_kept, values) if one is not None and one.promise.of_ratio is of_ratio]
    against = "rival" if of_ratio else "ours"
    panels = [
        (f"ours ÷ {against}: {better} is better", [one for one in kept if one.promise.at_least is at_least])
        for better, at_least in (("more", True), ("less", False))
    ]
    panels = [(title, members) for title, members in panels if members]
    if not panels:
        return None

    def make() -> Figure:
        figure, axes = _panels([len(members) for _, members in panels])
        for axis, (title, members) in zip(axes, panels, strict=True):
            _ratio_bars(axis, members)
            axis.set_xlabel(f"{title} (×, logarithmic)")
        axes[0].plot([], [], color="black", linewidth=2, label="what is promised")
        _legend(axes[0], (("kept", _OURS), ("missed", _MISSED)))
        return figure

    return make


def _ratio_bars(axis: Axes, members: Sequence[_Kept]) -> None:
    axis.set_xscale("log")
    for place, one in enumerate(members):
        middle, limit = one.share.median, one.promise.limit
        # From 1: to the right more, to the left less. A logarithmic axis has no 0 to begin at.
        axis.barh(place, middle - 1, 0.6, left=1, color=_MISSED if one.promise.missed else _OURS)
        _whisker(axis, place, one.share)
        axis.plot([limit] * 2, [place - 0.42, place + 0.42], color="black", linewidth=2)
        axis.annotate(
            f"{number(middle)} ×",
            (max(one.share.maximum, limit, 1), place),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
        )
    axis.axvline(1, color="black", linewidth=0.8)
    _labels(axis, [one.name for one in members])
    edges = [1.0, *(one.promise.limit for one in members)]
    lows, highs = [one.share.minimum for one in members], [one.share.maximum for one in members]
    low, high = min(*edges, *lows), max(*edges, *highs)
    # Some room, and for the number behind the longest bar a tenth of the axis.
    _logarithmic(axis, low / (high / low) ** 0.03, high * (high / low) ** 0.1)


def _logarithmic(axis: Axes, low: float, high: float) -> None:
    """Plain numbers, as many as there is room for."""
    axis.set_xlim(low, high)
    if high / low > 3:
        ticks = [digit * 10.0**power for power in range(-3, 5) for digit in (1, 2, 5)]
    else:
        ticks = [float(tick) for tick in MaxNLocator(6).tick_values(low, high)]
    axis.set_xticks([tick for tick in ticks if low <= tick <= high])
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_minor_formatter(NullFormatter())


# -- what both did ---------------------------------------------------------------------------------------


def _both(values: Sequence[Value], units: Sequence[str]) -> Callable[[], Figure] | None:
    """A panel for each unit: ours above its rival."""
    panels = [
        (unit, [value for value in values if value.unit == unit and value.point is None and value.ours])
        for unit in units
    ]
    panels = [(unit, members) for unit, members in panels if members]
    if not panels:
        return None

    def make() -> Figure:
        figure, axes = _panels([len(members) for _, members in panels])
        for axis, (unit, members) in zip(axes, panels, strict=True):
            for place, value in enumerate(members):
                _bar(axis, place - _BAR / 2, value.ours, _OURS)
                _bar(axis, place + _BAR / 2, value.theirs, _THEIRS)
            _labels(axis, [_name(value) for value in members])
            axis.set_xlim(left=0)
            axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
            axis.set_xlabel(unit)
        _legend(axes[0], (("vde_vmnet", _OURS), ("rival", _THEIRS)))
        return figure

    return make


def _name(value: Value) -> str:
    against = f"\nagainst {value.rival}" if value.theirs is not None else ""
    return f"{value.scenario}: {value.label}{against}"


def _bar(axis: Axes, place: float, spread: Spread | None, colour: str) -> None:
    if spread is not None:
        axis.barh(place, spread.median, _BAR, color=colour)
        _whisker(axis, place, spread)


# -- curves ----------------------------------------------------------------------------------------------


def _curves(values: Sequence[Value]) -> dict[str, Callable[[], Figure]]:
    """By a file's name."""
    curves: dict[str, list[Value]] = {}
    for value in values:
        if value.point is not None and value.ours is not None:
            curves.setdefault(f"{value.scenario}-{value.point.name}", []).append(value)

    def maker(members: list[Value]) -> Callable[[], Figure]:
        return lambda: _curve(members)

    return {name: maker(members) for name, members in curves.items()}


def _curve(members: Sequence[Value]) -> Figure:
    figure = Figure(figsize=(_WIDTH, 4.2), layout="constrained")
    axis = figure.subplots()
    point = members[0].point
    assert point is not None
    # As far from one another on paper, whatever lies between them: 0, 4, 16 or powers of two.
    names = [number(value.point.at) for value in members if value.point is not None]
    places = range(len(members))
    sides = (
        ("vde_vmnet", [value.ours for value in members], _OURS, "o"),
        (members[0].rival, [value.theirs for value in members], _THEIRS, "s"),
    )
    for name, spreads, colour, marker in sides:
        there = [(place, spread) for place, spread in zip(places, spreads, strict=True) if spread is not None]
        if not there:
            continue
        across = [place for place, _ in there]
        lows, highs = [spread.minimum for _, spread in there], [spread.maximum for _, spread in there]
        axis.fill_between(across, lows, highs, color=colour, alpha=0.2, linewidth=0)
        axis.plot(across, [spread.median for _, spread in there], color=colour, marker=marker, label=name)
    axis.set_xticks(places, names)
    axis.set_ylim(bottom=0)
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
    axis.grid(color="#dddddd")
    axis.set_title(point.label)
    axis.set_xlabel(point.axis)
    axis.set_ylabel(members[0].unit)
    axis.legend(loc="best")
    return figure


# -- shared ----------------------------------------------------------------------------------------------


def _panels(bars: Sequence[int]) -> tuple[Figure, list[Axes]]:
    """Panels below one another, as high as their bars need."""
    heights = [count * 2 * _INCHES_PER_BAR + 0.7 for count in bars]
    figure = Figure(figsize=(_WIDTH, sum(heights) + 0.4), layout="constrained")
    axes = figure.subplots(len(bars), 1, squeeze=False, height_ratios=heights)
    return figure, list(axes[:, 0])


def _whisker(axis: Axes, place: float, spread: Spread) -> None:
    axis.plot([spread.minimum, spread.maximum], [place, place], color="#333333", linewidth=1)
    for end in (spread.minimum, spread.maximum):
        axis.plot([end, end], [place - 0.12, place + 0.12], color="#333333", linewidth=1)


def _labels(axis: Axes, names: Sequence[str]) -> None:
    """Down the side, the first on top."""
    axis.set_yticks(range(len(names)), names, fontsize=8)
    axis.set_ylim(len(names) - 0.4, -0.6)
    axis.tick_params(axis="y", length=0)
    axis.grid(axis="x", color="#dddddd")


def _legend(axis: Axes, entries: Sequence[tuple[str, str]]) -> None:
    """Above the panel, where no bar is."""
    for name, colour in entries:
        axis.barh(0, 0, color=colour, label=name)
    axis.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=4)


if __name__ == "__main__":
    sys.exit(main())
