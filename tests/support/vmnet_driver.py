"""Speaks to ``driver.c`` and ``networks.c``, the programs that make the framework's calls one by one."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from tests.support.netns import Namespace
from tests.support.vmnet_client import program
from tests.support.vmnet_sim import Fabric, build

__all__ = ["BRIDGED", "HOST", "SHARED", "SUCCESS", "Driver", "frame", "ours"]

HOST, SHARED, BRIDGED = "1000", "1001", "1002"
SUCCESS = "1000"
#: Local experimental EtherType, IEEE 802: nobody else on the segment uses it.
_ETHERTYPE = "88b5"


def frame(payload: str = "", *, to: str = "ffffffffffff", source: str = "020000000001") -> str:
    """A frame as hex: 14 octets of header, then `payload`, not padded."""
    return f"{to}{source}{_ETHERTYPE}{payload}"


def ours(answer: str) -> list[str]:
    """The frames of an answer to `read` that tests made: not the host's own."""
    return [word for word in answer.split()[2:] if word[24:28] == _ETHERTYPE]


class Driver:
    """One client process. Ask it, a line a call. A context manager."""

    def __init__(
        self,
        mac: Namespace,
        fabric: Fabric,
        macos: str = "26",
        faults: str = "",
        *,
        user: str = "root",
        example: str = "driver",
    ) -> None:
        self._closing = ExitStack()
        command = [str(program(example, macos))]
        environment = {**os.environ, **fabric.environment(macos, faults)}
        if user != "root":
            # The checkout may lie where only root passes through.
            place = Path(self._closing.enter_context(tempfile.TemporaryDirectory(prefix="vdet-")))
            place.chmod(0o755)
            for path in (Path(command[0]), build(macos)):
                shutil.copy(path, place)
            environment["LD_LIBRARY_PATH"] = str(place)
            command = ["setpriv", f"--reuid={user}", "--clear-groups", "--", str(place / example)]
        self._process = subprocess.Popen(
            mac.command(*command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def ask(self, line: str) -> str:
        """The answer to one command; the program's head lists them."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()

    def start(
        self, mode: str, *, wait: int = 10000, concurrent: bool = False, give: Mapping[str, str] | None = None
    ) -> str:
        """Status, or NULL or LOST. `give`: further keys of the description, which stay for later starts."""
        self.ask(f"set operation_mode uint64 {mode}")
        for key, value in (give or {}).items():
            kind = "string"
            if key.startswith(("enable_", "allocate_")):
                kind = "bool"
            elif key in ("interface_id", "network_identifier"):
                kind = "uuid"
            elif key == "mtu":
                kind = "uint64"
            self.ask(f"set {key} {kind} {value}")
        status, *words = self.ask(f"start {wait}{' concurrent' if concurrent else ''}").split()
        #: What the interface reported, without ``vmnet_``; and ``queue`` and ``early``.
        self.facts = dict(word.split("=", 1) for word in words)
        return status

    def stop(self, wait: int = 10000) -> str:
        """The call's result and the handler's status, or LOST."""
        return self.ask(f"stop {wait}")

    def write(self, *frames: str) -> None:
        """Frames that must be taken."""
        for one in frames:
            assert self.ask(f"write 1 1 0 {one}") == f"{SUCCESS} 1"

    def read_ours(self, count: int) -> list[str]:
        """Reads until `count` frames of tests have come; None of the host's."""
        found: list[str] = []
        self.ask("callback on")
        while len(found) < count:
            found += ours(self.ask("read 200"))
            if len(found) < count:
                assert not self.ask("events 1 5000").startswith("0"), found
        return found

    def close(self) -> int:
        """Its exit status."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(20)
        self._process.stdout.close()
        self._closing.close()
        return self._process.returncode

    def kill(self) -> None:
        """``kill -9``."""
        self._process.kill()
        self.close()

    def __enter__(self) -> Driver:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
