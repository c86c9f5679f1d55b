"""Debian's ``vde_plug`` as a client whose frames a test sends and receives."""

from __future__ import annotations

import select
import subprocess
from pathlib import Path

__all__ = ["Plugged"]


class Plugged:
    """``vde_plug LOCATOR`` whose standard streams carry frames, each after two bytes of length."""

    def __init__(self, locator: Path | str) -> None:
        self.process = subprocess.Popen(
            ["vde_plug", str(locator)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )

    def send(self, one: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(len(one).to_bytes(2, "big") + one)

    def receive(self) -> bytes:
        length = int.from_bytes(self._read(2), "big")
        return self._read(length)

    def receive_until(self, wanted: bytes) -> None:
        """Pass over other frames; the one that is missing shows as a test that runs out of frames."""
        while self.receive() != wanted:
            pass

    def has_a_frame(self, seconds: float = 0.05) -> bool:
        assert self.process.stdout is not None
        return bool(select.select([self.process.stdout], [], [], seconds)[0])

    def _read(self, size: int) -> bytes:
        assert self.process.stdout is not None
        data = b""
        while len(data) < size:
            assert select.select([self.process.stdout], [], [], 10)[0], "no frame came"
            piece = self.process.stdout.read(size - len(data))
            assert piece, "vde_plug ended"
            data += piece
        return data

    def close(self) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(10)
        self.process.stdout.close()
