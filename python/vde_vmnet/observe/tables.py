"""Tables as values, and how they read in a pipe. Pure.

What guests and clients chose (names, commands) is shown as it is but for what a terminal would obey.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

__all__ = ["Column", "Table", "clean", "clock", "duration", "fitted", "moment", "tsv"]

#: Columns of a cell that may take several lines, at least; and between two cells.
_WRAPPED, _BETWEEN = 16, 3


@dataclass(frozen=True)
class Column:
    """One column; its name is what scripts look for."""

    name: str
    right: bool = False
    #: On a narrow terminal cells may take several lines.
    wrap: bool = False
    #: On a narrow terminal it is left out, those with the highest number first; 0 stays.
    spare: int = 0


@dataclass(frozen=True)
class Table:
    """Rows of cells; an empty cell is shown as ``-``."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    #: Said instead of an empty table, on a terminal.
    empty: str = "Nothing"


def clean(text: str) -> str:
    """One line without control characters."""
    return "".join(char if char.isprintable() else "?" for char in text)


def tsv(table: Table) -> str:
    """A line of names, then a line for each row, separated by tabs."""
    lines: Sequence[Sequence[str]] = [[column.name for column in table.columns], *table.rows]
    return "".join("\t".join(clean(cell) or "-" for cell in line) + "\n" for line in lines)


def fitted(table: Table, width: int) -> Table:
    """The table without what a terminal of that width has no room for."""
    kept = list(range(len(table.columns)))

    def needed(at: int) -> int:
        column = table.columns[at]
        widest = max((len(clean(row[at])) for row in table.rows), default=0)
        return max(len(column.name), min(widest, _WRAPPED) if column.wrap else widest) + _BETWEEN

    while sum(map(needed, kept)) - _BETWEEN > width:
        spare = max(kept, key=lambda at: table.columns[at].spare)
        if not table.columns[spare].spare:
            break
        kept.remove(spare)
    rows = tuple(tuple(row[at] for at in kept) for row in table.rows)
    return Table(tuple(table.columns[at] for at in kept), rows, table.empty)


def moment(seconds: float | None) -> str:
    """ISO 8601, UTC; empty for none."""
    return "" if seconds is None else datetime.fromtimestamp(int(seconds), UTC).isoformat()


def clock(seconds: float) -> str:
    """The time of day here, for people."""
    return datetime.fromtimestamp(seconds, UTC).astimezone().strftime("%H:%M:%S")


def duration(seconds: float) -> str:
    """``42 s``, ``3 min``, ``5 h 12 min``, ``2 d 3 h``."""
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes, hours, days = whole // 60 % 60, whole // 3600 % 24, whole // 86400
    if whole < 3600:
        return f"{minutes} min"
    return f"{days} d {hours} h" if days else f"{hours} h {minutes} min"
