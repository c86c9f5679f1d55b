"""Serve the one guest at the other end of a descriptor that the parent left open, ``--fd N``; end when it does.

The convention is vmnet-helper's: whoever starts a virtual machine makes a socket pair, gives one end to it and
the other to the daemon, and the network lives as long as the guest. A datagram is a bare frame, a stream has
QEMU's framing.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Mapping

from vde_vmnet.ports.base import KICKED, Guest, Switch
from vde_vmnet.ports.numbers import PortNumbers
from vde_vmnet.socket_peer import peer_is_gone

__all__ = ["DescriptorListener"]

_log = logging.getLogger(__name__)

#: A datagram socket does not say that its peer was closed. A frame for the peer finds out, and on a quiet
#: network looking does, which costs some 50 µs.
_LOOK_SECONDS = 1.0


class DescriptorListener:
    """One guest that is there already. See ``ports.base.Listener``."""

    def __init__(self, given: socket.socket, numbers: PortNumbers, switch: Switch) -> None:
        self._given = given
        self._fd = given.fileno()
        self._numbers = numbers
        self._switch = switch
        self._endpoint = -1
        self._guest: Guest | None = None
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Plug the guest in."""
        port = self._numbers.take()
        label = f"port {port} (descriptor {self._fd})"
        self._guest = Guest(port, "fd", label, f"descriptor {self._fd}")
        datagrams = self._given.type == socket.SOCK_DGRAM
        copy = os.dup(self._fd)
        try:
            self._endpoint = self._switch.attach(
                port=port, kind="unixgram" if datagrams else "stream", fd=copy, name=label
            )
        except BaseException:
            os.close(copy)
            raise
        _log.info("%s plugged in", label, extra=self._guest.about("port_up", self._endpoint))
        if datagrams:
            self._look()
        else:
            self._given.close()  # the engine's copy is enough, and its end is the connection's

    def _look(self) -> None:
        if peer_is_gone(self._given):
            self._end("peer closed")
        else:
            self._timer = asyncio.get_running_loop().call_later(_LOOK_SECONDS, self._look)

    def _end(self, reason: str) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._guest is not None:
            _log.info(
                "%s unplugged (%s): the network ends with it",
                self._guest.label,
                reason,
                extra=self._guest.about("port_down", self._endpoint, reason),
            )
        os.kill(os.getpid(), signal.SIGTERM)

    def how_to_plug_in(self) -> str | None:
        """None: the guest is plugged in."""
        return None

    def label(self, endpoint: int) -> str | None:
        """See ``ports.base.Listener``."""
        return self._guest.label if self._guest is not None and endpoint == self._endpoint else None

    def guests(self) -> Mapping[int, Guest]:
        """See ``ports.base.Listener``."""
        return {self._endpoint: self._guest} if self._guest is not None and self._endpoint >= 0 else {}

    def kick(self, endpoint: int) -> bool:
        """See ``ports.base.Listener``: the network ends with its guest."""
        if endpoint != self._endpoint or endpoint < 0:
            return False
        self._end(KICKED)
        return True

    def endpoint_down(self, endpoint: int, reason: str) -> bool:
        """See ``ports.base.Listener``."""
        if endpoint != self._endpoint:
            return False
        self._end(reason)
        self._endpoint = -1
        return True

    async def stop(self) -> None:
        """See ``ports.base.Listener``."""
        if self._timer is not None:
            self._timer.cancel()
        if self._endpoint >= 0:
            self._switch.detach(endpoint=self._endpoint)
        self._given.close()
