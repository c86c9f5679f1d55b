"""The C programs under clients/: compiled into a folder, started, talked to by lines.

Every program prints ``ready``, is told to go on by an empty line, and ends with a line of JSON.
"""

from __future__ import annotations

import json
import select
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from bench.errors import BenchError

__all__ = ["Client", "Clients"]

_SOURCES = Path(__file__).parent / "clients"
_PROGRAMS = ("sender", "receiver", "echo", "ping", "hoard")
_FLAGS = ("-std=gnu11", "-O2", "-Wall", "-Wextra")
#: Seconds for one step of a program that is not the measurement itself: plugging in, meeting, ending.
_STEP_SECONDS = 20.0


class Clients:
    """The compiled programs."""

    def __init__(self, folder: Path) -> None:
        """Compile into ``folder`` (a second or two). Raises BenchError when that fails."""
        compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
        if compiler is None:
            raise BenchError("no C compiler found; on Debian: apt-get install gcc libc6-dev")
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        for program in _PROGRAMS:
            sources = [_SOURCES / f"{program}.c", _SOURCES / "plug.c"]
            command = [compiler, *_FLAGS, "-o", str(folder / program), *map(str, sources), "-lvdeplug"]
            built = subprocess.run(command, capture_output=True, text=True, check=False)
            if built.returncode != 0:
                raise BenchError(
                    f"{program}.c does not compile (on Debian: apt-get install libvdeplug-dev)\n{built.stderr}"
                )

    def start(self, program: str, *arguments: object) -> Client:
        """Start one and wait until it is plugged in. Raises BenchError."""
        client = Client([str(self._folder / program), *(str(argument) for argument in arguments)])
        try:
            client.await_ready()
        except BenchError:
            client.close()
            raise
        return client


class Client:
    """One running program; closing kills it when it has not ended."""

    def __init__(self, command: Sequence[str]) -> None:
        self._name = Path(command[0]).name
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        self._unread = b""

    def await_ready(self) -> None:
        """Raises BenchError when it ends or takes too long instead."""
        line = self._line(_STEP_SECONDS)
        if line != "ready":
            raise BenchError(f'{self._name} said "{line}" where it should be ready')

    def tell(self) -> None:
        """Let it go on."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._ended() from None

    def result(self, seconds: float = 0.0) -> dict[str, Any]:
        """Its last line; ``seconds`` is how long the measurement takes. Raises BenchError."""
        line = self._line(seconds + _STEP_SECONDS)
        try:
            answer: dict[str, Any] = json.loads(line)
        except ValueError:
            raise BenchError(f'{self._name} said "{line[:80]}" where its result should be') from None
        return answer

    def stop(self) -> dict[str, Any]:
        """Tell it to end, and take its result."""
        self.tell()
        return self.result()

    def close(self) -> None:
        """Kill it if it runs; a second call does nothing."""
        self._process.kill()
        self._process.communicate()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _line(self, seconds: float) -> str:
        assert self._process.stdout is not None
        deadline = time.monotonic() + seconds
        while b"\n" not in self._unread:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._process.stdout], [], [], left)[0]:
                raise BenchError(f"{self._name} did not answer within {seconds:.0f} s")
            piece = self._process.stdout.read1(1 << 16)  # type: ignore[attr-defined]
            if not piece:
                raise self._ended()
            self._unread += piece
        line, self._unread = self._unread.split(b"\n", 1)
        return line.decode()

    def _ended(self) -> BenchError:
        self._process.wait(_STEP_SECONDS)
        assert self._process.stderr is not None
        said = self._process.stderr.read().decode(errors="replace").strip()
        return BenchError(f"{self._name} ended with status {self._process.returncode}: {said or 'no message'}")
