"""Serve a stream socket whose connections are the engine's.

Each is a guest, on a port of its own, until either end closes it; the engine reads from it and says when that
was. What is spoken on it is for whoever makes such a listener to say.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Mapping
from typing import Literal

from vde_vmnet._engine import EngineError
from vde_vmnet.errors import PeerError
from vde_vmnet.ports.acceptor import Acceptor, peer_process
from vde_vmnet.ports.base import KICKED, Guest, GuestKind, Switch
from vde_vmnet.ports.numbers import PortNumbers
from vde_vmnet.socket_file import SocketFile

__all__ = ["ConnectionListener"]

_log = logging.getLogger(__name__)

#: Connections that wait to be accepted. A CI job starts many guests at once.
_BACKLOG = 256
#: What the engine says when nothing went wrong.
_CLOSED = "peer closed"


class ConnectionListener:
    """Listener for one path, of either kind. See ``ports.base.Listener``."""

    #: What the engine takes a connection for, and what the control plane calls the guest at the other end.
    engine_kind: Literal["stream", "vhost_user"]
    guest_kind: GuestKind

    def __init__(
        self, file: SocketFile, numbers: PortNumbers, switch: Switch, *, offload_mtu: int | None = None
    ) -> None:
        self._file = file
        self._numbers = numbers
        self._switch = switch
        #: For guests of krunkit with offloading=on: see ``Engine.attach``.
        self._offload_mtu = offload_mtu
        self._acceptor: Acceptor | None = None
        self._guests: dict[int, Guest] = {}

    def start(self) -> None:
        """Begin to accept guests. Raises OSError."""
        self._file.socket.listen(_BACKLOG)
        self._acceptor = Acceptor(self._file.socket, self._plug_in)

    def _plug_in(self, connection: socket.socket) -> None:
        try:
            port = self._numbers.take()
        except PeerError as error:
            _log.warning("Guest refused: %s", error)
            connection.close()
            return
        try:
            pid, uid = peer_process(connection)
            label = f"port {port} ({self._file.path.name}, pid {pid})"
            endpoint = self._switch.attach(
                port=port,
                kind=self.engine_kind,
                fd=connection.fileno(),
                name=label,
                offload_mtu=self._offload_mtu,
            )
        except (OSError, EngineError, ValueError) as error:
            # It left at once, or there are no descriptors left.
            _log.error("Guest could not be plugged in: %s", error)
            self._numbers.give_back(port)
            connection.close()
            return
        connection.detach()  # the engine's from here on
        guest = Guest(port, self.guest_kind, label, self._file.path.name, pid or None, uid)
        self._guests[endpoint] = guest
        _log.info("%s plugged in", label, extra=guest.about("port_up", endpoint))

    def endpoint_down(self, endpoint: int, reason: str) -> bool:
        """See ``ports.base.Listener``."""
        guest = self._guests.pop(endpoint, None)
        if guest is None:
            return False
        self._numbers.give_back(guest.port)
        extra = guest.about("port_down", endpoint, reason)
        if reason == _CLOSED:
            _log.info("%s unplugged", guest.label, extra=extra)
        else:
            _log.warning("%s cut off: %s", guest.label, reason, extra=extra)
        return True

    def guests(self) -> Mapping[int, Guest]:
        """See ``ports.base.Listener``."""
        return self._guests

    def kick(self, endpoint: int) -> bool:
        """See ``ports.base.Listener``."""
        guest = self._guests.pop(endpoint, None)
        if guest is None:
            return False
        self._switch.detach(endpoint=endpoint)  # closes the connection
        self._numbers.give_back(guest.port)
        _log.info("%s unplugged (%s)", guest.label, KICKED, extra=guest.about("port_down", endpoint, KICKED))
        return True

    def label(self, endpoint: int) -> str | None:
        """See ``ports.base.Listener``."""
        guest = self._guests.get(endpoint)
        return guest.label if guest else None

    async def stop(self) -> None:
        """See ``ports.base.Listener``."""
        if self._acceptor is not None:
            self._acceptor.close()
        for endpoint in self._guests:
            self._switch.detach(endpoint=endpoint)
        self._guests.clear()
        self._file.socket.close()
