"""The sockets beside VDESWITCH, opened in stage 2: each is a ``Segment`` that listens on one path."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from functools import partial

from vde_vmnet import privileges
from vde_vmnet.config.model import DaemonConfig
from vde_vmnet.ports.numbers import PortNumbers
from vde_vmnet.recovery import UndoRecord
from vde_vmnet.segment import MakeListener, Segment
from vde_vmnet.socket_file import SocketFile

__all__ = ["open_sockets"]


def open_sockets(
    config: DaemonConfig, identity: privileges.Identity, gid: int, closing: ExitStack
) -> list[Segment]:
    """Open what ``--stream`` names; ``closing`` gets what must be taken down.

    Raises ConfigurationError, ConflictError, PrivilegeError.
    """
    numbers = PortNumbers()
    opened: list[Segment] = []
    for path in config.listeners.stream:
        file = SocketFile.claim(
            "--stream", path, socket.SOCK_STREAM, identity=identity, gid=gid, mode=config.switch.mode
        )
        closing.callback(file.remove)
        opened.append(_Stream(file, numbers))
    return opened


class _Stream:
    """Guests of one ``--stream``. See ``segment.Segment``."""

    def __init__(self, file: SocketFile, numbers: PortNumbers) -> None:
        self._file = file
        self._numbers = numbers

    def record(self, undo: UndoRecord) -> None:
        self._file.record(undo)

    def release_in_keeper(self) -> None:
        self._file.socket.close()

    def listener(self) -> MakeListener:
        from vde_vmnet.ports.qemu_stream import QemuStreamListener

        return partial(QemuStreamListener, self._file, self._numbers)
