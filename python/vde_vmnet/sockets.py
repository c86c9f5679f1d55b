"""Socket paths: make, own, chmod, probe and remove. Every rule about files of a switch directory is here."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import socket
import stat
import sys
from contextlib import suppress
from pathlib import Path

from vde_vmnet.config.model import SwitchConfig
from vde_vmnet.errors import ConfigurationError, ConflictError, PrivilegeError
from vde_vmnet.privileges import invoking_identity

__all__ = [
    "CONTROL_NAME",
    "MAX_DIRECTORY_LENGTH",
    "SwitchDirectory",
    "has_live_switch",
    "is_claimed",
    "is_stale",
]

CONTROL_NAME = "ctl"
#: Both sides put names below the directory, at most ``/.PPPPPPP-NNNNN`` (15 bytes and a NUL), and the whole
#: must fit ``sun_path``: 108 bytes on Linux, 104 on macOS.
MAX_DIRECTORY_LENGTH = 90 if sys.platform == "darwin" else 92
#: Plugs that wait to be accepted. The reference has 15, which a CI job that starts 200 guests overruns.
_BACKLOG = 256
# What VDE switches and clients leave behind: ctl, NNN.FD (switch side), .PID-N (client side).
_VDE_NAME = re.compile(r"ctl|\d{3,}\.\d+|\.\d+-\d+")


def is_stale(path: Path) -> bool:
    """Whether ``path`` is a socket on which nobody listens any more."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            return False
    except OSError:
        return False
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_UNIX, kind) as probe:
            probe.setblocking(False)
            try:
                probe.connect(os.fspath(path))
            except OSError as error:
                if error.errno == errno.ECONNREFUSED:
                    return True
                # EPROTOTYPE: of the other kind. Anything else (no permission, backlog full): somebody's.
                if error.errno != errno.EPROTOTYPE:
                    return False
            else:
                return False
    return False


def has_live_switch(directory: Path) -> bool:
    """Whether a VDE switch, ours or another, serves in ``directory``."""
    control = directory / CONTROL_NAME
    return os.path.lexists(control) and not is_stale(control)


def is_claimed(directory: Path) -> bool:
    """Whether a daemon of ours holds ``directory``; other switches do not lock theirs."""
    try:
        lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(lock)


class SwitchDirectory:
    """A claimed switch directory: ours alone while this object lives (a lock on the directory itself).

    ``claim`` needs the right to make the directory; ``listen`` and ``close`` are done by the worker, which
    owns it then. ``sweep`` removes what dead switches and clients left.
    """

    def __init__(self, path: Path, lock: int, *, made: bool, mode: int, gid: int) -> None:
        self.path = path
        #: Whether the directory is ours to remove: we made it, or a killed switch left it.
        self.made = made
        self._lock = lock
        self._mode = mode
        self._gid = gid
        self._control: socket.socket | None = None

    @classmethod
    def claim(cls, config: SwitchConfig, *, uid: int, gid: int) -> SwitchDirectory:
        """Make or take over the directory and give it to ``uid`` and the socket group ``gid``.

        Raises ConfigurationError (path too long, not a directory), PrivilegeError (not writable, somebody
        else's), ConflictError (a live switch owns it). Nothing is left behind on failure.
        """
        path = config.directory
        length = len(os.fsencode(path))
        if length > MAX_DIRECTORY_LENGTH:
            raise ConfigurationError(
                f'Switch directory "{path}" has a path of {length} bytes; at most {MAX_DIRECTORY_LENGTH} leave'
                " room for the sockets in it",
                next_step="Choose a shorter path, such as /var/run/vde.ctl",
            )
        made = _make(path)
        try:
            return cls._take(path, config.mode, uid, gid, made=made)
        except BaseException:
            if made:
                with suppress(OSError):
                    path.rmdir()
            raise

    @classmethod
    def _take(cls, path: Path, mode: int, uid: int, gid: int, *, made: bool) -> SwitchDirectory:
        try:
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except NotADirectoryError:
            raise ConfigurationError(
                f'Switch directory "{path}" exists and is not a directory',
                next_step="Remove it or choose another path",
            ) from None
        except PermissionError:
            raise PrivilegeError(
                f'Switch directory "{path}" may not be read by this user',
                next_step="Run with sudo, or choose a directory of your own",
            ) from None
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise _in_use(path) from None
            owner = os.fstat(lock).st_uid
            if owner not in (0, uid, os.geteuid()):
                raise PrivilegeError(
                    f'Switch directory "{path}" belongs to user id {owner}, who could tamper with it',
                    next_step="Remove it or choose another path",
                )
            if has_live_switch(path):
                raise _in_use(path)
            if not os.access(path, os.W_OK | os.X_OK):
                raise PrivilegeError(
                    f'Switch directory "{path}" may not be written by this user',
                    next_step="Run with sudo, or choose a directory of your own",
                )
            # Group first: giving the directory away ends an unprivileged caller's right to change it.
            os.fchown(lock, uid, gid)
            # Set-group-id: sockets made in it, by us and by clients, belong to the group.
            os.fchmod(lock, 0o2000 | mode)
        except BaseException:
            os.close(lock)
            raise
        directory = cls(path, lock, made=made, mode=mode, gid=gid)
        if directory.sweep():
            directory.made = True
        return directory

    @property
    def socket_mode(self) -> int:
        """Mode of the sockets inside: the directory's without the x bits, as vde_switch does."""
        return self._mode & 0o666

    def listen(self) -> socket.socket:
        """Bind and listen on the control socket; non-blocking.

        Raises PrivilegeError when the user we serve as cannot get here, OSError.
        """
        control = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        control.setblocking(False)
        path = self.path / CONTROL_NAME
        try:
            control.bind(os.fspath(path))
            self.hand_out(path)
            control.listen(_BACKLOG)
        except PermissionError:
            control.close()
            raise PrivilegeError(
                f'Switch directory "{self.path}" may not be used by "{invoking_identity().name}", as whom the'
                " daemon serves",
                next_step="Choose a path whose every parent that user may enter, or another --user",
            ) from None
        except BaseException:
            control.close()
            raise
        self._control = control
        return control

    def hand_out(self, path: Path) -> None:
        """Give a socket the group and mode that clients need."""
        os.chown(path, -1, self._gid)
        path.chmod(self.socket_mode)

    def close(self) -> None:
        """Stop listening and remove the control socket. The lock stays until the process ends."""
        if self._control is not None:
            self._control.close()
            self._control = None
            with suppress(OSError):
                (self.path / CONTROL_NAME).unlink()

    def sweep(self) -> bool:
        """Remove VDE sockets on which nobody listens; files of other names are nobody's business.

        True when a switch's own sockets were among them: then the directory was a switch's.
        """
        of_a_switch = False
        with suppress(OSError):
            for entry in sorted(self.path.iterdir()):
                if _VDE_NAME.fullmatch(entry.name) and is_stale(entry):
                    entry.unlink(missing_ok=True)
                    of_a_switch |= not entry.name.startswith(".")
        return of_a_switch

    def remove(self) -> None:
        """After everything: sweep, and remove the directory if it is ours and empty."""
        self.sweep()
        if self.made:
            with suppress(OSError):
                self.path.rmdir()


def _make(path: Path) -> bool:
    try:
        # Nobody else gets in before owner and mode are right.
        path.mkdir(mode=0o700)
    except FileExistsError:
        return False
    except FileNotFoundError:
        raise ConfigurationError(
            f'Switch directory "{path}": its parent "{path.parent}" does not exist', next_step="Make it first"
        ) from None
    except NotADirectoryError:
        raise ConfigurationError(
            f'Switch directory "{path}": "{path.parent}" is not a directory', next_step="Choose another path"
        ) from None
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        raise PrivilegeError(
            f'Switch directory "{path}" cannot be made: {os.strerror(error.errno)}',
            next_step="Run with sudo, or choose a directory of your own, such as /tmp/vde.ctl",
        ) from None
    return True


def _in_use(path: Path) -> ConflictError:
    return ConflictError(
        f'Switch directory "{path}" is in use by a running switch',
        next_step=f"Plug your guest into it (sock={path}), stop it, or choose another directory",
    )
