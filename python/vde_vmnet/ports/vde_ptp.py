"""VDE point to point, without a switch: ``PATH`` is our datagram socket, ``PATH+`` that of our only peer.

There is no handshake. The peer is there when it has bound ``PATH+``; from the moment we are connected to it,
Linux refuses everybody else. It may go, even without a word, and come back.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from vde_vmnet.directory_watch import Change, NameWatch
from vde_vmnet.ports.base import KICKED, Guest, Switch
from vde_vmnet.socket_file import SocketFile, disconnect
from vde_vmnet.sockets import is_stale

__all__ = ["PEER_SUFFIX", "VdePtpListener"]

_log = logging.getLogger(__name__)

# --- from the protocol -------------------------------------------------------------------------------
PEER_SUFFIX = "+"

# --- chosen ------------------------------------------------------------------------------------------
#: A peer that was killed leaves its name and no event; until it is missed the kernel refuses the next
#: one. QEMU needs about as long to start, and looking costs some 20 µs.
_LOOK_SECONDS = 0.25


class VdePtpListener:
    """The server of one pair. See ``ports.base.Listener``."""

    def __init__(self, ours: SocketFile, watch: NameWatch, switch: Switch, *, port: int) -> None:
        """``port`` is the peer's place on the switch."""
        self._port = port
        self._ours = ours
        self._watch = watch
        self._switch = switch
        self._peer_path = Path(f"{ours.path}{PEER_SUFFIX}")
        #: Device and inode of the peer's socket while it is plugged in.
        self._peer: tuple[int, int] | None = None
        self._endpoint = -1
        self._guest = Guest(port, "ptp", f"point to point {ours.path}", str(self._peer_path))
        self._timer: asyncio.TimerHandle | None = None
        self._refused: tuple[int, int] | None = None

    def start(self) -> None:
        """Wait for the peer; one that is there already is plugged in now."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self._ours.socket, self._look)
        if self._watch.fd is not None:
            loop.add_reader(self._watch.fd, self._look)
        self._on_timer()

    def how_to_plug_in(self) -> str | None:
        """See ``ports.base.Listener``: the form depends on the library that QEMU was built with."""
        if sys.platform == "darwin":
            return f"-netdev vde,id=net0,sock={self._ours.path},port=65535"
        return f"-netdev vde,id=net0,sock=ptp://{self._ours.path}"

    def _on_timer(self) -> None:
        self._look()
        # Without a peer its first datagram, or its name, is the event; the timer is for the end of one.
        self._timer = None
        if self._peer is not None or self._watch.fd is None:
            self._timer = asyncio.get_running_loop().call_later(_LOOK_SECONDS, self._on_timer)

    def _look(self) -> None:
        """See who is there, and change what we are connected to accordingly."""
        # The number of a dead one's inode may be the next one's, so the event counts more.
        gone = Change.GONE in self._watch.take()
        there = self._peer_identity()
        if self._peer is not None and (gone or there != self._peer or is_stale(self._peer_path)):
            _log.info("The point-to-point peer %s left", self._peer_path, extra=self._down("peer closed"))
            self._leave()
        if self._peer is None and (there is None or not self._join(there)):
            self._drop_strangers(everyone=True)
        if self._peer is not None and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_LOOK_SECONDS, self._on_timer)

    def _peer_identity(self) -> tuple[int, int] | None:
        try:
            status = self._peer_path.lstat()
        except OSError:
            return None
        return status.st_dev, status.st_ino

    def _join(self, peer: tuple[int, int]) -> bool:
        try:
            self._ours.socket.connect(os.fspath(self._peer_path))
        except OSError as error:
            # Refused: what a dead one left. EPERM: it is still connected to a predecessor of ours.
            if error.errno == errno.EACCES and self._refused != peer:
                self._refused = peer
                _log.warning(
                    "Point-to-point peer %s refused: its socket may not be written by the daemon's user."
                    " Give the peer mode=0770 and the daemon's group, or serve as its user with --user",
                    self._peer_path,
                )
            return False
        self._drop_strangers(everyone=False)
        copy = os.dup(self._ours.socket.fileno())
        try:
            self._endpoint = self._switch.attach(port=self._port, kind="dgram", fd=copy, name=self._guest.label)
        except BaseException:
            os.close(copy)
            raise
        asyncio.get_running_loop().remove_reader(self._ours.socket)  # the engine reads from here on
        self._peer = peer
        self._guest = replace(self._guest, since=time.time())
        _log.info(
            "The point-to-point peer %s plugged in",
            self._peer_path,
            extra=self._guest.about("port_up", self._endpoint),
        )
        return True

    def _leave(self) -> None:
        self._switch.detach(endpoint=self._endpoint)
        self._peer, self._endpoint = None, -1
        # Else Linux would refuse the next peer as a stranger.
        disconnect(self._ours.socket)
        asyncio.get_running_loop().add_reader(self._ours.socket, self._look)

    def _drop_strangers(self, *, everyone: bool) -> None:
        """Discard what waits from anybody but the peer: from those before it, or from ``everyone``."""
        ours = self._ours.socket
        try:
            while everyone or not self._is_peer(ours.recvfrom(1, socket.MSG_PEEK)[1]):
                ours.recv(1)  # takes the whole datagram
                _log.debug("A datagram of a stranger at %s was dropped", self._ours.path)
        except (BlockingIOError, ConnectionError):
            return

    def _is_peer(self, address: object) -> bool:
        """Its name as it bound it, which may be relative or lead through a link."""
        return isinstance(address, str) and Path(address).name == self._peer_path.name

    def endpoint_down(self, endpoint: int, reason: str) -> bool:
        """See ``ports.base.Listener``."""
        if endpoint != self._endpoint:
            return False
        _log.warning(
            "The point-to-point peer %s was lost: %s", self._peer_path, reason, extra=self._down(reason)
        )
        self._leave()
        return True

    def _down(self, reason: str) -> dict[str, object]:
        return self._guest.about("port_down", self._endpoint, reason)

    def guests(self) -> Mapping[int, Guest]:
        """See ``ports.base.Listener``."""
        return {self._endpoint: self._guest} if self._peer is not None else {}

    def kick(self, endpoint: int) -> bool:
        """See ``ports.base.Listener``: a peer that is still there is plugged in again with its next frame."""
        return endpoint >= 0 and self.endpoint_down(endpoint, KICKED)

    def label(self, endpoint: int) -> str | None:
        """See ``ports.base.Listener``."""
        return f"The peer of {self._ours.path}" if endpoint == self._endpoint else None

    async def stop(self) -> None:
        """See ``ports.base.Listener``."""
        loop = asyncio.get_running_loop()
        if self._timer is not None:
            self._timer.cancel()
        if self._peer is not None:
            self._leave()
        loop.remove_reader(self._ours.socket)
        if self._watch.fd is not None:
            loop.remove_reader(self._watch.fd)
        self._watch.close()
        self._ours.remove()
