"""A network namespace that stands for the host, so that the host's own network stays as it is."""

from __future__ import annotations

import os
import shutil
import subprocess
from itertools import count

from bench.errors import BenchError

__all__ = ["Namespace", "namespaces_unavailable_reason"]

_numbers = count()


def namespaces_unavailable_reason() -> str | None:
    """Why no namespace can be made here, as one sentence, or None."""
    if os.geteuid() != 0:
        return "a network namespace needs root"
    if shutil.which("ip") is None:
        return "the program ip is missing; on Debian: apt-get install iproute2"
    return None


class Namespace:
    """Made empty, with the loopback up; ``close`` removes it with all that is in it."""

    def __init__(self) -> None:
        """Raises BenchError."""
        self.name = f"vde-bench-{os.getpid()}-{next(_numbers)}"
        _run(["ip", "netns", "add", self.name])
        try:
            self.run("ip", "link", "set", "lo", "up")
        except BenchError:
            self.close()
            raise

    def prefix(self) -> list[str]:
        """What to put before a command to run it inside."""
        return ["ip", "netns", "exec", self.name]

    def run(self, *command: str) -> None:
        """Run a command inside and wait for it. Raises BenchError."""
        _run([*self.prefix(), *command])

    def close(self) -> None:
        subprocess.run(["ip", "netns", "delete", self.name], capture_output=True, check=False)


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BenchError(f"{' '.join(command)}: {done.stderr.strip()}")
