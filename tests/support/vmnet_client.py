"""A guest behind a C program that was written for vmnet.framework, running on the simulator."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.support.netns import Namespace
from tests.support.vmnet_sim import Fabric, build, compile_client

__all__ = ["EXAMPLES", "Relay", "program"]

EXAMPLES = Path(__file__).parent / "vmnet_sim" / "examples"


def program(name: str, macos: str = "26", *, sanitize: bool = False) -> Path:
    """An example as a program, compiled if it is older than what it is made of."""
    library = build(macos, sanitize=sanitize)
    output = library.parent / name
    source = EXAMPLES / f"{name}.c"
    if not output.exists() or output.stat().st_mtime < source.stat().st_mtime:
        compile_client(source, output, library, "-Wall", "-Wextra", "-Werror")
    return output


class Relay:
    """A namespace ``guest`` whose ``eth0`` is an interface of the simulated framework. A context manager."""

    def __init__(
        self,
        mac: Namespace,
        fabric: Fabric,
        guest: Namespace,
        *,
        macos: str = "26",
        faults: str = "",
        **description: str,
    ) -> None:
        words = [f"{key}={value}" for key, value in description.items()]
        self._process = subprocess.Popen(
            mac.command(str(program("relay", macos)), "eth0", guest.path, *words),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **fabric.environment(macos, faults)},
        )
        mac.on_close.append(self.close)
        #: What the interface reported, without ``vmnet_``.
        self.facts: dict[str, str] = {}
        #: The status of a start that failed; "" when it did not.
        self.failed = ""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            key, _, value = line.strip().partition("=")
            if line.startswith("failed "):
                self.failed = line.split()[1]
            elif key == "ready":
                break
            else:
                self.facts[key.removeprefix("vmnet_")] = value
        if not self.failed:
            assert "mac_address" in self.facts, "the relay ended"
            mac_address = ":".join(f"{int(octet, 16):02x}" for octet in self.facts["mac_address"].split(":"))
            guest.run("ip", "link", "set", "eth0", "address", mac_address, "mtu", self.facts["mtu"], "up")

    def kill(self) -> None:
        """``kill -9``."""
        self._process.kill()
        self.close()

    def close(self) -> None:
        """Stop the interface and end."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            print("the relay did not end", file=sys.stderr)
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
