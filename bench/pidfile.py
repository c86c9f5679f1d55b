"""Wait for a pidfile to be written, by inotify: a poll would add its own interval to the time measured."""

from __future__ import annotations

import ctypes
import os
import select
import subprocess
import time
from pathlib import Path

from bench.errors import BenchError

__all__ = ["PidfileWatch"]

# inotify(7), <sys/inotify.h>.
_IN_MODIFY = 0x2
_IN_CLOSE_WRITE = 0x8
_IN_MOVED_TO = 0x80
_IN_CREATE = 0x100
_IN_NONBLOCK = os.O_NONBLOCK
_IN_CLOEXEC = os.O_CLOEXEC


class PidfileWatch:
    """Begun before the program is started, so that nothing is missed."""

    def __init__(self, pidfile: Path) -> None:
        self._pidfile = pidfile
        libc = ctypes.CDLL(None, use_errno=True)
        self._fd: int = libc.inotify_init1(_IN_NONBLOCK | _IN_CLOEXEC)
        mask = _IN_MODIFY | _IN_CLOSE_WRITE | _IN_MOVED_TO | _IN_CREATE
        folder = os.fsencode(pidfile.parent)
        if self._fd < 0 or libc.inotify_add_watch(self._fd, folder, mask) < 0:
            raise BenchError(f"cannot watch {pidfile.parent}: {os.strerror(ctypes.get_errno())}")

    def wait(self, process: subprocess.Popen[bytes], seconds: float) -> None:
        """Return when the pidfile holds a number.

        Raises BenchError when ``process`` ends first or ``seconds`` have passed.
        """
        deadline = time.monotonic() + seconds
        ended = os.pidfd_open(process.pid)
        try:
            while not self._written():
                left = deadline - time.monotonic()
                ready = select.select([self._fd, ended], [], [], max(left, 0))[0]
                if self._fd in ready:
                    os.read(self._fd, 1 << 16)
                elif ended in ready:
                    raise BenchError(f"ended with status {process.wait()} before it was ready")
                elif left <= 0:
                    raise BenchError(f"not ready within {seconds:.0f} s")
        finally:
            os.close(ended)

    def close(self) -> None:
        os.close(self._fd)

    def _written(self) -> bool:
        try:
            return self._pidfile.read_text().strip().isdigit()
        except FileNotFoundError:
            return False
