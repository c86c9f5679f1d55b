"""Clients of a datagram socket in a few lines, one for each convention that programs have."""

from __future__ import annotations

import os
import select
import socket
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import Self

__all__ = ["ConnectedPeer", "QemuPeer", "UnixgramPeer"]


class UnixgramPeer(ABC):
    """A client that is bound to ``own``. ``receive`` waits at most 10 s for each frame."""

    def __init__(self, path: Path, own: Path) -> None:
        self.path = os.fspath(path)
        self.own = own
        self.data = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            self.data.settimeout(10)
            self.data.bind(os.fspath(own))
            own.chmod(0o770)
        except BaseException:
            self.data.close()
            raise

    @abstractmethod
    def send(self, *frames: bytes) -> None:
        """As its program does it."""

    def receive(self, count: int = 1) -> list[bytes]:
        return [self.data.recv(1 << 17) for _ in range(count)]

    def receives_nothing(self) -> bool:
        """Within a tenth of a second, in which frames on their way arrive many times over."""
        return not select.select([self.data], [], [], 0.1)[0]

    def killed(self) -> None:
        """The end of a process without a word: the name stays."""
        self.data.close()

    def close(self) -> None:
        self.own.unlink(missing_ok=True)
        self.data.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class QemuPeer(UnixgramPeer):
    """QEMU's ``-netdev dgram``: never connected, the path is looked up for every frame."""

    def send(self, *frames: bytes) -> None:
        for one in frames:
            self.data.sendto(one, self.path)


class ConnectedPeer(UnixgramPeer):
    """Connected from the start, and with vfkit's word of introduction or, like krunkit, without."""

    def __init__(self, path: Path, own: Path, *, introduction: bytes = b"") -> None:
        super().__init__(path, own)
        self.data.connect(self.path)
        if introduction:
            self.data.send(introduction)

    def send(self, *frames: bytes) -> None:
        for one in frames:
            self.data.send(one)
