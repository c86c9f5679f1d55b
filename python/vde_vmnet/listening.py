"""The sockets beside VDESWITCH, opened in stage 2: each is a ``Segment``."""

from __future__ import annotations

import errno
import os
import socket
import sys
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from vde_vmnet import privileges
from vde_vmnet.config.model import DaemonConfig
from vde_vmnet.errors import ConfigurationError, UnavailableError
from vde_vmnet.keeper import stop_waits
from vde_vmnet.opened import MakeListener, Segment
from vde_vmnet.ports.numbers import PortNumbers
from vde_vmnet.recovery import UndoRecord
from vde_vmnet.socket_file import SocketFile

__all__ = ["open_sockets"]

_USUAL_MTU = 1500


def open_sockets(
    config: DaemonConfig, identity: privileges.Identity, gid: int, closing: ExitStack
) -> list[Segment]:
    """Open what ``--stream``, ``--vhost-user``, ``--dgram`` and ``--fd`` name; ``closing`` gets the undoing.

    Raises ConfigurationError, ConflictError, PrivilegeError, UnavailableError.
    """
    if config.listeners.vhost_user and sys.platform != "linux":
        raise UnavailableError(
            "--vhost-user needs Linux", next_step="Use --stream, which takes QEMU's guests everywhere"
        )
    numbers = PortNumbers()
    opened: list[Segment] = []
    for path in (*config.listeners.stream, *config.listeners.vhost_user):
        shared = path in config.listeners.vhost_user
        with stop_waits():
            file = SocketFile.claim(
                "--vhost-user" if shared else _option("--stream", path, config),
                path,
                socket.SOCK_STREAM,
                identity=identity,
                gid=gid,
                mode=config.switch.mode,
            )
            closing.callback(file.remove)
        opened.append(
            _VhostUser(file, numbers) if shared else _Stream(file, numbers, _offload_mtu(path, config))
        )
    for path in config.listeners.dgram:
        # Room for the name under which the next socket is made, see ``SocketFile.renewed``.
        file = SocketFile.claim(
            *(_option("--dgram", path, config), path, socket.SOCK_DGRAM),
            identity=identity,
            gid=gid,
            mode=config.switch.mode,
            room=1,
        )
        closing.callback(file.remove)
        opened.append(_Dgram(file, numbers, _offload_mtu(path, config)))
    if config.listeners.fd is not None:
        given = _given(config.listeners.fd)
        closing.callback(given.close)
        opened.append(_Given(given, numbers))
    return opened


def _option(plain: str, path: Path, config: DaemonConfig) -> str:
    return f"{plain}-offload" if path in config.listeners.offload else plain


def _offload_mtu(path: Path, config: DaemonConfig) -> int | None:
    """How long packets to others are, for guests that leave it to us to cut theirs."""
    return (config.uplink.mtu or _USUAL_MTU) if path in config.listeners.offload else None


def _given(fd: int) -> socket.socket:
    """The socket that the parent left open as ``fd``, now ours alone."""
    option = f"--fd={fd}"
    try:
        given = socket.socket(fileno=fd)
    except OverflowError:
        raise ConfigurationError(f"{option} is more than any descriptor's number") from None
    except OSError as error:
        if error.errno == errno.EBADF:
            raise ConfigurationError(
                f"{option} is not open",
                next_step="The parent must pass it on; sudo closes what it is not told to keep:"
                f" sudo --close-from={fd + 1}, with closefrom_override in sudoers",
            ) from None
        if error.errno == errno.ENOTSOCK:
            raise ConfigurationError(f"{option} is not a socket") from None
        raise
    try:
        _check(given, option)
        given.setblocking(False)
        os.set_inheritable(fd, False)
    except BaseException:
        given.close()
        raise
    return given


def _check(given: socket.socket, option: str) -> None:
    datagrams = given.type == socket.SOCK_DGRAM
    if not datagrams and given.type != socket.SOCK_STREAM:
        kind = "SOCK_SEQPACKET" if given.type == socket.SOCK_SEQPACKET else f"type {int(given.type)}"
        raise ConfigurationError(
            f"{option} is a socket of {kind}", next_step="Pass a SOCK_DGRAM or SOCK_STREAM one"
        )
    if datagrams and given.family != socket.AF_UNIX:
        raise ConfigurationError(f"{option} is a datagram socket, and not a UNIX one")
    if not datagrams and given.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        raise ConfigurationError(
            f"{option} listens for connections", next_step="Pass a connected one, or use --stream=PATH"
        )
    try:
        given.getpeername()
    except OSError as error:
        if error.errno not in (errno.ENOTCONN, errno.EINVAL):
            raise
        raise ConfigurationError(
            f"{option} is not connected", next_step="Pass one end of socketpair(), or a connection"
        ) from None


class _OnFile:
    """Guests of one socket file, on ports of their own. See ``opened.Segment``."""

    def __init__(self, file: SocketFile, numbers: PortNumbers, offload_mtu: int | None = None) -> None:
        self._file = file
        self._numbers = numbers
        self._offload_mtu = offload_mtu

    def record(self, undo: UndoRecord) -> None:
        self._file.record(undo)

    def release_in_keeper(self) -> None:
        self._file.socket.close()


class _Stream(_OnFile):
    """``--stream``."""

    def listener(self) -> MakeListener:
        from vde_vmnet.ports.qemu_stream import QemuStreamListener

        return partial(QemuStreamListener, self._file, self._numbers, offload_mtu=self._offload_mtu)


class _VhostUser(_OnFile):
    """``--vhost-user``."""

    def listener(self) -> MakeListener:
        from vde_vmnet.ports.vhost_user import VhostUserListener

        return partial(VhostUserListener, self._file, self._numbers)


class _Dgram(_OnFile):
    """``--dgram``."""

    def listener(self) -> MakeListener:
        from vde_vmnet.ports.unixgram import UnixgramListener

        return partial(UnixgramListener, self._file, self._numbers, offload_mtu=self._offload_mtu)


class _Given:
    """The guest of ``--fd``. See ``opened.Segment``."""

    def __init__(self, given: socket.socket, numbers: PortNumbers) -> None:
        self._given = given
        self._numbers = numbers

    def record(self, undo: UndoRecord) -> None:
        """Nothing: it has no name."""

    def release_in_keeper(self) -> None:
        self._given.close()

    def listener(self) -> MakeListener:
        from vde_vmnet.ports.descriptor import DescriptorListener

        return partial(DescriptorListener, self._given, self._numbers)
