"""Changing ``/etc/bootptab`` in one step, alone, and telling macOS's DHCP server. Standard library only.

The texts are made in wire/bootptab.py; the record of what to undo is in undo_steps.py.
"""

from __future__ import annotations

import fcntl
import os
import stat
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

__all__ = ["edit", "restart"]

# Chosen: launchctl ends within a second.
_RESTART_SECONDS = 10.0
_NEW_MODE = 0o644


def edit(path: Path, change: Callable[[str], str]) -> bool:
    """Replace the file's text by ``change`` of it; a file whose text becomes empty is removed.

    Readers see the old file or the new one, with the same owner and mode. Whoever else edits through this
    waits. Returns whether anything changed. Raises OSError, and what ``change`` raises, with nothing done.
    """
    real = Path(os.path.realpath(path))
    # The directory, since the file itself is another one after each edit.
    lock = os.open(real.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            # As bytes that survive whatever they mean: the file is not ours.
            former = real.read_text(encoding="utf-8", errors="surrogateescape")
            status: os.stat_result | None = real.stat()
        except FileNotFoundError:
            former, status = "", None
        text = change(former)
        if text == former:
            return False
        if not text:
            real.unlink(missing_ok=True)
        else:
            _replace(real, text, status)
        return True
    finally:
        os.close(lock)


def _replace(path: Path, text: str, status: os.stat_result | None) -> None:
    fresh = path.with_name(f".{path.name}.vde_vmnet")
    fresh.unlink(missing_ok=True)
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, _NEW_MODE)
    try:
        with os.fdopen(fd, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(text)
            if status is not None:
                os.fchown(file.fileno(), status.st_uid, status.st_gid)
            os.fchmod(file.fileno(), stat.S_IMODE(status.st_mode) if status is not None else _NEW_MODE)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except OSError:
        fresh.unlink(missing_ok=True)
        raise


def restart(command: Sequence[str]) -> str | None:
    """Make the DHCP server read its reservations again; why that failed, or None."""
    try:
        done = subprocess.run(
            command,
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            timeout=_RESTART_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return None if done.returncode == 0 else " ".join(done.stderr.split()) or f"status {done.returncode}"
