"""Two events as descriptors that poll can wait for: something in a directory, and the end of a process.

Linux has inotify and pidfd for them, macOS has kqueue, which was not run on a Mac.
"""

from __future__ import annotations

import ctypes
import os
import select
import struct
import sys
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

__all__ = ["ExitWatch", "FileWatch"]


class _Watch:
    """A context manager."""

    #: Readable when there is something.
    fd: int

    def close(self) -> None:
        """Once."""
        os.close(self.fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


if sys.platform == "linux":
    # sys/inotify.h: CLOSE_WRITE | MOVED_TO | CREATE; and the fixed part of an event.
    _IN_APPEARS = 0x008 | 0x080 | 0x100
    _IN_CLOEXEC = os.O_CLOEXEC
    _IN_NONBLOCK = os.O_NONBLOCK
    _EVENT = struct.Struct("iIII")

    class FileWatch(_Watch):
        """Readable whenever something appears or is written in a directory."""

        def __init__(self, directory: Path) -> None:
            """Raises OSError when the directory is not there."""
            libc = ctypes.CDLL(None, use_errno=True)
            self.fd = libc.inotify_init1(_IN_CLOEXEC | _IN_NONBLOCK)
            if self.fd < 0 or libc.inotify_add_watch(self.fd, os.fsencode(directory), _IN_APPEARS) < 0:
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(directory))

        def drain(self) -> None:
            """Forget what has happened so far."""
            with suppress(BlockingIOError):
                while os.read(self.fd, 64 * _EVENT.size):
                    pass

    class ExitWatch(_Watch):
        """Readable when a child has ended."""

        def __init__(self, pid: int) -> None:
            """Raises ProcessLookupError when there is no such process."""
            self.fd = os.pidfd_open(pid)

else:

    class FileWatch(_Watch):
        """Readable whenever something appears in a directory."""

        def __init__(self, directory: Path) -> None:
            """Raises OSError when the directory is not there."""
            self._directory = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            self._queue = select.kqueue()
            self.fd = self._queue.fileno()
            # An entry that is made or renamed is a write to the directory.
            flags = select.KQ_EV_ADD | select.KQ_EV_CLEAR
            wanted = select.kevent(self._directory, select.KQ_FILTER_VNODE, flags, select.KQ_NOTE_WRITE)
            self._queue.control([wanted], 0)

        def drain(self) -> None:
            """Forget what has happened so far."""
            self._queue.control(None, 64, 0)

        def close(self) -> None:
            """Once."""
            self._queue.close()
            os.close(self._directory)

    class ExitWatch(_Watch):
        """Readable when a child has ended, unless it had before."""

        def __init__(self, pid: int) -> None:
            """The caller looks whether it has ended already."""
            self._queue = select.kqueue()
            self.fd = self._queue.fileno()
            wanted = select.kevent(pid, select.KQ_FILTER_PROC, select.KQ_EV_ADD, select.KQ_NOTE_EXIT)
            with suppress(ProcessLookupError):
                self._queue.control([wanted], 0)

        def close(self) -> None:
            """Once."""
            self._queue.close()
