"""A VDE client in a few lines, written from the protocol: what libvdeplug does, and what it must not do."""

from __future__ import annotations

import os
import select
import socket
from pathlib import Path
from types import TracebackType

from vde_vmnet.wire import vde

__all__ = ["VdePeer", "frame"]


def frame(destination: int, source: int, payload: bytes = b"", *, size: int = 60) -> bytes:
    """An Ethernet frame of local experimental type between two numbered stations (0xffff…: broadcast)."""

    def address(number: int) -> bytes:
        return b"\xff" * 6 if number < 0 else b"\x02\0\0" + number.to_bytes(3, "big")

    return (address(destination) + address(source) + b"\x88\xb5" + payload).ljust(size, b"\0")


class VdePeer:
    """A plugged-in client. ``receive`` waits at most ``timeout`` seconds."""

    def __init__(
        self, directory: Path, *, port: int | None = None, description: str = "test", timeout: float = 5.0
    ) -> None:
        self.control = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.data = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.control.settimeout(timeout)
        self.data.settimeout(timeout)
        counter = 0
        try:
            self.control.connect(os.fspath(directory / "ctl"))
            while True:
                self.own = directory / f".{os.getpid():05d}-{counter:05d}"
                try:
                    self.data.bind(os.fspath(self.own))
                    break
                except OSError:
                    counter += 1
            # As libvdeplug does: a switch that is neither root's nor ours could not write here otherwise.
            theirs = (directory / "ctl").stat().st_uid not in (0, os.geteuid())
            self.own.chmod(0o777 if theirs else 0o700)
            self.control.send(
                vde.encode_request(
                    vde.PlugRequest(path=os.fsencode(self.own), port=port, description=description)
                )
            )
            reply = self.control.recv(vde.REPLY_SIZE)
            if not reply:
                raise ConnectionRefusedError("the switch closed without an answer")
            self.switch_path = vde.parse_reply(reply)
            self.data.connect(self.switch_path)
        except BaseException:
            self.close()
            raise
        finally:
            # As vdeplug4 does, right after the handshake.
            self.own.unlink(missing_ok=True)

    def send(self, *frames: bytes) -> None:
        for one in frames:
            self.data.send(one)

    def receive(self, count: int = 1) -> list[bytes]:
        return [self.data.recv(1 << 17) for _ in range(count)]

    def receives_nothing(self) -> bool:
        """Whether the socket is empty now; ask after an event that proves the switch is past the frame."""
        return not select.select([self.data], [], [], 0)[0]

    def close(self) -> None:
        self.data.close()
        self.control.close()

    def __enter__(self) -> VdePeer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
