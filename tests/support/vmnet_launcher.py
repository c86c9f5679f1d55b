"""Runs ``vde_vmnet`` as on a Mac, with the simulator in the place of vmnet.framework and libSystem.

    python -m tests.support.vmnet_launcher --library PATH -- ARGS…

The environment (``Fabric.environment``) says where the simulated machine and bootpd's files are. The program
itself has no such door: what is replaced here are two attributes of ``uplinks/vmnet``.
"""

from __future__ import annotations

import argparse
import ctypes
import dataclasses
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from vde_vmnet import cli
from vde_vmnet.uplinks.vmnet import library, paths

__all__ = ["command", "main"]


def command(simulator: Path, *argv: str) -> list[str]:
    """The command line that runs ``vde_vmnet`` with `argv` on a simulator (``vmnet_sim.build``).

    It is found from any folder: the interpreter starts the file itself.
    """
    return [sys.executable, str(Path(__file__)), "--library", str(simulator), "--", *argv]


def _macos_version() -> tuple[int, ...]:
    """Of the simulated machine; that which is called 26 is the one with offloads that are a gain."""
    version = tuple(int(part) for part in os.environ["VMNET_SIM_MACOS"].split("."))
    return (26, 2) if version == (26,) else version


def main(argv: Sequence[str]) -> int:
    """Run it; the exit status."""
    parser = argparse.ArgumentParser(prog="vmnet_launcher")
    parser.add_argument("--library", type=Path, required=True, help="the simulator's shared library")
    parser.add_argument("arguments", nargs="*", help="the command line of vde_vmnet, after --")
    asked = parser.parse_args(argv)

    def load() -> library.Library:
        simulator = ctypes.CDLL(str(asked.library))
        return library.Library(simulator, simulator)

    library.load = load
    library.is_macos = lambda: True
    library.macos_version = _macos_version
    paths.MACOS = dataclasses.replace(
        paths.MACOS,
        bootptab=Path(os.environ["VMNET_SIM_BOOTPTAB"]),
        dhcpd_leases=Path(os.environ["VMNET_SIM_LEASES"]),
        restart_bootpd=tuple(os.environ["VMNET_SIM_RESTART_BOOTPD"].split("\n")),
    )
    return cli.main(asked.arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
