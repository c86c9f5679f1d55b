"""The one exception of the benchmarks."""

from __future__ import annotations

__all__ = ["BenchError"]


class BenchError(Exception):
    """Something could not be measured; the message says what and why, with what the program at fault said."""
