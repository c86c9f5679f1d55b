"""A system that runs: started, watched through /proc, stopped for certain."""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Protocol

from bench import processes
from bench.errors import BenchError
from bench.netns import Namespace
from bench.pidfile import PidfileWatch
from bench.segment import guest_address
from bench.systems.cards import Card

__all__ = ["Command", "Running", "pidfile", "place", "start", "stop", "vhost_user_socket"]

#: Far above every promise: a system that needs longer is broken, not slow.
_READY_SECONDS = 20.0
_STOP_SECONDS = 10.0


@dataclass
class Running:
    """A system that is ready; a context manager that stops it and removes what it left."""

    #: What guests and clients are attached by: the switch directory, or the socket.
    directory: Path
    #: From the start of the program to its pidfile; 0 when there is no program.
    ready_seconds: float
    #: None without an uplink.
    namespace: Namespace | None
    #: QEMU's options for a guest on it.
    card: Card
    _cleanup: ExitStack = field(repr=False)
    #: None when the system is a part of QEMU.
    _process: subprocess.Popen[bytes] | None = None
    _log: Path | None = None
    #: By which the host reaches the services of the first guest.
    guest_address: str = guest_address()
    #: What the first guest's card is set to.
    guest_mtu: int = 1500
    #: QEMU itself must be in the namespace.
    guest_inside: bool = False
    #: Programs that belong to the system and were not started by it.
    _beside: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def add(self, process: subprocess.Popen[bytes]) -> None:
        """A program that belongs to the system; it is stopped first."""
        self._beside.append(process)
        self._cleanup.callback(stop, process)

    def process_ids(self) -> list[int]:
        """All processes of the system, helpers included."""
        return [one for process in self._processes() for one in processes.tree(process.pid)]

    def activity(self) -> processes.Activity:
        return processes.activity(self.process_ids())

    def memory(self) -> processes.Memory:
        return processes.memory(self.process_ids())

    def pin(self, core: int) -> None:
        """Keep all its threads on one processor core."""
        for process in self.process_ids():
            processes.pin(process, core)

    def leave_alone(self, seconds: float) -> None:
        """Wait. Raises BenchError when the system ends meanwhile."""
        ended = [os.pidfd_open(process.pid) for process in self._processes()]
        try:
            select.select(ended, [], [], seconds)
        finally:
            for descriptor in ended:
                os.close(descriptor)
        self.check()

    def check(self) -> None:
        """Raises BenchError when it has ended by itself."""
        for process in self._processes():
            if process.poll() is not None:
                raise BenchError(f"ended with status {process.returncode}: {_last_words(self._log)}")

    def _processes(self) -> list[subprocess.Popen[bytes]]:
        return [*([self._process] if self._process else []), *self._beside]

    def __enter__(self) -> Running:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._cleanup.close()


class Command(Protocol):
    """The command line of a system, which keeps what it makes below ``folder``."""

    def __call__(self, folder: Path) -> list[str]: ...


def pidfile(folder: Path) -> list[str]:
    return ["--pidfile", str(folder / "run" / "pid")]


def place(folder: Path) -> Path:
    """Where a system makes what it is attached by."""
    return folder / "switch"


def vhost_user_socket(place: Path, number: int) -> Path:
    """Of one guest: such a socket serves no more."""
    return place.with_name(f"guest-{number}")


def start(
    command: Command,
    namespace: Namespace | None,
    card: Callable[[Path], Card],
    environment: Mapping[str, str] | None = None,
) -> Running:
    """Start a system and wait for its pidfile. ``namespace`` goes with it.

    ``card`` gets the place by which guests are attached. Raises BenchError.
    """
    with ExitStack() as undo:
        if namespace is not None:
            undo.callback(namespace.close)
        folder = Path(tempfile.mkdtemp(prefix="vde-bench-", dir="/tmp"))
        undo.callback(shutil.rmtree, folder, ignore_errors=True)
        # Others pass through to the switch directory, whose own mode decides.
        folder.chmod(0o755)
        (folder / "run").mkdir()
        watch = PidfileWatch(folder / "run" / "pid")
        undo.callback(watch.close)
        log = folder / "log"
        prefix = namespace.prefix() if namespace else []
        with log.open("wb") as output:
            before = time.monotonic()
            # vde_switch ends when its standard input does, hence the pipe.
            process = subprocess.Popen(
                [*prefix, *command(folder)],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                env=environment,
            )
        undo.callback(stop, process)
        try:
            watch.wait(process, _READY_SECONDS)
        except BenchError as error:
            raise BenchError(f"{Path(command(folder)[0]).name} {error}: {_last_words(log)}") from None
        ready = time.monotonic() - before
        directory = place(folder)
        return Running(directory, ready, namespace, card(directory), undo.pop_all(), process, log)


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a program whose standard input is a pipe, by force if need be."""
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    assert process.stdin is not None
    process.stdin.close()


def _last_words(log: Path | None) -> str:
    said = log.read_text(errors="replace").strip().splitlines() if log else []
    return " / ".join(said[-3:]) or "no message"
