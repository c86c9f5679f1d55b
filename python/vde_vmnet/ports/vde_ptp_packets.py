"""VDE point to point as vdeplug4 has it since 2025-04-26 (``3a12bea``): one connection of packets at ``PATH``.

The socket is a ``SOCK_SEQPACKET``. Who finds a server at ``PATH`` connects, else is the server. The server
answers a connection with one byte: 0, or the errno of its refusal, which is EISCONN while it has a peer. From
then on a packet is a frame, until either end closes. The server then waits for the next peer; the client looks
for the server again, and is the server itself if ``PATH`` is gone.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import select
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace

from vde_vmnet._engine import EngineError
from vde_vmnet.errors import ConflictError, VdeVmnetError
from vde_vmnet.ports.acceptor import Acceptor, peer_process
from vde_vmnet.ports.base import KICKED, Guest, Switch
from vde_vmnet.ports.vde_plug import back_off
from vde_vmnet.privileges import invoking_identity
from vde_vmnet.socket_file import PacketPath, SocketFile, connect_packets

__all__ = ["VdePtpPacketListener"]

_log = logging.getLogger(__name__)

# --- from the protocol -------------------------------------------------------------------------------
_ACCEPTED = b"\0"
#: A client waits this long for the byte.
_ANSWER_SECONDS = 2.0

# --- chosen ------------------------------------------------------------------------------------------
#: Those who come while there is a peer are refused by the byte, which needs room to come in; the reference
#: has 1.
_BACKLOG = 16


class VdePtpPacketListener:
    """Either end of one connection. See ``ports.base.Listener``."""

    def __init__(
        self, path: PacketPath, first: SocketFile | socket.socket | None, switch: Switch, *, port: int
    ) -> None:
        """``first``: the socket to be served, or a connection to the server that was there. ``port`` is the
        peer's place on the switch."""
        self._path = path
        self._switch = switch
        self._port = port
        self._ours = first if isinstance(first, SocketFile) else None
        self._asking = first if isinstance(first, socket.socket) else None
        self._acceptor: Acceptor | None = None
        self._endpoint = -1
        self._guest = Guest(port, "ptp", f"point to point {path.path}", str(path.path))
        #: A copy of the peer's connection, to see when it hung up; the engine's own is its own.
        self._peer: socket.socket | None = None
        #: A client that came back before the engine noticed that it had gone.
        self._next: socket.socket | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._delays: Iterator[float] = back_off()
        self._said = ""

    # -- both ends ------------------------------------------------------------------------------------

    def start(self) -> None:
        """Wait for the peer, or take the answer of the server. Blocks for that at most 2 s.

        Raises ConflictError when the server has a peer already or does not answer.
        """
        if self._ours is not None:
            self._serve(self._ours)
        elif self._asking is not None:
            if not select.select([self._asking], [], [], _ANSWER_SECONDS)[0]:
                raise ConflictError(
                    f'The point-to-point server at "{self._path.path}" does not answer',
                    next_step="See what it is: it may have a peer already, or speak something else",
                )
            refusal = _refusal(self._asking)
            if refusal is not None:
                raise ConflictError(
                    f'The point-to-point server at "{self._path.path}" refused us: {refusal}',
                    next_step="Stop its peer, or choose another path",
                )
            self._plug_in(self._asking)

    def how_to_plug_in(self) -> str | None:
        """See ``ports.base.Listener``."""
        return None if self._ours is None else f"-netdev vde,id=net0,sock=ptp://{self._path.path}"

    def _plug_in(self, connection: socket.socket) -> None:
        """The handshake is done."""
        self._stop_asking(close=False)
        self._peer = connection.dup()
        try:
            self._endpoint = self._switch.attach(
                port=self._port, kind="dgram", fd=connection.fileno(), name=self._guest.label
            )
        except (EngineError, ValueError) as error:
            # It left at once, or the engine has ended.
            _log.error("The point-to-point peer at %s could not be plugged in: %s", self._path.path, error)
            connection.close()
            self._lost()
            return
        connection.detach()  # the engine's from here on
        pid, uid = peer_process(self._peer)
        self._guest = replace(self._guest, pid=pid or None, uid=uid, since=time.time())
        self._delays, self._said = back_off(), ""
        _log.info(
            "The point-to-point peer at %s plugged in",
            self._path.path,
            extra=self._guest.about("port_up", self._endpoint),
        )

    def endpoint_down(self, endpoint: int, reason: str) -> bool:
        """See ``ports.base.Listener``."""
        if endpoint != self._endpoint:
            return False
        _log.info(
            "The point-to-point peer at %s left (%s)",
            self._path.path,
            reason,
            extra=self._guest.about("port_down", endpoint, reason),
        )
        self._lost()
        return True

    def guests(self) -> Mapping[int, Guest]:
        """See ``ports.base.Listener``."""
        return {self._endpoint: self._guest} if self._endpoint >= 0 else {}

    def kick(self, endpoint: int) -> bool:
        """See ``ports.base.Listener``."""
        if endpoint < 0 or endpoint != self._endpoint:
            return False
        self._switch.detach(endpoint=endpoint)
        if self._peer is not None:
            self._peer.shutdown(socket.SHUT_RDWR)
        return self.endpoint_down(endpoint, KICKED)

    def _lost(self) -> None:
        self._endpoint = -1
        if self._peer is not None:
            self._peer.close()
            self._peer = None
        if self._ours is None:
            self._look_again()
        elif self._next is not None:
            following, self._next = self._next, None
            self._welcome(following)

    def label(self, endpoint: int) -> str | None:
        """See ``ports.base.Listener``."""
        return f"The peer of {self._path.path}" if endpoint == self._endpoint else None

    async def stop(self) -> None:
        """See ``ports.base.Listener``."""
        if self._timer is not None:
            self._timer.cancel()
        self._stop_asking(close=True)
        if self._acceptor is not None:
            self._acceptor.close()
        if self._endpoint >= 0:
            self._switch.detach(endpoint=self._endpoint)
            self._endpoint = -1
        for connection in (self._peer, self._next):
            if connection is not None:
                connection.close()
        if self._ours is not None:
            self._ours.remove()

    # -- the server -----------------------------------------------------------------------------------

    def _serve(self, ours: SocketFile) -> None:
        self._ours = ours
        ours.socket.listen(_BACKLOG)
        self._acceptor = Acceptor(ours.socket, self._connected)

    def _connected(self, connection: socket.socket) -> None:
        if self._peer is None:
            self._welcome(connection)
        elif self._next is None and _hung_up(self._peer):
            self._next = connection  # until the engine has read what the last one left
        else:
            _log.info("A second point-to-point peer at %s was refused", self._path.path)
            with suppress(OSError):
                connection.send(bytes([errno.EISCONN]))
            connection.close()

    def _welcome(self, connection: socket.socket) -> None:
        try:
            connection.send(_ACCEPTED)
        except OSError:
            connection.close()  # gone already
            return
        self._plug_in(connection)

    # -- the client -----------------------------------------------------------------------------------

    def _look_again(self) -> None:
        """Once now, and with growing pauses from then on."""
        self._timer = None
        try:
            asking = connect_packets(self._path.path)
        except (FileNotFoundError, ConnectionRefusedError):
            self._become_server()
            return
        except OSError as error:
            self._try_later(os.strerror(error.errno or 0))
            return
        self._asking = asking
        asyncio.get_running_loop().add_reader(asking, self._answered)
        self._timer = asyncio.get_running_loop().call_later(_ANSWER_SECONDS, self._unanswered)

    def _answered(self) -> None:
        assert self._asking is not None  # noqa: S101 - the reader is removed before it is cleared
        refusal = _refusal(self._asking)
        if refusal is None:
            self._plug_in(self._asking)
        else:
            self._stop_asking(close=True)
            self._try_later(refusal)

    def _unanswered(self) -> None:
        self._stop_asking(close=True)
        self._try_later("no answer")

    def _stop_asking(self, *, close: bool) -> None:
        if self._asking is None:
            return
        asyncio.get_running_loop().remove_reader(self._asking)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if close:
            self._asking.close()
        self._asking = None

    def _become_server(self) -> None:
        """The server has gone, or has died and left its name."""
        try:
            ours = self._path.claim(invoking_identity())
        except (VdeVmnetError, OSError) as error:
            self._try_later(str(error))
            return
        _log.info("The point-to-point server at %s is gone; serving there", self._path.path)
        self._serve(ours)

    def _try_later(self, why: str) -> None:
        if why != self._said:
            self._said = why
            _log.warning("No point-to-point peer at %s: %s; trying again", self._path.path, why)
        self._timer = asyncio.get_running_loop().call_later(next(self._delays), self._look_again)


def _refusal(asking: socket.socket) -> str | None:
    """What the server's byte says, which is there; None when we are its peer."""
    try:
        answer = asking.recv(1)
    except OSError as error:
        return os.strerror(error.errno or 0)
    if answer == _ACCEPTED:
        return None
    return os.strerror(answer[0]) if answer else "it closed the connection"


def _hung_up(connection: socket.socket) -> bool:
    poll = select.poll()
    poll.register(connection, 0)
    return bool(poll.poll(0))
