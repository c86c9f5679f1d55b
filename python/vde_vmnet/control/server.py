"""HTTP on the control socket: uvicorn's h11 protocol on the worker's own event loop, and what bounds it.

Clients are told apart by the kernel's word about them. There is a bound on their number in all and for each
user, on the time that a request may take to arrive, on its size, and on what waits for one that does not read.
No signal handler, no thread and no timer of uvicorn's: its protocol class is all that is used.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import h11
import msgspec
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from vde_vmnet.control.access import Peer, may_change
from vde_vmnet.control.app import make_app, make_metrics_app
from vde_vmnet.control.feed import Feed
from vde_vmnet.control.models import ErrorReply
from vde_vmnet.control.network import Facts, Network
from vde_vmnet.ports.acceptor import peer_process

if TYPE_CHECKING:
    from uvicorn._types import ASGI3Application

__all__ = ["Server"]

_log = logging.getLogger(__name__)

#: Connections at once: more than people have windows, few enough that all of them at once are nothing.
_MOST = 96
#: Of those, kept for who may change things.
_RESERVED = 16
#: Of one user.
_MOST_OF_ONE = 32
#: A request arrives within this time, head and body, or its connection is closed.
_ARRIVE_SECONDS = 10.0
#: An idle connection is closed after this time.
_IDLE_SECONDS = 15
#: Longest head of a request.
_HEAD = 16 << 10
#: Connections end within this time when the daemon does.
_END_SECONDS = 0.5


class Server:
    """Serves one network, on as many listening sockets as it is given."""

    def __init__(self, network: Network, facts: Facts, feed: Feed) -> None:
        self._quiet()
        self._masters = facts.masters
        self._app = make_app(network, facts, feed)
        self._metrics_app = make_metrics_app(network, facts, feed)
        self._state = ServerState()
        self._servers: list[asyncio.Server] = []
        self._users: Counter[int] = Counter()

    @staticmethod
    def _quiet() -> None:
        """What uvicorn says about clients is no news, and what goes wrong in our code is said by it."""
        logger = logging.getLogger("uvicorn")
        logger.propagate = False
        logger.handlers[:] = [logging.NullHandler()]
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)

    async def listen(self, listening: socket.socket, *, metrics_only: bool) -> None:
        """Serve the clients of a listening socket. ``metrics_only``: of a TCP socket, where nobody is known."""
        config = Config(
            self._metrics_app if metrics_only else self._app,
            http=H11Protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            proxy_headers=False,
            timeout_keep_alive=_IDLE_SECONDS,
            h11_max_incomplete_event_size=_HEAD,
        )
        config.load()

        def make() -> _Protocol:
            return _Protocol(config, self._state, self)

        self._servers.append(await asyncio.get_running_loop().create_server(make, sock=listening))

    async def close(self) -> None:
        """Accept no more; end everybody."""
        for server in self._servers:
            server.close()
        for connection in list(self._state.connections):
            connection.shutdown()
        tasks = list(self._state.tasks)
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=_END_SECONDS)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        for connection in list(self._state.connections):
            connection.transport.abort()

    # -- for the protocol -----------------------------------------------------------------------------

    def admit(self, peer: Peer | None) -> bool:
        """Whether there is room for one more client of this user; if so it is counted until ``leave``."""
        uid = -1 if peer is None else peer.uid
        room = _MOST if may_change(peer, self._masters) else _MOST - _RESERVED
        if self._users.total() >= room or self._users[uid] >= _MOST_OF_ONE:
            return False
        self._users[uid] += 1
        return True

    def leave(self, peer: Peer | None) -> None:
        """One that was admitted has gone."""
        uid = -1 if peer is None else peer.uid
        self._users[uid] -= 1
        if not self._users[uid]:
            del self._users[uid]


class _WithPeer:
    """The application, with what is known about this connection in the scope."""

    def __init__(self, app: ASGI3Application, peer: Peer | None, transport: asyncio.Transport) -> None:
        self._app = app
        socket_ = transport.get_extra_info("socket")
        self._known = {"peer": peer, "abort": transport.abort, "fileno": socket_.fileno}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        scope["control"] = self._known
        await self._app(scope, receive, send)


class _Protocol(H11Protocol):
    """One connection."""

    def __init__(self, config: Config, state: ServerState, server: Server) -> None:
        super().__init__(config, state, {})
        self._server = server
        self._peer: Peer | None = None
        self._admitted = False
        self._deadline: asyncio.TimerHandle | None = None
        #: The request before the one that is waited for.
        self._before: object = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        connection: socket.socket = transport.get_extra_info("socket")
        if connection.family == socket.AF_UNIX:
            self._peer = Peer(*peer_process(connection))
        super().connection_made(transport)
        self.app = _WithPeer(self.app, self._peer, transport)
        self._admitted = self._server.admit(self._peer)
        if not self._admitted:
            self._answer_and_close(
                503,
                ErrorReply(
                    code="busy",
                    message="There are too many connections to the control socket",
                    next_step="Close some, or wait a moment",
                ),
            )
            return
        self._expect()

    def connection_lost(self, exc: Exception | None) -> None:
        self._arrived()
        if self._admitted:
            self._admitted = False
            self._server.leave(self._peer)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if not self._admitted:
            return
        if self._deadline is None and (self.cycle is None or self.cycle.response_complete):
            self._expect()
        super().data_received(data)

    def handle_events(self) -> None:
        super().handle_events()
        if self.cycle is not self._before and not self.cycle.more_body:
            self._arrived()

    def send_400_response(self, msg: str) -> None:
        """The answer to what is not HTTP, or has too long a head."""
        self._answer_and_close(
            400,
            ErrorReply(
                code="invalid_request", message=msg.rstrip("."), next_step="Speak HTTP/1.1, as curl does"
            ),
        )

    def _expect(self) -> None:
        self._before = self.cycle
        self._deadline = self.loop.call_later(_ARRIVE_SECONDS, self._too_late)

    def _arrived(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_late(self) -> None:
        self._deadline = None
        self.transport.abort()

    def _answer_and_close(self, status: int, reply: ErrorReply) -> None:
        body = msgspec.json.encode(reply)
        with suppress(h11.LocalProtocolError):
            for event in (
                h11.Response(
                    status_code=status,
                    headers=[
                        ("content-type", "application/json"),
                        ("content-length", str(len(body))),
                        ("connection", "close"),
                    ],
                ),
                h11.Data(data=body),
                h11.EndOfMessage(),
            ):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()
