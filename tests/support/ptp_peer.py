"""The client of a VDE point-to-point pair in a few lines, written from the protocol."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from types import TracebackType
from typing import Self

__all__ = ["PtpPeer"]


class PtpPeer:
    """One peer of the pair at ``path``; it says nothing when it comes. ``receive`` waits at most 10 s."""

    def __init__(self, path: Path) -> None:
        self.path = Path(f"{path}+")
        self.data = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            self.data.settimeout(10)
            self.data.connect(os.fspath(path))
            self.data.bind(os.fspath(self.path))
        except BaseException:
            self.data.close()
            raise

    def send(self, *frames: bytes) -> None:
        for one in frames:
            self.data.send(one)

    def receive(self) -> list[bytes]:
        return [self.data.recv(1 << 17)]

    def killed(self) -> None:
        """The end of a process without a word: the name stays."""
        self.data.close()

    def left(self) -> None:
        """As libvdeplug2 does it."""
        self.data.send(b"")
        self.path.unlink()
        self.data.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.data.close()
