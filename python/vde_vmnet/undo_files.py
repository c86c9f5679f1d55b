"""The files of undo records: the directory's lock, one lock per record, atomic replacement, who we are.

Standard library only: the keeper runs this as root.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from vde_vmnet.errors import PrivilegeError, UnavailableError, VdeVmnetError

__all__ = [
    "boot_id",
    "flocked",
    "is_locked",
    "locked",
    "namespace",
    "namespace_lives",
    "remove_files",
    "translated",
    "try_lock",
    "write",
]


@contextlib.contextmanager
def locked(state_dir: Path, *, make: bool = False) -> Iterator[None]:
    """Hold the directory's lock; ``make`` makes the directory first."""
    try:
        if make:
            state_dir.mkdir(mode=0o755, parents=True, exist_ok=True)
        status = state_dir.stat()
        # Root will run what the records say: nobody else may be able to write one.
        if status.st_uid != os.geteuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise PrivilegeError(
                f"{state_dir} must belong to the user this runs as and be writable by no other",
                next_step=f"Look at it with: ls -ld {state_dir}; remove it if it is not yours",
            )
    except OSError as error:
        raise translated(error, f"Cannot use the state directory {state_dir}") from error
    with flocked(state_dir / ".lock"):
        yield


@contextlib.contextmanager
def flocked(path: Path) -> Iterator[None]:
    """Hold the lock of a file that stays; waits for whoever holds it."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise translated(error, f"Cannot write {path}") from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def try_lock(state_dir: Path, name: str) -> int | None:
    """Take the lock of one record; None when its owner lives."""
    path = state_dir / f"{name}.lock"
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise translated(error, f"Cannot write {path}") from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    return fd


def is_locked(state_dir: Path, name: str) -> bool:
    probe = try_lock(state_dir, name)
    if probe is None:
        return True
    os.close(probe)
    return False


def write(path: Path, text: str) -> None:
    """Replace a file in one step, mode 0600: a reader or a crash sees the old text or the new one."""
    fresh = path.with_suffix(".new")
    try:
        fresh.unlink(missing_ok=True)
        fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            file.write(text)
        fresh.replace(path)
    except OSError as error:
        raise translated(error, f"Cannot write {path}") from error


def remove_files(state_dir: Path, name: str) -> None:
    for suffix in ("json", "new", "lock"):
        (state_dir / f"{name}.{suffix}").unlink(missing_ok=True)


if sys.platform == "darwin":

    @functools.cache
    def boot_id() -> str:
        """Something else after each boot: ``kern.bootsessionuuid``, sysctl(3)."""
        command = ("/usr/sbin/sysctl", "-n", "kern.bootsessionuuid")
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def namespace() -> int:
        """There is one network, whatever its number."""
        return 0

    def namespace_lives(inode: int) -> bool:
        """Whether it is that one."""
        return inode == 0

else:

    def boot_id() -> str:
        """Something else after each boot, random(4)."""
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()

    def namespace() -> int:
        """Inode number of our network namespace, namespaces(7)."""
        return Path("/proc/self/ns/net").stat().st_ino

    def namespace_lives(inode: int) -> bool:
        """Whether a process is in that network namespace, or ``ip netns`` keeps it."""
        for pattern in ("proc/[0-9]*/ns/net", "run/netns/*"):
            for path in Path("/").glob(pattern):
                with contextlib.suppress(OSError):
                    if path.stat().st_ino == inode:
                        return True
        return False


def translated(error: OSError, what: str) -> VdeVmnetError:
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return PrivilegeError(f"{what}: {error.strerror}", next_step="Run with sudo")
    return UnavailableError(f"{what}: {error.strerror}")
