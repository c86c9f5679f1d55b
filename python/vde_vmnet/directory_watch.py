"""See a name come and go in a directory without looking all the time: inotify, where there is one."""

from __future__ import annotations

import ctypes
import enum
import os
import struct
import sys
from pathlib import Path

__all__ = ["Change", "NameWatch"]

# sys/inotify.h: MOVED_FROM | DELETE; ATTRIB | MOVED_TO | CREATE; and the fixed part of an event.
_IN_GOES = 0x040 | 0x200
_IN_COMES = 0x004 | 0x080 | 0x100
_EVENT = struct.Struct("iIII")


class Change(enum.Flag):
    """What may have happened to a name."""

    CAME = 1
    GONE = 2


class NameWatch:
    """``fd`` is readable when something happened in the directory; ``take`` says what happened to the name."""

    def __init__(self, path: Path) -> None:
        self._name = os.fsencode(path.name)
        #: None where the system has no inotify or does not let us; the caller then looks now and then.
        self.fd: int | None = None
        if sys.platform != "linux":
            return
        libc = ctypes.CDLL(None, use_errno=True)
        fd = libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        if fd < 0:
            return
        if libc.inotify_add_watch(fd, os.fsencode(path.parent), _IN_GOES | _IN_COMES) < 0:
            os.close(fd)
            return
        self.fd = fd

    def take(self) -> Change:
        """What happened to the name since the last call."""
        found = Change(0)
        try:
            while self.fd is not None and (data := os.read(self.fd, 65536)):
                found |= self._concerning_us(data)
        except BlockingIOError:
            return found
        return found

    def _concerning_us(self, data: bytes) -> Change:
        at, found = 0, Change(0)
        while at < len(data):
            watch, mask, _, length = _EVENT.unpack_from(data, at)
            at += _EVENT.size + length
            # -1: the queue ran over.
            if watch == -1 or data[at - length : at].rstrip(b"\0") == self._name:
                found |= Change.GONE if mask & _IN_GOES else Change.CAME
        return found

    def close(self) -> None:
        """A second call does nothing."""
        if self.fd is not None:
            os.close(self.fd)
            self.fd = None
