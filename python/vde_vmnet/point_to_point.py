"""``PATH[]``, opened in stage 2: a pair of datagram sockets, or one connection of packets.

A path is a socket of one kind, so ``--vde-ptp`` chooses; what is there already decides where nobody chose.
"""

from __future__ import annotations

import errno
import os
import socket
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from vde_vmnet import privileges
from vde_vmnet.config.model import PtpSocket, SwitchConfig
from vde_vmnet.directory_watch import NameWatch
from vde_vmnet.errors import PrivilegeError, UnavailableError
from vde_vmnet.opened import MakeListener, Segment
from vde_vmnet.recovery import UndoRecord
from vde_vmnet.socket_file import PacketPath, SocketFile, connect_packets

__all__ = ["open_pair"]


def open_pair(
    config: SwitchConfig, identity: privileges.Identity, gid: int, closing: ExitStack, place: int
) -> Segment:
    """Open the socket at ``config.directory``; ``closing`` gets what must be taken down.

    Raises ConflictError, PrivilegeError, ConfigurationError, UnavailableError.
    """
    path = PacketPath(config.directory, gid, config.mode & 0o666)
    joined = None
    if config.ptp_socket is not PtpSocket.DGRAM and os.path.lexists(path.path):
        joined = _join(path, identity, insists=config.ptp_socket is PtpSocket.SEQPACKET)
    if joined is not None:
        closing.callback(joined.close)
        return _Packets(path, joined, None, place)
    if config.ptp_socket is PtpSocket.SEQPACKET:
        try:
            ours = path.claim(identity)
        except OSError as error:
            if error.errno not in (errno.EPROTONOSUPPORT, errno.ESOCKTNOSUPPORT):
                raise
            raise UnavailableError(
                "--vde-ptp=seqpacket: this system has no UNIX sockets of that kind",
                next_step="Leave it out and plug in with a libvdeplug that uses datagrams",
            ) from None
        closing.callback(ours.remove)
        return _Packets(path, None, ours, place)
    ours = SocketFile.claim(
        *("Point-to-point socket", path.path, socket.SOCK_DGRAM),
        identity=identity,
        gid=gid,
        mode=path.mode,
        room=1,
    )
    closing.callback(ours.remove)
    watch = NameWatch(Path(f"{ours.path}+"))
    closing.callback(watch.close)
    return _Datagrams(ours, watch, place)


def _join(path: PacketPath, identity: privileges.Identity, *, insists: bool) -> socket.socket | None:
    """A connection to the server there; None where none answers, whatever else is there."""
    try:
        return privileges.with_least_privilege(
            identity, path.gid, path.path.parent, partial(connect_packets, path.path)
        )
    except PermissionError:
        if not insists:
            return None
        raise PrivilegeError(
            f'The point-to-point server at "{path.path}" does not let "{identity.name}", as whom the daemon'
            " serves, connect",
            next_step="Serve as its user with --user",
        ) from None
    except OSError:
        return None


class _Datagrams:
    """Two datagram sockets; ours is there already."""

    def __init__(self, ours: SocketFile, watch: NameWatch, place: int) -> None:
        self._ours = ours
        self._watch = watch
        self._place = place

    def record(self, undo: UndoRecord) -> None:
        self._ours.record(undo)

    def release_in_keeper(self) -> None:
        self._ours.socket.close()
        self._watch.close()

    def listener(self) -> MakeListener:
        from vde_vmnet.ports.vde_ptp import VdePtpListener

        return partial(VdePtpListener, self._ours, self._watch, port=self._place)


class _Packets:
    """One connection: to a server that was there, or to come."""

    def __init__(
        self, path: PacketPath, joined: socket.socket | None, ours: SocketFile | None, place: int
    ) -> None:
        self._path = path
        self._joined = joined
        self._ours = ours
        self._place = place

    def record(self, undo: UndoRecord) -> None:
        if self._ours is not None:
            self._ours.record(undo)

    def release_in_keeper(self) -> None:
        for one in (self._joined, self._ours.socket if self._ours else None):
            if one is not None:
                one.close()

    def listener(self) -> MakeListener:
        from vde_vmnet.ports.vde_ptp_packets import VdePtpPacketListener

        return partial(VdePtpPacketListener, self._path, self._joined or self._ours, port=self._place)
