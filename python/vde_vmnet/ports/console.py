"""The switch console, ``--mgmt PATH``, for vdeterm, unixterm and vdecmd. Its language: ``wire/console.py``."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from vde_vmnet.ports.base import NoGuests
from vde_vmnet.socket_file import SocketFile
from vde_vmnet.wire import console
from vde_vmnet.wire.console import Console, Facts, Port, Snapshot, Station

if TYPE_CHECKING:
    from vde_vmnet._engine import EndpointCounters, FdbEntry

__all__ = ["ConsoleListener"]

_log = logging.getLogger(__name__)

#: Consoles at once; somebody who opens more has lost some.
_MOST = 16
#: A client that does not read what it asked for is left after this time.
_WRITE_SECONDS = 10.0


class _Inspected(Protocol):
    """The part of ``_engine.Engine`` that is shown."""

    def counters(self) -> Mapping[int, EndpointCounters]: ...
    def fdb(self) -> list[FdbEntry]: ...


class ConsoleListener(NoGuests):
    """Answers commands on one socket. See ``ports.base.Listener``; no guest plugs in here."""

    def __init__(self, file: SocketFile, facts: Facts, engine: _Inspected) -> None:
        self._file = file
        self._engine = engine
        self._console = Console(facts, self._look)
        self._started = time.monotonic()
        self._tasks: set[asyncio.Task[None]] = set()
        self._accepting: asyncio.Task[asyncio.Server] | None = None

    def start(self) -> None:
        """Begin to accept."""
        self._file.socket.listen(_MOST)  # now, not when the loop comes to it: the pidfile is written next
        self._accepting = asyncio.ensure_future(
            asyncio.start_unix_server(self._connected, sock=self._file.socket, limit=console.MAX_COMMAND)
        )

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._tasks) >= _MOST:
            _log.warning("Console refused: %d are open", _MOST)
            writer.close()
            return
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._write(writer, self._console.banner.encode())
            await self._write(writer, console.PROMPT)
            while data := await reader.read(console.MAX_COMMAND):
                for line in console.commands(data):
                    answer = self._console.answer(line)
                    await self._write(writer, answer.text.encode())
                    if answer.stops:
                        _log.info("The console asks to stop")
                        os.kill(os.getpid(), signal.SIGTERM)
                    if answer.ends:
                        return
                    await self._write(writer, console.PROMPT)
        except (ConnectionError, TimeoutError) as error:
            _log.debug("Console connection: %s", error or "it does not read")
        finally:
            writer.close()

    async def _write(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        writer.write(data)
        async with asyncio.timeout(_WRITE_SECONDS):
            await writer.drain()

    def _look(self) -> Snapshot:
        """What the engine says now; it answers well within a millisecond."""
        by_port: dict[int, list[tuple[int, EndpointCounters]]] = defaultdict(list)
        for number, counters in sorted(self._engine.counters().items(), reverse=True):
            by_port[counters["port"]].append((number, counters))
        return Snapshot(
            ports=tuple(
                Port(
                    number=port,
                    in_frames=sum(one["rx_frames"] for _, one in endpoints),
                    in_bytes=sum(one["rx_bytes"] for _, one in endpoints),
                    out_frames=sum(one["tx_frames"] for _, one in endpoints),
                    out_bytes=sum(one["tx_bytes"] for _, one in endpoints),
                    endpoints=tuple((number, one["name"]) for number, one in endpoints),
                )
                for port, endpoints in sorted(by_port.items())
            ),
            stations=tuple(
                Station(one["mac"], one["port"], int(one["age_seconds"])) for one in self._engine.fdb()
            ),
            uptime=int(time.monotonic() - self._started),
        )

    async def stop(self) -> None:
        """See ``ports.base.Listener``."""
        if self._accepting is not None:
            with suppress(OSError):
                (await self._accepting).close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._file.remove()
