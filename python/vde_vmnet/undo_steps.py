"""The kinds of undo step: plain data, its JSON form, and how each is carried out.

A step must be safe to carry out twice and when the thing it removes never came to be: steps are recorded
*before* what they undo, and a start after ``kill -9`` repeats those whose fate it does not know.
Standard library only: the keeper runs this as root.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from vde_vmnet import bootptab_file
from vde_vmnet.wire import bootptab

__all__ = [
    "Command",
    "RemoveDirectory",
    "RestoreBootptab",
    "RestoreSysctl",
    "Step",
    "StepError",
    "StopProcess",
    "Unlink",
    "from_plain",
    "to_plain",
]

# Chosen: `ip` and `nft` end in milliseconds; ten seconds is a machine in trouble, not a slow command.
_COMMAND_SECONDS = 10.0
# Chosen: dnsmasq ends within 10 ms of SIGTERM; after this it gets SIGKILL.
_TERM_MILLISECONDS = 2000
_KILL_MILLISECONDS = 2000


class StepError(Exception):
    """A step that could not be undone; the message says what is left and why."""


@dataclass(frozen=True)
class Command:
    """Run a program. Bound to the network namespace in which it was recorded.

    ``gone`` lists parts of its error text that mean "there is nothing left to undo".
    """

    argv: tuple[str, ...]
    gone: tuple[str, ...] = ()

    def undo(self) -> None:
        """Raises StepError when the program fails for another reason than those in ``gone``."""
        try:
            done = subprocess.run(
                self.argv,
                check=False,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                timeout=_COMMAND_SECONDS,
                env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"},
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise StepError(f"{' '.join(self.argv)}: {error}") from error
        if done.returncode != 0 and not any(text in done.stderr for text in self.gone):
            raise StepError(f"{' '.join(self.argv)}: {done.stderr.strip() or f'status {done.returncode}'}")


@dataclass(frozen=True)
class Unlink:
    """Remove a file or socket. With ``device`` and ``inode`` only if the path still is that very file."""

    path: str
    device: int | None = None
    inode: int | None = None

    @classmethod
    def same_file(cls, path: Path) -> Unlink:
        """A step for the file that is at ``path`` now. Raises OSError when there is none."""
        status = path.lstat()
        return cls(str(path), status.st_dev, status.st_ino)

    def undo(self) -> None:
        """Raises StepError when it is there and cannot be removed."""
        path = Path(self.path)
        try:
            status = path.lstat()
            if self.inode is not None and (status.st_dev, status.st_ino) != (self.device, self.inode):
                return
            path.unlink()
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            raise StepError(f"Cannot remove {path}: {error.strerror}") from error


@dataclass(frozen=True)
class RemoveDirectory:
    """Remove a directory if nothing is in it; what others put there stays, and so does the directory."""

    path: str

    def undo(self) -> None:
        """Raises StepError when it is empty and cannot be removed."""
        path = Path(self.path)
        try:
            if path.is_symlink() or any(path.iterdir()):
                return
            path.rmdir()
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            raise StepError(f"Cannot remove {path}: {error.strerror}") from error


@dataclass(frozen=True)
class StopProcess:
    """End one process, and wait until it has ended. The start time tells it from a later one of its number."""

    pid: int
    #: Clock ticks after boot: field 22 of /proc/PID/stat, proc(5).
    start_ticks: int

    @classmethod
    def of(cls, pid: int) -> StopProcess:
        """A step for the process that has this number now. Raises StepError when there is none."""
        ticks = _start_ticks(pid)
        if ticks is None:
            raise StepError(f"Process {pid} has ended")
        return cls(pid, ticks)

    def undo(self) -> None:
        """SIGTERM, then SIGKILL. Raises StepError when it survives both."""
        try:
            pidfd = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return
        except OSError as error:
            raise StepError(f"Cannot stop process {self.pid}: {error.strerror}") from error
        try:
            # Only now: the descriptor pins whoever has the number, so this comparison cannot be overtaken.
            if _start_ticks(self.pid) == self.start_ticks:
                self._end(pidfd)
        finally:
            os.close(pidfd)

    def _end(self, pidfd: int) -> None:
        waiter = select.poll()
        waiter.register(pidfd, select.POLLIN)
        for which, wait in ((signal.SIGTERM, _TERM_MILLISECONDS), (signal.SIGKILL, _KILL_MILLISECONDS)):
            try:
                signal.pidfd_send_signal(pidfd, which)
            except ProcessLookupError:
                pass  # it has ended and its parent has not yet asked for its status
            except PermissionError as error:
                raise StepError(f"Cannot stop process {self.pid}: {error.strerror}") from error
            if waiter.poll(wait):
                self._reap(pidfd)
                return
        raise StepError(f"Process {self.pid} does not end")

    @staticmethod
    def _reap(pidfd: int) -> None:
        """Take the status of a child of ours; somebody else's child is left to its parent."""
        try:
            os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)
        except ChildProcessError:
            return


@dataclass(frozen=True)
class RestoreSysctl:
    """A kernel setting this network needs. Bound to its network namespace; undone by UndoRecord, see there."""

    path: str
    #: What the network needs it to be.
    value: str
    #: What it was before this network changed it; None when it was so already.
    former: str | None = None
    #: Settings that the kernel changes as a side effect, as they were.
    followers: dict[str, str] = field(default_factory=dict)

    def undo(self) -> None:
        """Put the former value back, unless somebody has changed it since. Raises StepError."""
        if self.former is None:
            return
        try:
            if Path(self.path).read_text().strip() != self.value:
                return
            Path(self.path).write_text(self.former)
        except FileNotFoundError:
            return
        except OSError as error:
            raise StepError(f"Cannot set {self.path} back to {self.former}: {error.strerror}") from error
        for path, former in self.followers.items():
            try:
                if Path(path).read_text().strip() != former:
                    Path(path).write_text(former)
            except FileNotFoundError:
                continue  # an interface that has gone
            except OSError as error:
                raise StepError(f"Cannot set {path} back to {former}: {error.strerror}") from error


@dataclass(frozen=True)
class RestoreBootptab:
    """Take the entries of one network out of macOS's ``/etc/bootptab``, and tell its DHCP server."""

    path: str
    network_id: str
    restart: tuple[str, ...]

    def undo(self) -> None:
        """Raises StepError when entries are there and cannot be taken out."""
        try:
            changed = bootptab_file.edit(
                Path(self.path), lambda text: bootptab.without_entries(text, self.network_id)
            )
        except FileNotFoundError:
            return
        except OSError as error:
            raise StepError(f"Cannot take our entries out of {self.path}: {error.strerror}") from error
        refused = bootptab_file.restart(self.restart) if changed else None
        if refused is not None:
            raise StepError(f"{' '.join(self.restart)}: {refused}")


Step: TypeAlias = Command | Unlink | RemoveDirectory | StopProcess | RestoreSysctl | RestoreBootptab

_KINDS: dict[str, type[Step]] = {
    "command": Command,
    "unlink": Unlink,
    "remove_directory": RemoveDirectory,
    "stop_process": StopProcess,
    "restore_sysctl": RestoreSysctl,
    "restore_bootptab": RestoreBootptab,
}
_NAMES = {kind: name for name, kind in _KINDS.items()}


def to_plain(step: Step) -> dict[str, Any]:
    """The JSON form: the fields, and ``step`` for the kind."""
    return {"step": _NAMES[type(step)], **asdict(step)}


def from_plain(plain: Any) -> Step:
    """The opposite of ``to_plain``. Raises ValueError for anything that it cannot have written."""
    if not isinstance(plain, dict) or plain.get("step") not in _KINDS:
        raise ValueError(f"{plain!r} is no undo step")
    fields = {name: value for name, value in plain.items() if name != "step"}
    try:
        match plain["step"]:
            case "command":
                argv, gone = _texts(fields.pop("argv")), _texts(fields.pop("gone"))
                step: Step = Command(argv, gone, **fields)
            case "stop_process":
                step = StopProcess(**{name: _is(int, value) for name, value in fields.items()})
            case "restore_sysctl":
                followers = _is(dict, fields["followers"])
                _texts([fields["path"], fields["value"], *followers, *followers.values()])
                _is((str, type(None)), fields["former"])
                step = RestoreSysctl(**fields)
            case "restore_bootptab":
                restart = _texts(fields.pop("restart"))
                _texts(list(fields.values()))
                step = RestoreBootptab(restart=restart, **fields)
            case "unlink":
                _is(str, fields["path"])
                step = Unlink(**fields)
            case _:
                _is(str, fields["path"])
                step = RemoveDirectory(**fields)
    except (KeyError, TypeError) as error:
        raise ValueError(f"{plain!r} is no undo step: {error}") from error
    return step


def _is(kind: Any, value: Any) -> Any:
    if not isinstance(value, kind):
        raise TypeError(f"{value!r} is not of the expected type")
    return value


def _texts(values: Any) -> tuple[str, ...]:
    return tuple(_is(str, value) for value in _is((list, tuple), values))


def _start_ticks(pid: int) -> int | None:
    """When a process started; None when there is no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The second field is the program's name in parentheses and may itself hold spaces and parentheses.
    return int(stat.rpartition(")")[2].split()[19])
