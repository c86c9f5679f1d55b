"""Accepting connections: what every listener on a stream socket does before it knows whom it talks to."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import struct
import sys
from collections.abc import Callable
from contextlib import suppress

__all__ = ["Acceptor", "peer_process"]

_log = logging.getLogger(__name__)

#: Out of descriptors: look again after this time, for the case that no client of ours frees one.
_ACCEPT_RETRY_SECONDS = 1.0
# struct ucred of SO_PEERCRED: pid, uid, gid
_UCRED = struct.Struct("=iII")
# <sys/un.h> of macOS
_SOL_LOCAL, _LOCAL_PEERPID = 0, 2


class Acceptor:
    """Gives each connection of a listening socket, made non-blocking, to ``on_connection``."""

    def __init__(self, listening: socket.socket, on_connection: Callable[[socket.socket], None]) -> None:
        self._listening: socket.socket | None = listening
        self._on_connection = on_connection
        self._begin()

    def close(self) -> None:
        """Accept no more. The socket stays its owner's."""
        if self._listening is not None:
            asyncio.get_running_loop().remove_reader(self._listening)
            self._listening = None

    def _begin(self) -> None:
        if self._listening is not None:
            asyncio.get_running_loop().add_reader(self._listening, self._accept)

    def _accept(self) -> None:
        assert self._listening is not None  # noqa: S101 - the reader is removed before it is cleared
        try:
            connection, _ = self._listening.accept()
        except (BlockingIOError, ConnectionAbortedError, InterruptedError):
            return
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS):
                raise
            # The listener stays readable, so without this pause the loop would spin until one is free.
            _log.warning(
                "No descriptor for one more client (%s); those plugged in go on", os.strerror(error.errno)
            )
            loop = asyncio.get_running_loop()
            loop.remove_reader(self._listening)
            loop.call_later(_ACCEPT_RETRY_SECONDS, self._begin)
            return
        connection.setblocking(False)
        self._on_connection(connection)


def peer_process(connection: socket.socket) -> tuple[int, int]:
    """Process and user id of the other end (pid 0 where the system does not tell)."""
    if sys.platform == "linux":
        pid, uid, _ = _UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
        return pid, uid
    # <sys/ucred.h> LOCAL_PEERCRED (level 0): u_int cr_version; uid_t cr_uid; ...
    uid = struct.unpack_from("=II", connection.getsockopt(_SOL_LOCAL, 1, 76))[1]
    pid = 0
    with suppress(OSError):
        pid = connection.getsockopt(_SOL_LOCAL, _LOCAL_PEERPID)
    return pid, uid
