"""A simulator of vmnet.framework for Linux: README.md says what it plays and how.

with Namespace("mac") as namespace, Fabric(namespace) as fabric:
    environment = fabric.environment(macos="15", faults="start_status=1009")
    subprocess.run(program, env={**os.environ, **environment})
    assert fabric.report() == ""
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from tests.support.vmnet_sim.library import HERE, INCLUDE, MACOS_VERSIONS, build, compile_client

__all__ = ["INCLUDE", "MACOS_VERSIONS", "Fabric", "Place", "build", "compile_client"]

_ROOT = HERE.parents[2]


class Place(Protocol):
    """A network namespace, as tests and benchmarks make them."""

    #: Called before it goes, newest first.
    on_close: list[Callable[[], None]]

    def command(self, *argv: str) -> list[str]:
        """``argv`` so that it runs inside."""


class Fabric:
    """The simulated machine's part that is not in the client's process. Needs root. A context manager."""

    def __init__(self, namespace: Place) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="vmnet-"))
        self._folder.chmod(0o755)
        #: The files of bootpd, which clients may replace and read.
        self.bootptab = self._folder / "bootptab"
        self.leases = self._folder / "dhcpd_leases"
        #: What makes bootpd read `bootptab` again.
        bootpd = str(HERE / "bootpd.py")
        self.restart_bootpd = (sys.executable, "-I", "-S", bootpd, self._path("fabric.sock"))
        self.leases.touch()
        self._report = self._folder / "report"
        self._said = ""
        self._report.touch()
        self._report.chmod(0o666)
        self._process = subprocess.Popen(
            namespace.command(sys.executable, "-m", "tests.support.vmnet_sim.fabric", str(self._folder)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=_ROOT,
            env={**os.environ, "PYTHONPATH": str(_ROOT)},
        )
        namespace.on_close.append(self.close)
        assert self._process.stdout is not None
        if self._process.stdout.readline() != b"ready\n":
            self.close()
            raise AssertionError("the fabric did not start")

    def environment(self, macos: str = "26", faults: str = "") -> dict[str, str]:
        """For the client's process. `macos` must be that of the library it loads (``build(macos)``)."""
        assert macos in MACOS_VERSIONS
        return {
            "VMNET_SIM_FABRIC": self._path("fabric.sock"),
            "VMNET_SIM_MACOS": macos,
            "VMNET_SIM_FAULTS": faults,
            "VMNET_SIM_REPORT": str(self._report),
            "VMNET_SIM_BOOTPTAB": str(self.bootptab),
            "VMNET_SIM_LEASES": str(self.leases),
            "VMNET_SIM_RESTART_BOOTPD": "\n".join(self.restart_bootpd),
        }

    def _path(self, name: str) -> str:
        return str(self._folder / name)

    def report(self) -> str:
        """What clients did that the framework's contract forbids, a line each; empty when all was well."""
        if self._report.exists():
            self._said = self._report.read_text()
        return self._said

    def forgive(self) -> None:
        """What was reported was the test's intention."""
        self._report.write_text("")
        self._said = ""

    def settle(self) -> None:
        """Until what clients left when they ended is gone."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
            connection.settimeout(10)
            connection.connect(self._path("fabric.sock"))
            connection.send(b"settle macos=0")
            assert connection.recv(4096) == b"status=1000"

    def log(self) -> str:
        """Requests that were refused, and why."""
        path = self._folder / "fabric.log"
        return path.read_text() if path.exists() else ""

    def close(self) -> None:
        """Everything the fabric made goes."""
        if self._process.poll() is None:
            assert self._process.stdin is not None and self._process.stdout is not None
            self._process.stdin.close()
            self._process.stdout.close()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self.report()
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
