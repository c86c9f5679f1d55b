"""The switch console's socket, opened in stage 2. See ``opened.Segment`` for the rooms."""

from __future__ import annotations

import os
import socket
from contextlib import ExitStack
from functools import partial

import vde_vmnet
from vde_vmnet import privileges
from vde_vmnet.config.model import DaemonConfig
from vde_vmnet.keeper import stop_waits
from vde_vmnet.opened import MakeListener, Segment
from vde_vmnet.recovery import UndoRecord
from vde_vmnet.socket_file import SocketFile

__all__ = ["open_console"]


def open_console(config: DaemonConfig, identity: privileges.Identity, closing: ExitStack) -> list[Segment]:
    """What ``--mgmt`` names, if anything; ``closing`` gets what must be taken down.

    Raises ConfigurationError, ConflictError, PrivilegeError.
    """
    if config.console is None:
        return []
    gid = identity.gid
    if config.console.group is not None:
        gid = privileges.socket_group(config.console.group, identity, option="--mgmtgroup")
    with stop_waits():
        file = SocketFile.claim(
            "--mgmt",
            config.console.path,
            socket.SOCK_STREAM,
            identity=identity,
            gid=gid,
            mode=config.console.mode,
        )
        closing.callback(file.remove)
    return [_Console(config, file)]


class _Console:
    """The console's socket."""

    def __init__(self, config: DaemonConfig, file: SocketFile) -> None:
        self._config = config
        self._file = file
        #: The one that the user started, and can signal.
        self._pid = os.getpid()

    def record(self, undo: UndoRecord) -> None:
        self._file.record(undo)

    def release_in_keeper(self) -> None:
        self._file.socket.close()

    def listener(self) -> MakeListener:
        from vde_vmnet.ports.console import ConsoleListener
        from vde_vmnet.ports.numbers import MAX_PORT
        from vde_vmnet.wire.console import Facts

        assert self._config.console is not None  # noqa: S101 - else there would be no socket
        facts = Facts(
            version=vde_vmnet.__version__,
            pid=self._pid,
            directory=str(self._config.switch.directory),
            mode=self._config.switch.mode & 0o666,
            console=str(self._file.path),
            console_mode=self._config.console.mode,
            ports=MAX_PORT + 1,
            # The engine's defaults.
            fdb_capacity=8192,
            fdb_seconds=300,
        )
        return partial(ConsoleListener, self._file, facts)
