"""The dashboard: one page in the browser that shows a network, served on loopback as the calling user.

It is an observer like the others: all it knows and does goes over the control socket, with the rights of
whoever started it. The page has no build step and loads nothing from elsewhere.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import closing

import uvicorn

from vde_vmnet.control.client import Client
from vde_vmnet.dashboard.access import Access
from vde_vmnet.dashboard.recorder import Recorder
from vde_vmnet.dashboard.server import application

__all__ = ["serve"]


class _Server(uvicorn.Server):
    """Says when it serves."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()


def serve(client: Client, listening: socket.socket, ready: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM; ``ready`` gets the address to open. Raises KeyboardInterrupt."""
    access = Access(listening.getsockname()[1])
    with closing(Recorder(client.path)) as recorder, listening, client:
        config = uvicorn.Config(
            application(client, access, recorder),
            log_level="warning",
            access_log=False,
            lifespan="off",
            ws="none",
            server_header=False,
            limit_concurrency=64,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=2,
        )
        _Server(config, lambda: ready(access.address())).run(sockets=[listening])
