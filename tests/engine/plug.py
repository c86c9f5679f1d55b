"""Plugs for the engine's tests: a socket pair with one end attached, and frames in one line."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from vde_vmnet._engine import Engine

__all__ = ["BROADCAST", "Plug", "engine_thread", "eventually", "frame", "mac", "open_descriptors"]

BROADCAST = b"\xff" * 6
#: Longer than anything here takes; a test that waits so long has failed.
PATIENCE = 10.0
_TEST_ETHERTYPE = b"\x88\xb5"


def mac(number: int) -> bytes:
    """A station's address."""
    return b"\x52\x54" + number.to_bytes(4, "big")


def frame(to: bytes, source: bytes, *, length: int = 60, mark: int = 0) -> bytes:
    """A frame of ``length`` bytes; the last one is ``mark`` when there is any behind the header."""
    body = bytes(length - 14)
    return to + source + _TEST_ETHERTYPE + (body[:-1] + bytes([mark]) if body else b"")


class Plug:
    """One endpoint of kind ``dgram`` and the client's end of its socket."""

    def __init__(self, engine: Engine, port: int, *, receive_only: bool = False) -> None:
        ours, self.socket = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.settimeout(PATIENCE)
        self.engine = engine
        self.port = port
        try:
            self.endpoint = engine.attach(
                port=port, kind="dgram", fd=ours.fileno(), name=f"plug {port}", receive_only=receive_only
            )
        except BaseException:
            ours.close()
            self.socket.close()
            raise
        ours.detach()

    def send(self, *frames: bytes) -> None:
        for data in frames:
            self.socket.send(data)

    def receive(self, count: int = 1) -> list[bytes]:
        """The next ``count`` frames. Raises TimeoutError."""
        return [self.socket.recv(1 << 17) for _ in range(count)]

    def nothing_came(self) -> bool:
        """Whether there is nothing to read now; meaningful once the engine has done everything else."""
        self.engine.counters()
        return not select.select([self.socket], [], [], 0)[0]

    def rx_frames(self) -> int:
        return self.engine.counters()[self.endpoint]["rx_frames"]

    def tx_frames(self) -> int:
        return self.engine.counters()[self.endpoint]["tx_frames"]

    def drops(self) -> dict[str, int]:
        """Reasons that were raised."""
        return {reason: n for reason, n in self.engine.counters()[self.endpoint]["drops"].items() if n}

    def detach(self) -> None:
        self.engine.detach(endpoint=self.endpoint)
        self.socket.close()

    def __enter__(self) -> Plug:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()


def eventually(condition: Callable[[], bool]) -> None:
    """Ask again and again until it holds; each of the conditions here waits for the engine's thread."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it never came to hold"


def open_descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def engine_thread() -> tuple[float, int]:
    """Processor seconds and voluntary waits of the engine's thread; there must be one engine only."""
    (task,) = [
        task for task in Path("/proc/self/task").iterdir() if (task / "comm").read_text() == "vde-engine\n"
    ]
    nanoseconds = int((task / "schedstat").read_text().split()[0])
    status = dict(line.split(":\t", 1) for line in (task / "status").read_text().splitlines())
    return nanoseconds / 1e9, int(status["voluntary_ctxt_switches"])
