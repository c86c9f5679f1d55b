"""One UNIX socket at a path of its own, in no switch directory: claimed before the drop, served after it."""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import stat
import sys
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from vde_vmnet import privileges
from vde_vmnet.errors import ConfigurationError, ConflictError, PrivilegeError
from vde_vmnet.recovery import UndoRecord, Unlink
from vde_vmnet.sockets import is_stale

__all__ = ["PacketPath", "SocketFile", "connect_packets", "disconnect"]

#: ``sizeof sun_path`` less its NUL.
_MAX_PATH = (104 if sys.platform == "darwin" else 108) - 1


class SocketFile:
    """A bound socket and its file, which the service user owns. Non-blocking."""

    def __init__(self, path: Path, bound: socket.socket) -> None:
        self.path = path
        self.socket = bound
        status = path.lstat()
        self._identity = (status.st_dev, status.st_ino)

    @classmethod
    def claim(
        cls,
        what: str,
        path: Path,
        kind: socket.SocketKind,
        *,
        identity: privileges.Identity,
        gid: int,
        mode: int,
        room: int = 0,
    ) -> SocketFile:
        """Bind ``path``, give it to the service user and the group ``gid``, and set ``mode``.

        ``what`` names the path in messages, such as ``--mgmt``; ``room`` is how many bytes longer another name
        beside it is. What a dead program left there is replaced. Raises ConfigurationError (too long, no
        such directory, not a socket), ConflictError (somebody serves there), PrivilegeError.
        """
        length = len(os.fsencode(path))
        if length > _MAX_PATH - room:
            raise ConfigurationError(
                f'{what} "{path}" has {length} bytes; a socket path has at most {_MAX_PATH - room}',
                next_step="Choose a shorter path",
            )
        try:
            bound = privileges.with_least_privilege(
                identity, gid, path.parent, partial(_bind, what, path, kind, identity.uid, gid, mode)
            )
        except (FileNotFoundError, NotADirectoryError):
            raise ConfigurationError(
                f'{what} "{path}": "{path.parent}" is not a directory', next_step="Make it first"
            ) from None
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise
            raise PrivilegeError(
                f'{what} "{path}" cannot be made by "{identity.name}", as whom the daemon serves:'
                f" {error.strerror}",
                next_step="Choose a directory of that user, or one that only root can change",
            ) from None
        return cls(path, bound)

    def record(self, undo: UndoRecord) -> None:
        """For the case that everybody is killed."""
        undo.push(Unlink(str(self.path), *self._identity))

    def renewed(self) -> SocketFile:
        """A fresh socket under the same name, with the same owner and mode; this one goes on without a name.

        The name is there all the time. Raises OSError, in particular PermissionError where this user may not
        make files.
        """
        status = self.path.lstat()
        if (status.st_dev, status.st_ino) != self._identity:
            raise FileNotFoundError(errno.ENOENT, "somebody else's socket is there", str(self.path))
        fresh = Path(f"{self.path}~")
        fresh.unlink(missing_ok=True)
        bound = _bind_new(fresh, self.socket.type, status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode))
        try:
            fresh.rename(self.path)
        except BaseException:
            bound.close()
            with suppress(OSError):
                fresh.unlink()
            raise
        return SocketFile(self.path, bound)

    def remove(self) -> None:
        """Close it and take its name away, unless somebody else has put theirs there."""
        with suppress(OSError):
            status = self.path.lstat()
            if (status.st_dev, status.st_ino) == self._identity:
                self.path.unlink()
        self.socket.close()


def _bind(what: str, path: Path, kind: socket.SocketKind, uid: int, gid: int, mode: int) -> socket.socket:
    if os.path.lexists(path):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise ConfigurationError(
                f'{what} "{path}" exists and is not a socket', next_step="Remove it or choose another path"
            )
        if not is_stale(path):
            raise ConflictError(
                f'{what} "{path}" is in use by a running program', next_step="Stop it or choose another path"
            )
        path.unlink()
    return _bind_new(path, kind, uid, gid, mode)


def _bind_new(path: Path, kind: int, uid: int, gid: int, mode: int) -> socket.socket:
    bound = socket.socket(socket.AF_UNIX, kind)
    try:
        bound.setblocking(False)
        # Nobody else gets in before owner and mode are right.
        before = os.umask(0o177)
        try:
            bound.bind(os.fspath(path))
        finally:
            os.umask(before)
        os.chown(path, uid, gid, follow_symlinks=False)
        path.chmod(mode)
    except BaseException:
        bound.close()
        raise
    return bound


def disconnect(connected: socket.socket) -> None:
    """Make a datagram socket one that takes datagrams from anybody again."""
    nobody = ctypes.create_string_buffer(16)  # a sockaddr of AF_UNSPEC, which Python cannot say
    ctypes.CDLL(None).connect(connected.fileno(), nobody, len(nobody))


@dataclass(frozen=True)
class PacketPath:
    """Where a socket of packets is, or is to be made, and for whom."""

    path: Path
    gid: int
    mode: int

    def claim(self, identity: privileges.Identity) -> SocketFile:
        """Be the server there. Raises as ``SocketFile.claim``, and OSError where there are no such sockets."""
        return SocketFile.claim(
            *("Point-to-point socket", self.path, socket.SOCK_SEQPACKET),
            identity=identity,
            gid=self.gid,
            mode=self.mode,
        )


def connect_packets(path: Path) -> socket.socket:
    """A connection to the SEQPACKET server there, non-blocking. Raises OSError."""
    connected = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        connected.setblocking(False)
        connected.connect(os.fspath(path))
    except BaseException:
        connected.close()
        raise
    return connected
