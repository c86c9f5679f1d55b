"""Results as files: raw, as a table, and the page that shows the last one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

from bench import machine, plot, report
from bench.compare import Row
from bench.errors import BenchError

__all__ = ["place", "read", "show", "write"]

#: Beside the months.
_LATEST = "latest"


def place(run: report.Run, root: Path) -> Path:
    """Where below ``root`` its samples belong."""
    when = datetime.fromisoformat(run.date)
    return root / f"{when:%Y-%m}" / machine.slug(run.machine) / f"{when:%d-%H%M%S}.json"


def write(run: report.Run, raw: Path) -> Path:
    """Write the samples to ``raw`` and the table beside it; ``raw``."""
    raw.parent.mkdir(parents=True, exist_ok=True)
    raw.write_text(report.to_json(run))
    raw.with_suffix(".md").write_text(report.to_markdown(run))
    return raw


def read(raw: Path, rows: Mapping[str, Sequence[Row]]) -> report.Run:
    """What was written; ``rows`` are those of the scenarios now. Raises BenchError."""
    try:
        return report.from_json(raw.read_text(), rows)
    except OSError as error:
        raise BenchError(f"{raw}: {error.strerror}") from error
    except (ValueError, KeyError) as error:
        raise BenchError(f"{raw} is no result of this version of the bench: {error}") from error


def show(run: report.Run, raw: Path) -> Path:
    """Draw the result ``raw`` and show it as the latest; the page. Raises BenchError."""
    folder = raw.resolve().parents[2] / _LATEST
    shutil.rmtree(folder, ignore_errors=True)
    drawings = [drawn.name for drawn in plot.draw(raw, folder)]
    page = folder / "README.md"
    page.write_text(report.to_page(report.to_markdown(run), os.path.relpath(raw, folder), drawings))
    return page
