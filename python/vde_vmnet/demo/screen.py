"""What the demo shows: a line for each thing it does, with its time, and the table at the end."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TextIO

from vde_vmnet.demo.checks import Row

__all__ = ["Screen", "render_table"]

_GREEN, _RED, _BOLD, _PLAIN = "\x1b[32m", "\x1b[31m", "\x1b[1m", "\x1b[0m"
_HEADINGS = ("", "CHECK", "TIME", "WHAT WAS SEEN")


def render_table(rows: Sequence[Row], *, colour: bool) -> str:
    """The rows as aligned text, one line each. Pure."""
    cells = [("ok" if row.held else "FAILED", row.title, f"{row.seconds:.1f} s", row.seen) for row in rows]
    widths = [max(len(line[column]) for line in [_HEADINGS, *cells]) for column in range(3)]

    def line(values: Sequence[str], paint: str) -> str:
        mark, title, took, seen = values
        text = f"{mark:<{widths[0]}}  {title:<{widths[1]}}  {took:>{widths[2]}}  {seen}".rstrip()
        if not colour:
            return text
        # The mark alone is painted: what was seen must stay readable on every background.
        end = widths[0] if paint != _BOLD else len(text)
        return f"{paint}{text[:end]}{_PLAIN}{text[end:]}"

    lines = [line(_HEADINGS, _BOLD)]
    lines += [line(cell, _GREEN if row.held else _RED) for cell, row in zip(cells, rows, strict=True)]
    return "\n".join(lines)


class Screen:
    """Plain lines on a stream; colour only where a person looks at a terminal."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        #: https://no-color.org: any value that is not empty turns colour off.
        self._colour = stream.isatty() and not os.environ.get("NO_COLOR")

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        """``what ... 0.3 s`` around a block; shown before it begins, and said when it fails."""
        self._write(f"{what} ... ")
        started = time.monotonic()
        try:
            yield
        except BaseException:
            self._write("no\n")
            raise
        self._write(f"{time.monotonic() - started:.1f} s\n")

    def row(self, row: Row) -> None:
        """One check as it is done, so that a slow one does not look like a hang."""
        self._write(f"{row.title} ... {'' if row.held else 'FAILED after '}{row.seconds:.1f} s\n")

    def table(self, rows: Sequence[Row]) -> None:
        """The end result."""
        self._write(f"\n{render_table(rows, colour=self._colour)}\n\n")

    def say(self, text: str) -> None:
        """One line."""
        self._write(f"{text}\n")

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()
