"""Logging of the daemon: one handler on stderr, levels by audience, ``DEBUG=1`` for the rest.

error: what the user asked did not happen. warning: it happened, but not as they may expect. info: rare and
safe to leave on. debug: may repeat. Nothing is logged per frame.

A line about what matters says so for programs too, ``_log.info("…", extra=about("port_up", port=1))``:
as text these are ``key=value`` at its end, as JSON they are fields; observers get them as events.
"""

from __future__ import annotations

import json as json_module
import logging
import os
import re
import sys
import time
from collections.abc import Mapping
from typing import Literal

__all__ = [
    "Level",
    "RateLimit",
    "about",
    "configure",
    "fields",
    "get_level",
    "is_written",
    "level_name",
    "one_line",
    "set_level",
]

Level = Literal["debug", "info", "warning", "error"]
Value = str | int | float

#: A message that repeats is written this often at once, and so often a second from then on; what is left out
#: is counted. A CI job starts some two hundred guests at the same time, and each is a line.
_BURST, _PER_SECOND = 512, 2.0
#: Different messages: there are some hundred in the code.
_MOST = 1024
_PLAIN = re.compile(r"[^\s\"=]+")
_LEVELS: dict[Level, int] = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}


def about(event: str, **given: Value | None) -> dict[str, object]:
    """``extra`` for a line that matters; fields that are None or empty are left out."""
    kept: dict[str, Value] = {key: value for key, value in given.items() if value is not None and value != ""}
    return {"about": {"event": event, **kept}}


def fields(record: logging.LogRecord) -> dict[str, Value]:
    """What ``about`` said; empty for other lines."""
    found: dict[str, Value] = getattr(record, "about", {})
    return found


def _written(record: logging.LogRecord) -> str:
    """The message, and what was left out before it."""
    omitted = getattr(record, "omitted", 0)
    return one_line(record) + (f" ({omitted} more like this were not logged)" if omitted else "")


def one_line(record: logging.LogRecord) -> str:
    """The message. It can carry text that a client or guest chose; one record stays one line."""
    message = record.getMessage()
    if record.exc_info:
        message = f"{message}\n{logging.Formatter().formatException(record.exc_info)}"
    return message.replace("\n", " ⏎ ")


class _Text(logging.Formatter):
    """``TIME LEVEL | text key=value``; without the time where whoever reads us adds it."""

    def __init__(self, *, timed: bool) -> None:
        super().__init__()
        self._timed = timed

    def format(self, record: logging.LogRecord) -> str:
        level = "WARN" if record.levelno == logging.WARNING else record.levelname
        line = f"{level:5} | {_written(record)}"
        pairs = [f"{key}={_shown(value)}" for key, value in fields(record).items()]
        when = f"{_date(record, ' ')} " if self._timed else ""
        return f"{when}{' '.join([line, *pairs])}"


class _Json(logging.Formatter):
    """One object a line."""

    def format(self, record: logging.LogRecord) -> str:
        told: dict[str, Value] = {
            "time": _time(record),
            "level": level_name(record.levelno),
            "message": _written(record),
            "pid": record.process or 0,
        }
        # A field of a line is never one of ours.
        return json_module.dumps({**fields(record), **told}, ensure_ascii=False)


class RateLimit(logging.Filter):
    """Lets a message through ``burst`` times at once, then ``per_second``. Debug lines are not counted."""

    def __init__(self, burst: int = _BURST, per_second: float = _PER_SECOND) -> None:
        super().__init__()
        self._burst, self._per_second = burst, per_second
        #: By message: what is left of the burst, since when, and how many were left out.
        self._seen: dict[str, tuple[float, float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno <= logging.DEBUG:
            return True
        key, now = str(record.msg), record.created
        left, since, omitted = self._seen.pop(key, (float(self._burst), now, 0))
        left = min(self._burst, left + max(0.0, now - since) * self._per_second)
        if len(self._seen) >= _MOST:
            self._seen.pop(next(iter(self._seen)))
        if left < 1:
            self._seen[key] = (left, now, omitted + 1)
            return False
        self._seen[key] = (left - 1, now, 0)
        record.omitted = omitted  # for this handler's formatter; a filter cannot make a new record everywhere
        return True


def configure(*, level: Level, json: bool = False, timed: bool = False) -> None:
    """Send the package's log to stderr; from the command line, and again by a daemon, which is ``timed``."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if json else _Text(timed=timed and not _is_journal(os.environ)))
    handler.addFilter(RateLimit())
    root = logging.getLogger("vde_vmnet")
    root.handlers[:] = [handler]
    root.propagate = False
    set_level(level)


def set_level(name: Level) -> None:
    """The least that is written; observers get what is info at least in any case."""
    root = logging.getLogger("vde_vmnet")
    if root.handlers:
        root.handlers[0].setLevel(_LEVELS[name])
    root.setLevel(min(_LEVELS[name], logging.INFO))


def get_level() -> Level:
    """What ``set_level`` was told."""
    root = logging.getLogger("vde_vmnet")
    return level_name(root.handlers[0].level if root.handlers else root.level)


def is_written(number: int) -> bool:
    """Whether a line of that level goes to stderr."""
    root = logging.getLogger("vde_vmnet")
    return bool(root.handlers) and number >= root.handlers[0].level


def level_name(number: int) -> Level:
    """The highest of our four that is not above ``number``."""
    return next((name for name, least in reversed(_LEVELS.items()) if number >= least), "debug")


def _time(record: logging.LogRecord) -> str:
    """RFC 3339 with milliseconds, local time."""
    zone = time.strftime("%z", time.localtime(record.created))
    return f"{_date(record, 'T')}{zone[:3]}:{zone[3:]}"


def _date(record: logging.LogRecord, between: str) -> str:
    """Local time with milliseconds."""
    date = time.strftime(f"%Y-%m-%d{between}%H:%M:%S", time.localtime(record.created))
    return f"{date}.{int(record.msecs):03d}"


def _shown(value: Value) -> str:
    text = str(value)
    return text if _PLAIN.fullmatch(text) else json_module.dumps(text, ensure_ascii=False)


def _is_journal(environment: Mapping[str, str]) -> bool:
    """Whether stderr is journald's, which has times of its own: systemd.exec(5), JOURNAL_STREAM."""
    try:
        status = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):
        return False
    return environment.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"
