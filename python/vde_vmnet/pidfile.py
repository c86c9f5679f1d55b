"""The pidfile: locked while the daemon lives, in place only while the network is ready."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path

from vde_vmnet.errors import ConfigurationError, ConflictError, PrivilegeError

__all__ = ["Pidfile"]


class Pidfile:
    """``claim`` early, ``write`` when ready, ``remove`` at the end.

    Until ``write`` the lock is held on a file beside the final name, so a reader (Lima polls for it) never
    sees a pidfile of a network that is not there yet.
    """

    def __init__(self, path: Path, waiting: Path, fd: int) -> None:
        self._path = path
        self._waiting = waiting
        self._fd = fd
        self._written = False

    @classmethod
    def claim(cls, path: Path) -> Pidfile:
        """Raises ConflictError (a daemon runs with it), ConfigurationError or PrivilegeError (not writable)."""
        _refuse_if_locked(path)
        waiting = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            fd = os.open(waiting, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        except (FileNotFoundError, NotADirectoryError):
            raise ConfigurationError(
                f'--pidfile "{path}": "{path.parent}" is not a directory', next_step="Make it first"
            ) from None
        except PermissionError:
            raise PrivilegeError(
                f'--pidfile "{path}": "{path.parent}" may not be written by this user',
                next_step="Choose a path of your own, or run with sudo",
            ) from None
        fcntl.flock(fd, fcntl.LOCK_EX)
        return cls(path, waiting, fd)

    def write(self, pid: int) -> None:
        """Put the pid in place, as a decimal line. Raises ConflictError when another daemon was faster."""
        _refuse_if_locked(self._path)
        os.pwrite(self._fd, f"{pid}\n".encode(), 0)
        self._waiting.rename(self._path)
        self._written = True

    def remove(self) -> None:
        """Take it away again; the lock ends with it."""
        with suppress(OSError):
            (self._path if self._written else self._waiting).unlink()
        self.release_in_child()

    def release_in_child(self) -> None:
        """A forked worker lets go of its copy, so that the lock lives and dies with the keeper."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _refuse_if_locked(path: Path) -> None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return
    except OSError as error:
        raise ConfigurationError(
            f'--pidfile "{path}" cannot be read: {os.strerror(error.errno or 0)}', next_step="Remove it"
        ) from None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(fd, 32, 0).decode("ascii", "replace").strip()
        raise ConflictError(
            f'--pidfile "{path}" is held by a running daemon (pid {holder})',
            next_step=f"Stop it with `kill {holder}`, or choose another pidfile",
        ) from None
    finally:
        os.close(fd)
