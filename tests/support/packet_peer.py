"""Either end of vdeplug4's newer point to point in a few lines, written from the protocol."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path
from types import TracebackType
from typing import Self

__all__ = ["PacketPeer", "PacketServer"]


class PacketPeer:
    """The client; the constructor waits for the server's answer. ``receive`` waits at most 10 s."""

    def __init__(self, path: Path) -> None:
        self.data = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self.data.settimeout(10)
            self.data.connect(os.fspath(path))
            answer = self.data.recv(1)
            if answer != b"\0":
                raise OSError(answer[0] if answer else errno.EFAULT, "the server's answer")
        except BaseException:
            self.data.close()
            raise

    def send(self, *frames: bytes) -> None:
        for one in frames:
            self.data.send(one)

    def receive(self) -> list[bytes]:
        return [self.data.recv(1 << 17)]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.data.close()


class PacketServer:
    """The server, which takes one peer."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listening.settimeout(10)
        self.listening.bind(os.fspath(path))
        self.listening.listen(1)
        self.data: socket.socket | None = None

    def answer(self, byte: int = 0) -> None:
        """Accept the next client with this byte; one that is refused is closed."""
        connection, _ = self.listening.accept()
        connection.send(bytes([byte]))
        if byte:
            connection.close()
            return
        connection.settimeout(10)
        self.data = connection

    def send(self, *frames: bytes) -> None:
        assert self.data is not None
        for one in frames:
            self.data.send(one)

    def receive(self) -> list[bytes]:
        assert self.data is not None
        return [self.data.recv(1 << 17)]

    def close(self) -> None:
        """As vdeplug4: the name goes first."""
        self.path.unlink(missing_ok=True)
        self.killed()

    def killed(self) -> None:
        """The end of a process without a word: the name stays."""
        self.listening.close()
        if self.data is not None:
            self.data.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
