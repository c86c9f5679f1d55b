"""Where control sockets are, and how a command finds the networks that run.

A network's control socket is beside its switch directory, as ``VDESWITCH.control``. A registry names them all:
a folder of links, one for each network, root's below ``/run/vde_vmnet``, a user's in the folder that the system
gives to that user. Standard library only: root runs this.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from vde_vmnet.addresses import digest
from vde_vmnet.recovery import STATE_DIRECTORY
from vde_vmnet.sockets import is_stale

__all__ = ["SUFFIX", "beside", "enter", "find", "registries", "registry_for"]

#: After the name of the switch directory, or of the first other socket.
SUFFIX = ".control"
_NETWORKS = "networks"


def beside(name: Path, pid: int | None = None) -> Path:
    """The control socket of the network that is named ``name``; with ``pid`` that of one more of that name."""
    return name.with_name(f"{name.name}{'' if pid is None else f'.{pid}'}{SUFFIX}")


def registry_for(uid: int) -> Path:
    """The folder with the links of the networks that this user starts."""
    if uid == 0:
        return STATE_DIRECTORY / _NETWORKS
    given = os.environ.get("XDG_RUNTIME_DIR", "")
    for folder in (given, f"/run/user/{uid}"):
        if folder.startswith("/") and _is_private(Path(folder), uid):
            return Path(folder) / "vde_vmnet"
    return Path(f"/tmp/vde_vmnet-{uid}")  # noqa: S108 - looked at before it is used


def registries() -> list[Path]:
    """Where this user looks: at root's networks, and at its own."""
    return list(dict.fromkeys(registry_for(uid) for uid in (0, os.geteuid())))


def enter(control: Path, uid: int) -> Path:
    """Add a link to a control socket to the registry of ``uid``, which is who runs this; returns its path.

    Raises OSError, also when others could write to the folder.
    """
    folder = registry_for(uid)
    folder.mkdir(mode=0o755 if uid == 0 else 0o700, parents=True, exist_ok=True)
    if not _is_private(folder, uid):
        raise PermissionError(f"{folder} is not ours alone")
    entry = folder / digest(os.fsencode(control), 8).hex()
    with suppress(FileNotFoundError):
        entry.unlink()
    entry.symlink_to(control)
    return entry


def find() -> Iterator[Path]:
    """The control sockets of the networks that run, this user's and root's; sorted by path.

    Whether this user may use one is not looked at. Links of dead networks are removed where we may.
    """
    found: set[Path] = set()
    for folder in registries():
        if not (_is_private(folder, 0) or _is_private(folder, os.geteuid())):
            continue
        for entry in folder.iterdir():
            with suppress(OSError):
                control = entry.readlink()
                if os.path.lexists(control) and not is_stale(control):
                    found.add(control)
                else:
                    entry.unlink()
    yield from sorted(found)


def _is_private(folder: Path, uid: int) -> bool:
    """Whether it is a folder of this user's that nobody else can write to."""
    try:
        status = folder.lstat()
    except OSError:
        return False
    return (
        stat.S_ISDIR(status.st_mode)
        and status.st_uid == uid
        and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    )
