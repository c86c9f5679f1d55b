"""The control socket in the worker: quiet until the first client comes, then a server.

What the server is made of (starlette, uvicorn, msgspec) is loaded with the first connection, in a thread, so
that a network that nobody looks at starts as fast and stays as small as without. Where it cannot be loaded,
clients are told so. Standard library only: this file itself is loaded before privilege is dropped.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import logging
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from vde_vmnet.control.feed import Feed
from vde_vmnet.control.network import Facts, Network
from vde_vmnet.ports.acceptor import Acceptor
from vde_vmnet.ports.base import NoGuests
from vde_vmnet.socket_file import SocketFile

if TYPE_CHECKING:
    from vde_vmnet._engine import Engine
    from vde_vmnet.control.server import Server

__all__ = ["ControlListener"]

_log = logging.getLogger(__name__)

#: What is loaded late; the names are those of the modules.
_NEEDED = ("concurrent.futures.thread", "vde_vmnet.control.server", "h11", "msgspec", "starlette", "uvicorn")
_BACKLOG = 256


class ControlListener(NoGuests):
    """Shows the network to others. See ``ports.base.Listener``; no guest plugs in here."""

    def __init__(
        self, file: SocketFile | None, metrics: socket.socket | None, facts: Facts, engine: Engine
    ) -> None:
        self._file = file
        self._sockets = [one for one in (file.socket if file else None, metrics) if one is not None]
        self._metrics = metrics
        self._facts = facts
        self._engine = engine
        self._feed = Feed()
        self._network: Network | None = None
        self._starting: asyncio.Task[None] | None = None
        self._server: Server | None = None
        self._refusing: list[Acceptor] = []

    def oversee(self, network: Network) -> None:
        """See ``network.Overseer``."""
        self._network = network
        self._feed.open()

    def start(self) -> None:
        """Begin to listen. Raises OSError."""
        for one in self._sockets:
            one.listen(_BACKLOG)
        reason = _unreadable()
        if reason is not None:
            self._refuse(reason)
            return
        loop = asyncio.get_running_loop()
        for one in self._sockets:
            loop.add_reader(one, self._first)
        if self._metrics is not None:
            _log.info("Metrics at http://%s/metrics", self.metrics_address)

    def _first(self) -> None:
        """Somebody connected for the first time."""
        self._look_away()
        self._starting = asyncio.ensure_future(self._serve())

    def _look_away(self) -> None:
        for one in self._sockets:
            asyncio.get_running_loop().remove_reader(one)

    async def _serve(self) -> None:
        assert self._network is not None  # noqa: S101 - the worker says so before it starts us
        try:
            make = await asyncio.get_running_loop().run_in_executor(None, _load)
            self._server = make(self._network, self._facts, self._feed)
            if self._file is not None:
                await self._server.listen(self._file.socket, metrics_only=False)
            if self._metrics is not None:
                await self._server.listen(self._metrics, metrics_only=True)
        except Exception as error:  # noqa: BLE001 - packages of others: whatever they raise, clients are told
            _log.debug("Loading the control server", exc_info=True)
            self._refuse(f"what it is made of cannot be loaded: {str(error) or type(error).__name__}")

    # -- without a server -----------------------------------------------------------------------------

    def _refuse(self, reason: str) -> None:
        message = f"The control socket does not work: {reason}"
        step = "Install the daemon where its user can read it (make install), or serve as another with --user"
        _log.warning("%s. %s", message, step)
        body = json.dumps({"code": "unavailable", "message": message, "next_step": step}).encode()
        head = (
            "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nConnection: close\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        answer = head.encode() + body

        def answer_it(connection: socket.socket) -> None:
            with connection, suppress(OSError):
                # Else closing would throw the answer away together with the question.
                connection.recv(65536)
                connection.send(answer)
                connection.shutdown(socket.SHUT_WR)

        self._refusing = [Acceptor(one, answer_it) for one in self._sockets]

    @property
    def metrics_address(self) -> str | None:
        """HOST:PORT of ``--metrics``."""
        if self._metrics is None:
            return None
        host, port = self._metrics.getsockname()[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    async def stop(self) -> None:
        """See ``ports.base.Listener``."""
        self._look_away()
        self._feed.end()
        for one in self._refusing:
            one.close()
        if self._starting is not None:
            self._starting.cancel()
            await asyncio.gather(self._starting, return_exceptions=True)
        if self._server is not None:
            await self._server.close()
        if self._file is not None:
            self._file.remove()
        if self._metrics is not None:
            self._metrics.close()


def _load() -> type[Server]:
    # The worker does without it to save memory; uvicorn wants to know what a TLS version is called.
    if sys.modules.get("ssl", ...) is None:
        del sys.modules["ssl"]
    from vde_vmnet.control.server import Server

    return Server


def _unreadable() -> str | None:
    """Why the service user cannot load the server; None when it can."""
    for name in _NEEDED:
        if name in sys.modules:
            continue
        try:
            found = importlib.util.find_spec(name)
            if found is None or found.origin is None:
                return f"{name} is not installed, or may not be read by the daemon's user"
            with Path(found.origin).open("rb"):
                pass
        except (OSError, ImportError) as error:
            return f"{name} may not be read by the daemon's user ({error})"
    return None
