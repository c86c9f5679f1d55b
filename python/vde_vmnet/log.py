"""Logging of the daemon: one handler on stderr, levels by audience, ``DEBUG=1`` for the rest.

error: what the user asked did not happen. warning: it happened, but not as they may expect. info: rare and
safe to leave on. debug: may repeat. Nothing is logged per frame.
"""

from __future__ import annotations

import logging
import sys

__all__ = ["configure"]


class _Formatter(logging.Formatter):
    """``LEVEL | text`` as its heirs print it, with a time stamp in debug runs."""

    def __init__(self, *, debug: bool) -> None:
        super().__init__(
            "%(asctime)s %(levelname)-5s | %(message)s" if debug else "%(levelname)-5s | %(message)s"
        )
        self.default_msec_format = "%s.%03d"

    def format(self, record: logging.LogRecord) -> str:
        # A message can carry text that a client or guest chose; one record stays one line.
        return super().format(record).replace("\n", " ⏎ ")


def configure(*, debug: bool) -> None:
    """Send the package's log to stderr; call once, from the command line."""
    logging.addLevelName(logging.WARNING, "WARN")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter(debug=debug))
    root = logging.getLogger("vde_vmnet")
    root.handlers[:] = [handler]
    root.propagate = False
    root.setLevel(logging.DEBUG if debug else logging.INFO)
