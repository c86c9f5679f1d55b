"""Runs a program on a simulated Mac: a network namespace of its own, with everything behind the framework.

    sudo python -m tests.support.vmnet_sim [--macos 15] [--faults start_status=1009] -- COMMAND…

The command finds the library by VMNET_SIM_LIBRARY, or is linked with it; `sh` gives a shell to look around in.
What it did against the framework's contract is said at the end; then, or by its own, the status is not 0.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys

from tests.support.netns import Namespace
from tests.support.vmnet_sim import MACOS_VERSIONS, Fabric, build

__all__ = ["main"]


def main() -> int:
    """The command's status, or 1 when it misused the framework."""
    parser = argparse.ArgumentParser(prog="vmnet_sim", description="Run a program on a simulated Mac.")
    parser.add_argument("--macos", choices=MACOS_VERSIONS, default="26", help="the version to play (26)")
    parser.add_argument("--faults", default="", help="failures on demand; README.md lists them")
    parser.add_argument("command", nargs="+", help="the program, after --")
    asked = parser.parse_args()
    library = str(build(asked.macos))
    with Namespace("mac") as mac, Fabric(mac) as fabric:
        environment = {
            **os.environ,
            **fabric.environment(asked.macos, asked.faults),
            "VMNET_SIM_LIBRARY": library,
        }
        status = subprocess.run(mac.command(*asked.command), env=environment, check=False).returncode
        report = fabric.report()
    print(report, end="", file=sys.stderr)
    return status or int(bool(report))


if __name__ == "__main__":
    sys.exit(main())
