"""Where a capture goes: a pipe, a file, or files in turn."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from vde_vmnet.observe.pcapng import Blocks

__all__ = ["Files", "Pipe", "Rotation", "Target", "record", "step_back"]


class Target(Protocol):
    """What whole blocks are written to."""

    def write(self, blocks: bytes, header: bytes) -> None:
        """``header`` is what a new file begins with here: made of the blocks before these. Raises OSError."""

    def close(self) -> None:
        """Also after an error."""


@dataclass(frozen=True)
class Rotation:
    """When the next file begins, and how many are kept; each may be left open."""

    size: int | None = None
    seconds: float | None = None
    files: int | None = None

    @property
    def is_wanted(self) -> bool:
        return self.size is not None or self.seconds is not None


class Pipe:
    """A descriptor that is somebody else's, such as standard output."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def write(self, blocks: bytes, header: bytes) -> None:  # noqa: ARG002 - there is one file only
        view = memoryview(blocks)
        while view:
            view = view[os.write(self._fd, view) :]

    def close(self) -> None:
        """Nothing: it is not ours."""


class Files:
    """A file, or ``NAME_00001.SUFFIX`` and on, each of which can be read by itself."""

    def __init__(
        self, path: Path, rotation: Rotation, now: Callable[[], float] = time.monotonic, start: int = 1
    ) -> None:
        """The first file is made at once. Raises OSError."""
        self._path = path
        self._rotation = rotation
        self._now = now
        self._number = start
        #: Names of the files that are there, oldest first.
        self.written: list[Path] = []
        self._file: BinaryIO
        self._open()

    def write(self, blocks: bytes, header: bytes) -> None:
        if header and self._is_full(len(blocks)):
            self._file.close()
            self._number += 1
            self._open()
            self._file.write(header)
            self._size = len(header)
        self._file.write(blocks)
        self._size += len(blocks)

    def close(self) -> None:
        self._file.close()

    def _is_full(self, more: int) -> bool:
        size, seconds = self._rotation.size, self._rotation.seconds
        return (size is not None and self._size + more > size) or (
            seconds is not None and self._now() - self._since >= seconds
        )

    def _open(self) -> None:
        path = self._path
        if self._rotation.is_wanted:
            path = path.with_name(f"{path.stem}_{self._number:05}{path.suffix}")
        # Unbuffered: pieces are large, and what was captured is to be seen by whoever reads along.
        self._file = path.open("wb", buffering=0)
        self._size, self._since = 0, self._now()
        self.written.append(path)
        if self._rotation.files is not None and len(self.written) > self._rotation.files:
            self.written.pop(0).unlink(missing_ok=True)


def record(pieces: Iterable[bytes], target: Target, blocks: Blocks) -> None:
    """Write everything. Raises OSError."""
    for piece in pieces:
        before = blocks.header
        whole = blocks.feed(piece)
        if whole:
            target.write(whole, before)


def step_back() -> None:
    """Take only what others leave of the processor: what is captured matters more than the capture."""
    os.nice(19)
    if sys.platform == "linux":
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
