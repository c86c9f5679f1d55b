"""``dpdk-testpmd``, driven by commands: the load generator of vhost-user ports, and a rival's back end."""

from __future__ import annotations

import os
import re
import select
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from bench.errors import BenchError

__all__ = ["Testpmd", "front_end", "received", "testpmd_unavailable_reason"]

_PROMPT = b"testpmd> "
#: Its memory is made, its devices are found and its ports are up by then.
_STEP_SECONDS = 20.0
#: Room for both rings of two ports, and what is under way.
_BUFFERS = 16384
_RING = 1024


def testpmd_unavailable_reason() -> str | None:
    """Why it cannot be had here, as one sentence, or None."""
    if shutil.which("dpdk-testpmd") is None:
        return "the program dpdk-testpmd is missing; on Debian: apt-get install dpdk-dev"
    if os.geteuid() != 0:
        return "dpdk-testpmd needs root"
    return None


def received(statistics: str) -> int:
    """Frames that all ports have received, from what ``show port stats all`` says. Pure. Raises BenchError."""
    found = re.findall(r"RX-packets:\s+(\d+)", statistics)
    if not found:
        raise BenchError(f"dpdk-testpmd gave no statistics: {statistics[-200:]!r}")
    return sum(map(int, found))


def _mac(port: int) -> str:
    return f"52:54:00:be:7d:{port + 1:02x}"


def front_end(sockets: Sequence[Path], core: int, folder: Path) -> Testpmd:
    """Two ports, each the driver's end of one socket; what comes in on one goes out there again, to the other.

    So frames that were sent once go back and forth through what the sockets belong to.
    Raises BenchError.
    """
    first, second = sockets
    devices = [
        f"virtio_user{port},path={path},queues=1,queue_size={_RING},mac={_mac(port)}"
        for port, path in enumerate((first, second))
    ]
    peers = [f"--eth-peer={port},{_mac(1 - port)}" for port in (0, 1)]
    rings = [f"--rxd={_RING}", f"--txd={_RING}"]
    return Testpmd(devices, ["--forward-mode=mac", "--port-topology=loop", *peers, *rings], core, folder)


class Testpmd:
    """A running one, on a single processor core, without huge pages; a context manager that ends it."""

    def __init__(self, devices: Sequence[str], options: Sequence[str], core: int, folder: Path) -> None:
        """``folder`` is for what it leaves. Returns when it takes commands. Raises BenchError."""
        command = [
            # What it prints would otherwise stay in its buffer, behind a prompt that does not.
            *("stdbuf", "--output=L", "dpdk-testpmd"),
            # The thread that reads commands, and the one that moves frames.
            *("--lcores", f"0@{core},1@{core}"),
            *("--no-huge", "-m", "256", "--no-pci", "--no-telemetry"),
            *(part for device in devices for part in ("--vdev", device)),
            *("--", "--interactive", "--no-mlockall", f"--total-num-mbufs={_BUFFERS}", *options),
        ]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "RUNTIME_DIRECTORY": str(folder)},
        )
        self._unread = b""
        try:
            self._answer()
        except BenchError:
            self.close()
            raise

    def ask(self, command: str) -> str:
        """Its answer to one command. Raises BenchError."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(command.encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise BenchError("dpdk-testpmd has ended") from None
        return self._answer()

    def _answer(self) -> str:
        assert self.process.stdout is not None
        deadline = time.monotonic() + _STEP_SECONDS
        while _PROMPT not in self._unread:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.process.stdout], [], [], left)[0]:
                raise BenchError(f"dpdk-testpmd did not answer within {_STEP_SECONDS:.0f} s: {self._said()}")
            piece = os.read(self.process.stdout.fileno(), 1 << 16)
            if not piece:
                raise BenchError(f"dpdk-testpmd ended with status {self.process.wait()}: {self._said()}")
            self._unread += piece
        answer, self._unread = self._unread.split(_PROMPT, 1)
        return answer.decode(errors="replace")

    def _said(self) -> str:
        return " / ".join(self._unread.decode(errors="replace").strip().splitlines()[-3:]) or "no message"

    def close(self) -> None:
        """Kill it if it runs; a second call does nothing."""
        self.process.kill()
        self.process.communicate()

    def __enter__(self) -> Testpmd:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
