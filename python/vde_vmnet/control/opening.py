"""The control socket and the port of ``--metrics``, opened in stage 2. See ``opened.Segment`` for the rooms.

Standard library only: root runs this. Whatever goes wrong with a control socket that nobody asked for is said,
and the network serves on without it.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path

from vde_vmnet import privileges
from vde_vmnet.config.model import DaemonConfig, network_id
from vde_vmnet.control import paths
from vde_vmnet.control.network import Facts
from vde_vmnet.errors import ConfigurationError, ConflictError, PrivilegeError, VdeVmnetError
from vde_vmnet.keeper import stop_waits
from vde_vmnet.opened import MakeListener, Segment
from vde_vmnet.recovery import UndoRecord, Unlink
from vde_vmnet.socket_file import SocketFile

__all__ = ["open_control"]

_log = logging.getLogger(__name__)


def open_control(
    config: DaemonConfig, identity: privileges.Identity, gid: int, closing: ExitStack, *, uplink: str
) -> list[Segment]:
    """What ``--control`` and ``--metrics`` name; ``closing`` gets what must be taken down.

    Raises ConfigurationError, ConflictError, PrivilegeError; never for a socket that was not asked for.
    """
    wanted = config.control
    file, entry = None, None
    if wanted.enabled:
        if wanted.group is not None:
            gid = privileges.socket_group(wanted.group, identity, option="--control-group")
        with stop_waits():
            file = _claim(config, identity, gid)
            if file is not None:
                closing.callback(file.remove)
                entry = _enter(file.path)
                if entry is not None:
                    closing.callback(_leave, entry, entry.lstat().st_ino)
    metrics = None
    if wanted.metrics is not None:
        metrics = _bind(*wanted.metrics)
        closing.callback(metrics.close)
    if file is None and metrics is None:
        return []
    starter = os.environ.get("SUDO_UID", "") if os.geteuid() == 0 else str(os.getuid())
    facts = Facts(
        name=str(config.switch.directory),
        id=network_id(config.switch.key),
        pid=os.getpid(),
        user=identity.name,
        masters=frozenset({0, identity.uid, *([int(starter)] if starter.isdecimal() else [])}),
        uplink=uplink,
        control=None if file is None else file.path,
        reservations=config.uplink.reservations,
        forwards=(*config.uplink.forwards, *config.uplink.named_forwards),
    )
    return [_Control(file, entry, metrics, facts)]


def _claim(config: DaemonConfig, identity: privileges.Identity, gid: int) -> SocketFile | None:
    asked = config.control.path
    claim = partial(
        SocketFile.claim,
        "--control",
        kind=socket.SOCK_STREAM,
        identity=identity,
        gid=gid,
        mode=config.switch.mode & 0o666,
    )
    if asked is not None:
        return claim(path=asked)
    # A descriptor's network has no place of its own.
    if config.switch.absent and config.listeners.count == (config.listeners.fd is not None):
        return None
    beside = paths.beside(config.switch.directory)
    try:
        try:
            return claim(path=beside)
        except ConflictError:
            # Somebody else's: several daemons can plug into one switch.
            return claim(path=paths.beside(config.switch.directory, os.getpid()))
    except VdeVmnetError as error:
        _log.warning(
            "No control socket, so that status and the like cannot look at this network: %s."
            " Name another place with --control, or none with --control=none",
            error.message,
        )
        return None


def _enter(control: Path) -> Path | None:
    try:
        return paths.enter(control, os.geteuid())
    except OSError as error:
        _log.warning("Commands will not find this network by themselves: %s. Name its VDESWITCH to them", error)
        return None


def _leave(entry: Path, inode: int) -> None:
    with suppress(OSError):
        if entry.lstat().st_ino == inode:
            entry.unlink()


def _bind(host: str, port: int) -> socket.socket:
    option = f"--metrics {host}:{port}"
    bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        bound.setblocking(False)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        if error.errno == errno.EADDRINUSE:
            raise ConflictError(
                f"{option} is in use by another program", next_step="Choose another port"
            ) from None
        if error.errno == errno.EACCES:
            raise PrivilegeError(f"{option} is a port for root", next_step="Choose one above 1023") from None
        raise ConfigurationError(f"{option} is not an address of this host: {error.strerror}") from None
    return bound


class _Control:
    """Both sockets."""

    def __init__(
        self, file: SocketFile | None, entry: Path | None, metrics: socket.socket | None, facts: Facts
    ) -> None:
        self._file = file
        self._entry = entry
        self._metrics = metrics
        self._facts = facts

    def record(self, undo: UndoRecord) -> None:
        if self._file is not None:
            self._file.record(undo)
        if self._entry is not None:
            undo.push(Unlink.same_file(self._entry))

    def release_in_keeper(self) -> None:
        if self._file is not None:
            self._file.socket.close()
        if self._metrics is not None:
            self._metrics.close()

    def listener(self) -> MakeListener:
        from vde_vmnet.control.listener import ControlListener

        return partial(ControlListener, self._file, self._metrics, self._facts)
