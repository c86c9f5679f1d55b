"""Network namespaces for tests: made with unique names, everything in them ended with them."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
from collections.abc import Callable
from types import TracebackType

__all__ = ["Namespace", "wire"]

_numbers = itertools.count()


class Namespace:
    """A network namespace, such as ``vdet-4711-0``, with its loopback up. A context manager."""

    def __init__(self, label: str = "ns") -> None:
        #: Called before the namespace goes, newest first.
        self.on_close: list[Callable[[], None]] = []
        self.name = f"vdet-{os.getpid()}-{next(_numbers)}-{label}"
        subprocess.run(["ip", "netns", "add", self.name], check=True)
        self.run("ip", "link", "set", "lo", "up")

    @property
    def path(self) -> str:
        """The file that setns(2) takes."""
        return f"/run/netns/{self.name}"

    def command(self, *argv: str) -> list[str]:
        """``argv`` so that it runs inside."""
        return ["ip", "netns", "exec", self.name, *argv]

    def run(self, *argv: str, check: bool = True, timeout: float = 20) -> str:
        """Run a program to its end; returns what it printed, on both streams."""
        done = subprocess.run(
            self.command(*argv),
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
        )
        if check:
            assert done.returncode == 0, f"{' '.join(argv)}: {done.stdout}"
        return done.stdout

    def succeeds(self, *argv: str) -> bool:
        """Whether a program ends with status 0."""
        return subprocess.run(self.command(*argv), check=False, capture_output=True).returncode == 0

    def close(self) -> None:
        """End every process inside and remove the namespace."""
        while self.on_close:
            self.on_close.pop()()
        for pid in subprocess.run(
            ["ip", "netns", "pids", self.name], check=False, capture_output=True, text=True
        ).stdout.split():
            try:
                os.kill(int(pid), signal.SIGKILL)
            except ProcessLookupError:
                continue
        subprocess.run(["ip", "netns", "del", self.name], check=False)

    def __enter__(self) -> Namespace:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def wire(one: Namespace, one_device: str, other: Namespace, other_device: str) -> None:
    """A cable between two namespaces: a veth pair, both ends up."""
    one.run("ip", "link", "add", one_device, "type", "veth", "peer", other_device, "netns", other.name)
    one.run("ip", "link", "set", one_device, "up")
    other.run("ip", "link", "set", other_device, "up")
