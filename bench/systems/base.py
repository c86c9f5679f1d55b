"""The System contract: what scenarios ask of ours and of its rivals.

A scenario sees a ``Running`` and cannot tell which one it is.
"""

from __future__ import annotations

import enum
import grp
import os
import shutil
import subprocess
from typing import Protocol

from bench.errors import BenchError
from bench.systems.running import Running
from vde_vmnet.demo.accounts import unprivileged_account
from vde_vmnet.errors import UnavailableError

__all__ = ["System", "Uplink", "Wire", "first_line", "missing", "socket_group"]


class Uplink(enum.Enum):
    """What the network is connected to besides its guests and clients."""

    NONE = "none"
    #: The host, by a TAP in a network namespace.
    HOST = "host"
    #: The same, and addresses are handed out.
    HOST_DHCP = "host with DHCP"
    #: The host, by a stack in user space, without privilege; a port of it leads to the guest.
    USER = "host, by a user-mode stack"
    #: The same, with longer packets where the system can.
    USER_LONG = "host, by a user-mode stack, long packets"
    #: The host, by the simulated framework of macOS (``bench/simulated.py``).
    VMNET = "host, by simulated vmnet"


class Wire(enum.Enum):
    """How guests are attached."""

    #: A switch directory; the bench's own clients plug in there as well.
    VDE = "vde"
    STREAM = "stream"
    #: Shared memory; a socket for each guest.
    VHOST_USER = "vhost-user"
    #: QEMU's own end of a TAP.
    TAP = "tap"
    #: The same, and a card without MSI-X, as that of vhost-user has to be.
    TAP_WITHOUT_MSIX = "tap without MSI-X"


class System(Protocol):
    """One competitor."""

    name: str

    def unavailable_reason(self) -> str | None:
        """Why it cannot be started here, as one sentence, or None."""

    def version(self) -> str:
        """As the program says it."""

    def offers(self, uplink: Uplink, wire: Wire = Wire.VDE) -> bool:
        """Whether it has such a network at all."""

    def start(self, uplink: Uplink, wire: Wire = Wire.VDE, guests: int = 1) -> Running:
        """Start it and wait until it is ready for ``guests`` guests. Raises BenchError."""


def socket_group() -> str:
    """Who may plug in: the group of the user that guests run as."""
    if os.geteuid() != 0:
        return grp.getgrgid(os.getegid()).gr_name
    try:
        return unprivileged_account().group
    except UnavailableError as error:
        raise BenchError(str(error)) from error


def missing(program: str, package: str) -> str | None:
    """``System.unavailable_reason`` of a system that is one program of Debian's."""
    if shutil.which(program) is None:
        return f"the program {program} is missing; on Debian: apt-get install {package}"
    return None


def first_line(command: list[str]) -> str:
    """What a program says first, as of its version."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return next((line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()), "unknown")
