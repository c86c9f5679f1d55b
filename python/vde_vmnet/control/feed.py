"""What happened lately: the log's last lines and events, kept for those who ask, and sent to those who wait.

Everything is bounded: what is kept, and what waits for a reader. Who does not read is dropped; nobody ever
waits for a reader. Standard library: this listens from the start, long before anybody asks.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Literal

from vde_vmnet import log
from vde_vmnet.log import Level

__all__ = ["Feed", "Record", "Subscription"]

#: Lines and events that are remembered, each some 300 bytes.
_KEPT = 1000
#: What may wait for one reader.
_WAITING = 1024
#: A longer message is cut; guests choose parts of some.
_LONGEST = 1000

What = Literal["events", "lines"]


@dataclass(frozen=True)
class Record:
    """One line of the log, or one event."""

    seq: int
    time: float
    level: Level
    message: str
    #: For an event with ``event``, its kind.
    fields: dict[str, str | int | float]


@dataclass(eq=False)
class Subscription:
    """One reader."""

    waiting: deque[Record]
    #: Called when it is dropped.
    on_drop: Callable[[], None]
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    ended: bool = False

    async def records(self) -> AsyncIterator[Record]:
        """Until the network ends."""
        while True:
            while self.waiting:
                yield self.waiting.popleft()
            if self.ended:
                return
            self.arrived.clear()
            await self.arrived.wait()


class Feed(logging.Handler):
    """The log's second reader. ``open`` and ``close`` it on the event loop."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self._kept: dict[What, deque[Record]] = {"events": deque(maxlen=_KEPT), "lines": deque(maxlen=_KEPT)}
        self._seq: dict[What, int] = {"events": 0, "lines": 0}
        self._readers: dict[What, set[Subscription]] = {"events": set(), "lines": set()}
        #: Events since the start, by kind.
        self.counts: Counter[str] = Counter()

    def open(self) -> None:
        """Begin to listen."""
        logging.getLogger("vde_vmnet").addHandler(self)

    def end(self) -> None:
        """Listen no more; every reader gets what waits for it, and ends."""
        logging.getLogger("vde_vmnet").removeHandler(self)
        for reader in (*self._readers["events"], *self._readers["lines"]):
            reader.ended = True
            reader.arrived.set()

    def emit(self, record: logging.LogRecord) -> None:
        """See logging.Handler."""
        told = log.fields(record)
        message = log.one_line(record)[:_LONGEST]
        level = log.level_name(record.levelno)
        if log.is_written(record.levelno):
            self._add("lines", record.created, level, message, told)
        if not told and record.levelno >= logging.WARNING:
            told = {"event": "trouble"}
        if told:
            self.counts[str(told["event"])] += 1
            self._add("events", record.created, level, message, told)

    def _add(
        self, what: What, time: float, level: Level, message: str, fields: dict[str, str | int | float]
    ) -> None:
        self._seq[what] += 1
        record = Record(self._seq[what], time, level, message, fields)
        self._kept[what].append(record)
        for reader in list(self._readers[what]):
            if len(reader.waiting) >= _WAITING:
                self._readers[what].discard(reader)
                reader.on_drop()
            else:
                reader.waiting.append(record)
                reader.arrived.set()

    def kept(self, what: What, *, since: int = 0, most: int = _KEPT) -> list[Record]:
        """The last ones, oldest first, after number ``since``."""
        found = [record for record in self._kept[what] if record.seq > since]
        return found[len(found) - most :] if most < len(found) else found

    def subscribe(self, what: What, *, since: int | None, on_drop: Callable[[], None]) -> Subscription:
        """From after number ``since``, as far as it is remembered; from now on without."""
        reader = Subscription(deque(self.kept(what, since=since) if since is not None else ()), on_drop)
        self._readers[what].add(reader)
        return reader

    def unsubscribe(self, reader: Subscription) -> None:
        """A second call does nothing."""
        for readers in self._readers.values():
            readers.discard(reader)
