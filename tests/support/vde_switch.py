"""Debian's ``vde_switch`` as a child, ready when the constructor returns."""

from __future__ import annotations

import select
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from vde_vmnet.demo.watches import FileWatch
from vde_vmnet.sockets import is_stale

__all__ = ["VdeSwitch"]


class VdeSwitch:
    """A switch that serves in ``directory``; ``prefix`` goes before the command. A context manager."""

    def __init__(self, directory: Path, *options: str, prefix: Sequence[str] = ()) -> None:
        self.directory = directory
        self._command = [*prefix, "vde_switch", "-s", str(directory), *options]
        directory.mkdir(exist_ok=True)
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        control = self.directory / "ctl"
        with FileWatch(self.directory) as watch:
            process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            for _ in range(500):
                if control.exists() and not is_stale(control):
                    break
                # It appears before it listens, and listening is no event.
                select.select([watch.fd], [], [], 0.02)
                watch.drain()
            else:
                process.kill()
                raise AssertionError("vde_switch does not start")
        return process

    def kill(self) -> None:
        """As a crash does: everything of it stays behind in the directory."""
        self.process.kill()
        self._wait()

    def stop(self) -> None:
        """It ends with its standard input."""
        if self.process.returncode is None:
            assert self.process.stdin is not None
            self.process.stdin.close()
            self._wait()

    def _wait(self) -> None:
        self.process.wait(10)
        if self.process.stdin is not None:
            self.process.stdin.close()

    def start_again(self) -> None:
        """After ``stop`` or ``kill``."""
        self.directory.mkdir(exist_ok=True)
        self.process = self._start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
