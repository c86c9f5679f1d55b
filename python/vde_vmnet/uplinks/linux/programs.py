"""Finding and running the system's programs: where they are, which package brings them, what they said."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence

from vde_vmnet.errors import UnavailableError, UplinkError

__all__ = ["ENVIRONMENT", "find", "install_hint", "missing_reason", "require", "run"]

# The system's own directories come first: what root runs should not depend on who called it.
_SYSTEM_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
_PACKAGES = {
    "dnsmasq": "dnsmasq-base",
    "ip": "iproute2",
    "nft": "nftables",
    "ovs-vsctl": "openvswitch-switch",
}
# Chosen: each of these ends in milliseconds; ten seconds is a machine in trouble, not a slow command.
_SECONDS = 10.0

#: For every program we start. No HOME: `nft -i` would keep a history file there.
ENVIRONMENT = {"PATH": _SYSTEM_PATH, "LC_ALL": "C", "HOME": "/nonexistent"}


def find(name: str) -> str | None:
    """Absolute path of a program, or None."""
    return shutil.which(name, path=f"{_SYSTEM_PATH}:{os.environ.get('PATH', '')}")


def missing_reason(names: Sequence[str]) -> str | None:
    """One sentence that names the programs that are not installed, or None."""
    missing = [name for name in names if find(name) is None]
    if not missing:
        return None
    return f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not installed"


def require(name: str) -> str:
    """Absolute path of a program. Raises UnavailableError that names the Debian package."""
    path = find(name)
    if path is None:
        raise UnavailableError(f"{name} is not installed", next_step=install_hint([name]))
    return path


def install_hint(names: Sequence[str]) -> str:
    """What to type on Debian and Ubuntu to get the programs."""
    return f"On Debian or Ubuntu: apt-get install {' '.join(_PACKAGES[name] for name in names)}"


def run(argv: Sequence[str], *, text: str = "") -> str:
    """Run a program to its end with ``text`` as its input and return what it printed.

    Raises UplinkError with the program's own words when it fails, UnavailableError when it is missing.
    """
    command = [require(argv[0]), *argv[1:]]
    try:
        done = subprocess.run(
            command, check=False, input=text, capture_output=True, text=True, timeout=_SECONDS, env=ENVIRONMENT
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UplinkError(f"{' '.join(argv)}: {error}") from error
    if done.returncode != 0:
        words = " ".join(done.stderr.split()) or f"status {done.returncode}"
        raise UplinkError(f"{' '.join(argv)} failed: {words}")
    return done.stdout
