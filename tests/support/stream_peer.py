"""A client with QEMU's stream framing in a few lines: whole frames, and raw bytes for what must not be sent."""

from __future__ import annotations

import os
import select
import socket
from pathlib import Path
from types import TracebackType
from typing import Self

__all__ = ["StreamPeer", "framed"]


def framed(*frames: bytes) -> bytes:
    """What goes over the wire."""
    return b"".join(len(frame).to_bytes(4, "big") + frame for frame in frames)


class StreamPeer:
    """A plugged-in guest. ``receive`` waits at most ``timeout`` seconds for each piece."""

    def __init__(self, path: Path, *, timeout: float = 5.0) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            # Before there is a timeout: with one, a full backlog would be an error.
            self.socket.connect(os.fspath(path))
            self.socket.settimeout(timeout)
        except BaseException:
            self.socket.close()
            raise

    def send(self, *frames: bytes) -> None:
        self.socket.sendall(framed(*frames))

    def send_raw(self, data: bytes) -> None:
        self.socket.sendall(data)

    def receive(self, count: int = 1) -> list[bytes]:
        return [self._exactly(int.from_bytes(self._exactly(4), "big")) for _ in range(count)]

    def _exactly(self, count: int) -> bytes:
        data = bytearray()
        while len(data) < count:
            piece = self.socket.recv(count - len(data))
            if not piece:
                raise ConnectionResetError("the daemon closed the connection")
            data += piece
        return bytes(data)

    def receives_nothing(self) -> bool:
        """Within a tenth of a second, in which frames on their way arrive many times over."""
        return not select.select([self.socket], [], [], 0.1)[0]

    def is_cut_off(self) -> bool:
        """Whether the daemon closes the connection, and sends nothing before it does."""
        try:
            return self.socket.recv(1) == b""
        except ConnectionResetError:
            return True

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
