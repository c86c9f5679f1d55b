"""Who but root may change a file that root runs: the file, every folder above it, and every link on the way.

Looks at owners and modes, and at POSIX access lists where the system tells of them; macOS's own access lists
are not looked at.
"""

from __future__ import annotations

import errno
import grp
import os
import pwd
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from vde_vmnet.errors import PrivilegeError

__all__ = ["refuse_if_others_may_write", "writable_below_by_others", "writable_by_others"]

#: A loop of links; Linux's own limit.
_MAX_LINKS = 40


def refuse_if_others_may_write(option: str, path: Path) -> None:
    """Raises PrivilegeError that says which folder is not root's alone, and why that matters."""
    reason = writable_by_others(path)
    if reason is not None:
        raise PrivilegeError(
            f'{option} "{path}": {reason}, and root runs what lies there',
            next_step="Choose a folder that only root can change, with all above it, such as /opt/vde",
        )


def writable_by_others(path: Path) -> str | None:
    """Who but root may change what ``path`` (absolute) leads to, as half a sentence; None if nobody.

    What is not there yet is nobody's.
    """
    for place, status in _trail(path):
        reason = _shared(place, status)
        if reason is not None:
            return reason
    return None


def writable_below_by_others(folder: Path, *, but: frozenset[str] = frozenset()) -> str | None:
    """The same for everything in ``folder`` too, wherever its links lead, but in folders of these names."""
    reason = writable_by_others(folder)
    if reason is not None:
        return reason
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name not in but]
        for name in (*folders, *files):
            entry = Path(place) / name
            status = entry.lstat()
            link = stat.S_ISLNK(status.st_mode)
            reason = writable_by_others(entry) if link else _shared(entry, status)
            if reason is not None:
                return reason
    return None


def _trail(path: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Everything that is looked up on the way to ``path``, each link and where it leads included."""
    todo = list(reversed(path.parts[1:]))
    place = Path("/")
    links = 0
    yield place, place.lstat()
    while todo:
        part = todo.pop()
        if part == "..":
            place = place.parent
            continue
        entry = place / part
        try:
            status = entry.lstat()
        except (FileNotFoundError, NotADirectoryError):
            return
        yield entry, status
        if not stat.S_ISLNK(status.st_mode):
            place = entry
            continue
        links += 1
        if links > _MAX_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), os.fspath(path))
        target = entry.readlink()
        if target.is_absolute():
            place = Path("/")
        todo.extend(reversed([part for part in target.parts if part != "/"]))


def _shared(place: Path, status: os.stat_result) -> str | None:
    if status.st_uid != 0:
        return f'"{place}" belongs to user "{_user(status.st_uid)}"'
    if stat.S_ISLNK(status.st_mode):
        return None  # a link's mode says nothing
    if status.st_mode & stat.S_IWOTH:
        return f'"{place}" may be written by everybody'
    # The group root (wheel on macOS) is those who may become root anyway. With an access list the bit is its
    # mask, and stands for users and groups that the mode does not name.
    if status.st_mode & stat.S_IWGRP and (status.st_gid != 0 or _has_access_list(place)):
        return f'"{place}" may be written by the group "{_group(status.st_gid)}" or an access list'
    return None


def _has_access_list(place: Path) -> bool:
    if not hasattr(os, "listxattr"):
        return False
    with suppress(OSError):
        return "system.posix_acl_access" in os.listxattr(place)
    return False


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
