"""What must be undone, as data: written to disk before each privileged step, undone in reverse.

The record outlives the process that made it, so the next start can finish what a ``kill -9`` interrupted.
One JSON file per network and network namespace lies in the state directory beside a lock file; whoever holds
the lock file's ``flock`` is the owner, and a record whose lock is free belongs to the dead. Changes to
any record, and the undoing of dead ones, happen under the lock of the directory, so that two starts at once,
or a network that ends while another starts, see each other's finished work only.
Standard library only: the keeper runs this as root.

    undo = UndoRecord.create("1a2b3c4d")
    undo.push(Unlink("/run/vde.ctl/ctl"))    # first the record …
    make_the_socket()                        # … then the step
    undo.run()                               # in reverse; the record is gone afterwards
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from vde_vmnet.errors import ConflictError, InternalError, VdeVmnetError
from vde_vmnet.undo_files import (
    boot_id,
    flocked,
    is_locked,
    locked,
    namespace,
    namespace_lives,
    remove_files,
    translated,
    try_lock,
    write,
)
from vde_vmnet.undo_steps import (
    Command,
    RemoveDirectory,
    RestoreBootptab,
    RestoreSysctl,
    Step,
    StepError,
    StopProcess,
    Unlink,
    from_plain,
    to_plain,
)

__all__ = [
    "STATE_DIRECTORY",
    "Command",
    "RemoveDirectory",
    "RestoreBootptab",
    "RestoreSysctl",
    "Step",
    "StepError",
    "StopProcess",
    "UndoRecord",
    "Unlink",
    "sweep",
]

#: Volatile on every current Linux and on macOS: what a reboot undoes by itself needs no record.
STATE_DIRECTORY = Path("/var/run/vde_vmnet" if sys.platform == "darwin" else "/run/vde_vmnet")

_VERSION = 1
_log = logging.getLogger(__name__)


class UndoRecord:
    """The steps that undo one network, newest last. Made by ``create`` or ``in_memory``."""

    def __init__(self, network_id: str, state_dir: Path | None, lock_fd: int, where: int = 0) -> None:
        self.network_id = network_id
        self._namespace = where
        self._state_dir = state_dir
        self._lock_fd = lock_fd
        self._steps: list[Step] = []
        self._held: list[int] = []
        self._released = False

    @classmethod
    def create(cls, network_id: str, state_dir: Path = STATE_DIRECTORY) -> UndoRecord:
        """Begin an empty record and own it. A dead record of the same network is undone first.

        Raises ConflictError (the network is running in this network namespace), PrivilegeError (the
        directory cannot be written, or others than its owner can write it), UnavailableError (disk full).
        """
        with locked(state_dir, make=True):
            name = f"{network_id}.{namespace()}"
            _sweep_locked(state_dir, only=name)
            lock_fd = try_lock(state_dir, name)
            if lock_fd is None:
                raise ConflictError(
                    f"Network {network_id} is already running",
                    next_step="Stop the other vde_vmnet, or choose another switch directory",
                )
            record = cls(network_id, state_dir, lock_fd, namespace())
            record._write()
        return record

    @classmethod
    def in_memory(cls, network_id: str) -> UndoRecord:
        """A record for a caller without a place to write: it undoes on ``run``, not after a ``kill -9``."""
        return cls(network_id, None, -1)

    def file(self, suffix: str) -> Path:
        """Where a step may keep a file of this network, such as ``leases``; the step removes it itself.

        Raises InternalError for a record that is only in memory: an uplink that needs files needs a record.
        """
        if self._state_dir is None:
            raise InternalError("An undo record in memory has no place for files")
        return self._state_dir / f"{self._name}.{suffix}"

    def push(self, step: Step) -> None:
        """Record how to undo what the caller is about to do.

        Raises PrivilegeError or UnavailableError when it cannot be written; then do not do it.
        """
        self._check_owned()
        with self._reloaded():
            self._steps.append(step)
            self._write()

    def set_sysctl(self, path: Path, value: str, followers: Sequence[Path] = ()) -> None:
        """Set a kernel setting (``path`` below /proc/sys) and record it.

        Networks that run at the same time share it: each records that it needs the value; whichever ends
        last puts the value back that was there before the first. ``followers`` are settings that the kernel
        changes along with it; they are put back after it. Raises PrivilegeError or UnavailableError.
        """
        self._check_owned()
        with self._reloaded():
            try:
                former = path.read_text().strip()
                if former == value:
                    self._steps.append(RestoreSysctl(str(path), value))
                    self._write()
                    return
                others = {str(other): other.read_text().strip() for other in followers}
                self._steps.append(RestoreSysctl(str(path), value, former, others))
                self._write()
                path.write_text(value)
            except OSError as error:
                raise translated(error, f"Cannot set {path} to {value}") from error

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """No other network of this state directory is inside this at the same time.

        For looking at what the host has and then taking what is free. Waits for the other; does not
        stand in the way of ``push`` or ``sweep``. Raises PrivilegeError or UnavailableError.
        """
        if self._state_dir is None:
            yield
            return
        with flocked(self._state_dir / ".opening"):
            yield

    def hold(self, fd: int) -> None:
        """Keep a descriptor open for as long as the record lives; it is closed by ``run`` before any step."""
        self._held.append(fd)

    def release_in_child(self) -> None:
        """Give up, in a forked child, the copies of the lock and of held descriptors; the parent keeps its own.

        A forked process shares the lock: without this the network would count as running for as long as
        the child lives.
        """
        self._released = True
        self._close_descriptors()

    def run(self) -> bool:
        """Undo every step, newest first; a failure is logged and the rest is still undone.

        The record is removed at the end, whatever failed: a later start could do no better. Returns
        whether everything was undone. A second call does nothing.
        """
        self._check_owned()
        for fd in self._held:
            os.close(fd)
        self._held.clear()
        self._reload()
        complete = True
        while self._steps:
            step = self._steps[-1]
            try:
                if isinstance(step, RestoreSysctl):
                    with self._reloaded():
                        self._hand_over_or_undo()
                        self._drop_last()
                    continue
                step.undo()
            except StepError as error:
                complete = False
                _log.error("Undoing network %s: %s", self.network_id, error)
            with self._reloaded():
                self._drop_last()
        self._remove()
        return complete

    # ---- everything below: the directory is locked where a record is read or written

    def _hand_over_or_undo(self) -> None:
        """Give the newest step, a setting, to a living network that needs it too; undo it if there is none."""
        step = self._steps[-1]
        if not isinstance(step, RestoreSysctl) or step.former is None:
            return
        for other in self._living_others():
            for index, theirs in enumerate(other._steps):
                if isinstance(theirs, RestoreSysctl) and (theirs.path, theirs.value) == (step.path, step.value):
                    if theirs.former is None:
                        other._steps[index] = replace(theirs, former=step.former, followers=step.followers)
                        other._write()
                    return
        step.undo()

    def _living_others(self) -> Iterator[UndoRecord]:
        """Records of other running networks of this namespace, without their locks."""
        if self._state_dir is None:
            return
        for path in sorted(self._state_dir.glob(f"*.{self._namespace}.json")):
            if path.stem == self._name:
                continue
            probe = try_lock(self._state_dir, path.stem)
            if probe is not None:
                os.close(probe)
                continue
            try:
                yield _load(path)
            except ValueError as error:
                _log.warning("Cannot read %s: %s", path, error)

    def _drop_last(self) -> None:
        self._steps.pop()
        try:
            self._write()
        except VdeVmnetError as error:
            _log.error("%s", error)

    @contextlib.contextmanager
    def _reloaded(self) -> Iterator[None]:
        """The directory's lock, and the steps as they are on disk: another network may have handed one over."""
        if self._state_dir is None:
            yield
            return
        with locked(self._state_dir):
            self._reload()
            yield

    def _reload(self) -> None:
        if self._state_dir is None or self._lock_fd < 0:
            return
        try:
            self._steps = _load(self._path)._steps
        except (OSError, ValueError) as error:
            _log.warning("Going on without the record of network %s: %s", self.network_id, error)

    def _write(self) -> None:
        """Replace the file in one step; a reader or a crash sees the old one or the new one."""
        if self._state_dir is None:
            return
        plain = {
            "version": _VERSION,
            "network": self.network_id,
            "boot": boot_id(),
            "namespace": self._namespace,
            "steps": [to_plain(step) for step in self._steps],
        }
        write(self._path, json.dumps(plain, indent=1))

    def _remove(self) -> None:
        if self._state_dir is not None and self._lock_fd >= 0:
            with locked(self._state_dir):
                remove_files(self._state_dir, self._name)
        self._close_descriptors()

    def _close_descriptors(self) -> None:
        for fd in (*self._held, self._lock_fd):
            if fd >= 0:
                os.close(fd)
        self._held.clear()
        self._lock_fd = -1

    def _check_owned(self) -> None:
        if self._released:
            raise InternalError("A process used an undo record that it has released")

    @property
    def _name(self) -> str:
        return f"{self.network_id}.{self._namespace}"

    @property
    def _path(self) -> Path:
        assert self._state_dir is not None  # noqa: S101 - callers have looked
        return self._state_dir / f"{self._name}.json"


def sweep(state_dir: Path = STATE_DIRECTORY) -> list[str]:
    """Undo what dead owners left in this network namespace; return the ids of those networks.

    Records of running networks and of other namespaces are left alone; those of an earlier boot or of a
    namespace that has ended are removed, since nothing of theirs is left to undo but files. A record that
    cannot be read is set aside with the suffix ``.corrupt`` and logged. A second sweep waits for the first.
    Raises PrivilegeError when the directory can be written by others than its owner.
    """
    if not state_dir.is_dir():
        return []
    with locked(state_dir):
        return _sweep_locked(state_dir)


def _sweep_locked(state_dir: Path, only: str = "*") -> list[str]:
    undone = []
    for path in sorted(state_dir.glob(f"{only}.json")):
        lock_fd = try_lock(state_dir, path.stem)
        if lock_fd is None:
            continue
        try:
            record, boot, where = _load_with_origin(path)
        except (OSError, ValueError) as error:
            _log.warning("Set aside the unreadable undo record %s: %s", path, error)
            path.replace(path.with_suffix(".corrupt"))
            remove_files(state_dir, path.stem)
            os.close(lock_fd)
            continue
        if boot == boot_id() and where == namespace():
            _log.warning("Removing what network %s left when it was killed", record.network_id)
            _undo_dead(record, record._steps)
            undone.append(record.network_id)
        elif boot != boot_id() or not namespace_lives(where):
            same_network_runs = any(
                is_locked(state_dir, other.stem)
                for other in state_dir.glob(f"{record.network_id}.*.json")
                if other != path
            )
            if boot == boot_id() and not same_network_runs:
                bound = (Command, RestoreSysctl)
                _undo_dead(record, [step for step in record._steps if not isinstance(step, bound)])
        else:
            os.close(lock_fd)
            continue
        remove_files(state_dir, path.stem)
        os.close(lock_fd)
    return undone


def _undo_dead(record: UndoRecord, steps: list[Step]) -> None:
    """Undo in reverse under the directory's lock; a crash in between repeats, which steps allow."""
    record._steps = steps
    while record._steps:
        step = record._steps[-1]
        try:
            if isinstance(step, RestoreSysctl):
                record._hand_over_or_undo()
            else:
                step.undo()
        except StepError as error:
            _log.error("Undoing network %s: %s", record.network_id, error)
        record._drop_last()


def _load(path: Path) -> UndoRecord:
    return _load_with_origin(path)[0]


def _load_with_origin(path: Path) -> tuple[UndoRecord, str, int]:
    """The record without its lock, its boot id and its namespace. Raises ValueError, OSError."""
    plain: Any = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(plain, dict) or plain.get("version") != _VERSION:
        raise ValueError("not a record of this version")
    network, boot, where = (plain.get(key) for key in ("network", "boot", "namespace"))
    if not isinstance(network, str) or not isinstance(boot, str) or not isinstance(where, int):
        raise ValueError("a field is missing or of the wrong type")
    if path.stem != f"{network}.{where}" or not isinstance(plain.get("steps"), list):
        raise ValueError("a field is missing or of the wrong type")
    record = UndoRecord(network, path.parent, -1, where)
    record._steps = [from_plain(step) for step in plain["steps"]]
    return record, boot, where
