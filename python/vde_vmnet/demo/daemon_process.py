"""A daemon as a child: started with a pidfile, waited for without polling, ended and judged.

Also what tests use to start the daemon, so that they see what a user sees: a process, its messages, its
pidfile and its exit status.
"""

from __future__ import annotations

import os
import select
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from vde_vmnet.demo.watches import ExitWatch, FileWatch
from vde_vmnet.errors import UplinkError

__all__ = ["DaemonProcess"]

# It is ready within half a second; the rest is for a machine that is busy.
_READY_SECONDS = 30.0
_STOP_SECONDS = 20.0


class DaemonProcess:
    """``vde_vmnet OPTIONS DIRECTORY`` as a child. A context manager: leaving it ends the daemon."""

    def __init__(
        self,
        directory: Path,
        options: Sequence[str] = (),
        *,
        pidfile: Path,
        log: Path,
        prefix: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        program: Sequence[str] = ("-P", "-m", "vde_vmnet"),
        prepare: Callable[[], object] | None = None,
        pass_fds: Sequence[int] = (),
    ) -> None:
        """Start it; returns at once. ``prefix`` goes before the command (to enter a namespace), ``log``
        gets its messages, ``environment`` is added to ours, ``program`` is what Python is to run (-P:
        it may be root, and not every directory's modules are for root to run), ``prepare`` is called in the
        child before anything else, ``pass_fds`` are descriptors that it keeps."""
        self.directory = directory
        self.pidfile = pidfile
        self.log = log
        self.command = [
            *prefix,
            *(sys.executable, *program),
            *options,
            f"--pidfile={pidfile}",
            str(directory),
        ]
        # A namespace's command may start in another directory, so a relative PYTHONPATH would be lost.
        paths = os.environ.get("PYTHONPATH")
        absolute = (
            {"PYTHONPATH": os.pathsep.join(map(os.path.abspath, paths.split(os.pathsep)))} if paths else {}
        )
        with log.open("ab") as stream:
            stream.write(f"$ {shlex.join(self.command)}\n".encode())
            stream.flush()
            self.started = time.monotonic()
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                env={**os.environ, **absolute, **(environment or {})},
                start_new_session=True,  # a Ctrl-C at the terminal is ours to pass on
                preexec_fn=prepare,
                pass_fds=pass_fds,
            )

    def wait_ready(self, seconds: float = _READY_SECONDS) -> float:
        """Until the pidfile is there; how many seconds that took since the start.

        Raises UplinkError with the daemon's last words when it ends before, or is not ready in time.
        """
        deadline = time.monotonic() + seconds
        with ExitWatch(self.process.pid) as ended, FileWatch(self.pidfile.parent) as watch:
            poll = select.poll()
            poll.register(watch.fd, select.POLLIN)
            poll.register(ended.fd, select.POLLIN)
            while not self._ready():
                left = deadline - time.monotonic()
                if self.process.poll() is not None:
                    raise UplinkError(f"The daemon ended with status {self.process.returncode}: {self.words()}")
                if left <= 0 or not poll.poll(left * 1000):
                    raise UplinkError(f"The daemon was not ready after {seconds:.0f} s: {self.words()}")
                watch.drain()
        return time.monotonic() - self.started

    def stop(self, number: signal.Signals = signal.SIGTERM, seconds: float = _STOP_SECONDS) -> int:
        """Ask it to end and wait; its exit status, negative when a signal ended it.

        Raises subprocess.TimeoutExpired when it does not end; it is killed then.
        """
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise

    def words(self) -> str:
        """The last lines that it wrote, as one."""
        lines = self.log.read_text(errors="replace").splitlines()
        return " | ".join(line for line in lines[-5:] if not line.startswith("$ ")) or "it said nothing"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _ready(self) -> bool:
        # The file is made before it is filled.
        try:
            return self.pidfile.read_text().strip() == str(self.process.pid)
        except FileNotFoundError:
            return False
