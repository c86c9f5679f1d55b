"""Looks at paths, groups, records and processes for ``vde_vmnet doctor``. Reads and asks, changes nothing."""

from __future__ import annotations

import errno
import fcntl
import grp
import os
import platform
import pwd
import shutil
import stat
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from vde_vmnet import sockets, undo_files
from vde_vmnet.control import paths
from vde_vmnet.doctor.leftovers import Pid, Record
from vde_vmnet.doctor.reach import Person, Place, Serving
from vde_vmnet.errors import VdeVmnetError

__all__ = ["group_names", "person", "pidfiles", "places", "qemu", "records", "socket_of", "stale_sockets"]

#: Where services of ours, the original's and Lima's put theirs.
_PIDFILES = ("vde_vmnet*.pid", "vde*.pid", "socket_vmnet*.pid")


def person(environment: Mapping[str, str]) -> Person:
    """Who will run guests: who called sudo, else the caller."""
    uid = os.geteuid()
    caller = environment.get("SUDO_UID", "")
    if uid == 0 and caller.isdecimal():
        uid = int(caller)
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        return Person(str(uid), uid, frozenset({os.getegid(), *os.getgroups()}))
    account = frozenset(os.getgrouplist(entry.pw_name, entry.pw_gid))
    if uid != os.geteuid():
        return Person(entry.pw_name, uid, account)
    session = frozenset({os.getegid(), *os.getgroups()})
    return Person(entry.pw_name, uid, session, account - session)


def group_names(found: list[Place]) -> dict[int, str]:
    """Of the groups that these places belong to."""
    names = {}
    for gid in {place.gid for place in found}:
        with suppress(KeyError):
            names[gid] = grp.getgrgid(gid).gr_name
    return names


def socket_of(vdeswitch: Path) -> Path:
    """Where guests connect: the control socket of a switch directory, or the path itself."""
    target = Path(os.path.realpath(vdeswitch))
    return target if _is_socket(target) else target / sockets.CONTROL_NAME


def places(socket: Path, who: Person) -> list[Place]:
    """The directories that lead to it, and it; up to the first that is not there or closed to us."""
    found = []
    for path in (*reversed(socket.parents), socket):
        found.append(_place(path, who, ourselves=who.uid == os.geteuid()))
        if found[-1].mode is None or found[-1].hidden:
            break
    return found if found[-1].path == socket else [*found, Place(socket, None, hidden=found[-1].hidden)]


def _is_socket(path: Path) -> bool:
    with suppress(OSError):
        return stat.S_ISSOCK(path.stat().st_mode)
    return False


def _place(path: Path, who: Person, *, ourselves: bool) -> Place:
    try:
        status = path.stat()
    except OSError as error:
        return Place(path, None, hidden=error.errno not in (errno.ENOENT, errno.ENOTDIR))
    is_socket = stat.S_ISSOCK(status.st_mode)
    granted = None
    if ourselves and who.uid != 0:
        granted = os.access(path, os.W_OK if is_socket else os.X_OK, effective_ids=True)
    serving = Serving.UNKNOWN
    # Whoever may not write to it is told that he may not, and nothing of who listens.
    if is_socket and (granted is not False):
        serving = Serving.NO if sockets.is_stale(path) else Serving.YES
    return Place(path, status.st_mode, status.st_uid, status.st_gid, serving, granted)


def records(state: Path) -> list[Record]:
    """Of networks that were not undone, or run."""
    here = undo_files.namespace()
    names = [path.stem for path in sorted(state.glob("*.json"))]
    if not names:
        return []
    if os.geteuid() != state.stat().st_uid:
        return [_record(name, None, here) for name in names]
    try:
        # No start can come between and find taken what we only try.
        with undo_files.locked(state):
            return [_record(name, _is_held(state / f"{name}.lock"), here) for name in names]
    except VdeVmnetError:
        return [_record(name, None, here) for name in names]


def _record(name: str, lives: bool | None, here: int) -> Record:
    network, _, namespace = name.partition(".")
    return Record(network, lives, namespace == str(here))


def _is_held(lock: Path) -> bool | None:
    try:
        fd = os.open(lock, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(fd)


def stale_sockets(vdeswitch: Path) -> list[Path]:
    """Sockets of a switch directory and beside it on which nobody listens; of a socket's own path, itself."""
    ours = (vdeswitch / sockets.CONTROL_NAME, vdeswitch, paths.beside(vdeswitch))
    return [path for path in ours if sockets.is_stale(path)]


def pidfiles(folder: Path = Path("/var/run")) -> Iterator[Pid]:
    """Those in the system's folder that are named as ours are."""
    for path in sorted({path for pattern in _PIDFILES for path in folder.glob(pattern)}):
        try:
            text = path.read_text(errors="replace").strip()
        except OSError:
            yield Pid(path, None)
            continue
        yield Pid(path, _lives(int(text)) if text.isdecimal() else None)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def qemu() -> tuple[str, str] | None:
    """Where QEMU is for guests like this machine, and what it says of its version; None when there is none."""
    machine = {"arm64": "aarch64", "amd64": "x86_64"}.get(platform.machine(), platform.machine())
    path = shutil.which(f"qemu-system-{machine}")
    if path is None:
        return None
    if os.geteuid() == 0 and Path(path).stat().st_uid != 0:
        return path, ""  # root runs nothing that somebody else may have written
    try:
        done = subprocess.run(
            [path, "--version"], check=False, capture_output=True, text=True, errors="replace", timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return path, ""
    return path, done.stdout
