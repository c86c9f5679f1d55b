"""``vde_vmnet run`` as a child, and what it leaves."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["ISOLATED", "RUN", "children", "command_line", "leftovers", "network_name", "run", "started"]

RUN = [sys.executable, "-m", "vde_vmnet", "run"]
ISOLATED = "--backend=none"


def run(*argv: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*RUN, *argv],
        capture_output=True,
        text=True,
        timeout=30,
        env={**os.environ, **(environment or {})},
        check=False,
    )


def leftovers() -> list[str]:
    """What private networks have in the file system whose daemon is gone; others may be somebody else's."""
    folders = {Path(name) for name in ("/run", "/tmp", "/var/tmp", os.environ.get("XDG_RUNTIME_DIR", "/run"))}
    found = [path for folder in folders for path in folder.glob("*vde_vmnet-run-*")]
    running = " ".join(command_line(int(entry.name)) for entry in Path("/proc").glob("[0-9]*"))
    return sorted(str(path) for path in found if network_name(path.name) not in running)


def network_name(text: str) -> str:
    """The first name of a private network in ``text``."""
    named = re.search(r"vde_vmnet-run-[0-9a-f]{8}", text)
    assert named is not None
    return named[0]


@contextmanager
def started(*argv: str) -> Iterator[subprocess.Popen[bytes]]:
    """A run whose command writes a line when it is there; its standard streams are pipes."""
    with subprocess.Popen(
        [*RUN, ISOLATED, "--", *argv],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline(), process.communicate()[1].decode()
            yield process
        finally:
            process.kill()


def children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in text.split()]


def command_line(pid: int) -> str:
    """Empty when it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""
