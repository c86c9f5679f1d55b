"""Carry a plan out, as a whole or not at all; and take an installation away again.

Every path of a plan is put below ``root``: "/" in earnest, another folder with ``--destdir``. What runs
programs of the service manager is given by the caller.
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path, PurePosixPath

from vde_vmnet.errors import ConflictError, PrivilegeError, ServiceError
from vde_vmnet.service.plan import (
    Command,
    Environment,
    Plan,
    TextFile,
    look_commands,
    record_path,
    reload_commands,
    start_commands,
    stop_commands,
)
from vde_vmnet.service.record import Record

__all__ = ["Runner", "install", "read_record", "run_command", "uninstall"]

_log = logging.getLogger(__name__)

#: Runs a program to its end; raises ServiceError when it fails.
Runner = Callable[[Command], None]

#: Stopping a network takes up to 20 s; starting one waits for the kernel's and for dnsmasq.
_COMMAND_SECONDS = 90
#: launchd kills a service 20 s after it was told to end, and nothing tells when it is gone.
_GONE_SECONDS, _LOOK_SECONDS = 25.0, 0.1
_CHECK = "import vde_vmnet, vde_vmnet._engine, vde_vmnet.cli; print(vde_vmnet.__version__)"


def run_command(command: Command) -> None:
    """The ``Runner`` in earnest. Raises ServiceError with the program's own words."""
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=_COMMAND_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ServiceError(f"{' '.join(command)}: {error}") from error
    if done.returncode != 0:
        words = " ".join((done.stderr or done.stdout).split()) or "no message"
        raise ServiceError(f"{' '.join(command)} failed with status {done.returncode}: {words}")


def read_record(prefix: PurePosixPath, root: Path) -> Record | None:
    """What is installed below ``prefix``; None for nothing."""
    try:
        return Record.parse(_below(root, record_path(prefix)).read_text())
    except (FileNotFoundError, NotADirectoryError):
        return None


def install(plan: Plan, previous: Record | None, *, root: Path, run: Runner, replace: bool = False) -> None:
    """Carry ``plan`` out over ``previous``.

    Raises ConflictError (a file is there that no installation of ours wrote, without ``replace``),
    PrivilegeError (not writable), ServiceError (the service manager refuses); everything is as before then.
    """
    place = _Place(root)
    if not replace:
        _refuse_strangers(plan, previous, root)
    with _translated(), ExitStack() as undo:
        if plan.start:
            # Last of all, when the old files are back: what ran before runs again.
            former = start_commands(previous.manager, previous.services) if previous else ()
            undo.callback(_tolerate, run, former or reload_commands(plan.manager))
        made = [str(folder) for folder in plan.folders if place.folder(folder, undo)]
        staged = root != Path("/")
        record = Record.of(plan, folders=tuple(made), staged=staged, previous=previous)
        place.file(TextFile(record_path(plan.prefix), record.over(previous).render()), undo)
        discard = place.environment(plan.environment, undo)
        for file in plan.files:
            place.file(file, undo)
        if previous is not None:
            gone = tuple(service for service in previous.services if service not in plan.services)
            if plan.start:
                _stop(run, previous.manager, gone)
            for path in sorted({*previous.files} - {str(file.path) for file in plan.files}):
                place.removed(PurePosixPath(path), undo)
        if plan.start:
            undo.callback(_stop, run, plan.manager, plan.services)
            if plan.manager == "launchd":
                _stop(run, plan.manager, plan.services)
            for command in start_commands(plan.manager, plan.services):
                run(command)
        _put(_below(root, record_path(plan.prefix)), record.render().encode(), 0o644)
        undo.pop_all()
    shutil.rmtree(discard, ignore_errors=True)


def uninstall(record: Record, *, root: Path, run: Runner, stop: bool) -> None:
    """Take an installation away; what is gone already is no matter. Raises PrivilegeError, ServiceError.

    ``stop``: whether its services may run here.
    """
    with _translated():
        if stop:
            _stop(run, record.manager, record.services)
        for path in (*record.files, *record.logs):
            _below(root, PurePosixPath(path)).unlink(missing_ok=True)
        if stop:
            _tolerate(run, reload_commands(record.manager))
        environment = _below(root, PurePosixPath(record.environment))
        for folder in (*_beside(environment), environment):
            if folder.exists():
                shutil.rmtree(folder)
        _below(root, record_path(record.prefix)).unlink()
        for made in reversed(record.folders):
            # A package made with --destdir lists the system's own folders, which were missing there only.
            if record.staged and root == Path("/") and not PurePosixPath(made).is_relative_to(record.prefix):
                continue
            with suppress(OSError):  # not empty: somebody uses it
                _below(root, PurePosixPath(made)).rmdir()


def _refuse_strangers(plan: Plan, previous: Record | None, root: Path) -> None:
    ours = {*previous.files, previous.environment} if previous else set()
    for path in (plan.environment.path, *(file.path for file in plan.files)):
        if str(path) not in ours and os.path.lexists(_below(root, path)):
            raise ConflictError(
                f'"{path}" is there already, and this installer did not write it',
                next_step="Remove the program that it belongs to (the original vde_vmnet?), choose another"
                " --prefix, or take its place with --replace",
            )


class _Place:
    """Writes below ``root``; each method leaves in ``undo`` what takes its work back."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def folder(self, path: PurePosixPath, undo: ExitStack) -> bool:
        """True when it had to be made."""
        real = _below(self._root, path)
        try:
            real.mkdir(mode=0o755)
        except FileExistsError:
            return False
        undo.callback(_quietly, real.rmdir)
        _own(real, 0o755)
        return True

    def file(self, file: TextFile, undo: ExitStack) -> None:
        """At once and whole."""
        real = _below(self._root, file.path)
        self._keep(real, undo)
        _put(real, file.text.encode(), file.mode)

    def removed(self, path: PurePosixPath, undo: ExitStack) -> None:
        """Whether or not it is there."""
        real = _below(self._root, path)
        self._keep(real, undo)
        real.unlink(missing_ok=True)

    @staticmethod
    def _keep(real: Path, undo: ExitStack) -> None:
        try:
            status = real.lstat()
        except FileNotFoundError:
            undo.callback(_quietly, real.unlink)
        else:
            undo.callback(_put, real, real.read_bytes(), status.st_mode & 0o7777)

    def environment(self, environment: Environment, undo: ExitStack) -> Path:
        """Build it beside its place, try it, and swap it in; returns the folder with the former one."""
        real = _below(self._root, environment.path)
        new, old = _beside(real)
        for leftover in (new, old):
            shutil.rmtree(leftover, ignore_errors=True)  # of an installation that was killed
        undo.callback(shutil.rmtree, new, ignore_errors=True)
        _build(environment, new)
        _try(environment, new)
        if os.path.lexists(real):
            real.rename(old)
            undo.callback(old.rename, real)
        new.rename(real)
        undo.callback(real.rename, new)
        return old


def _beside(environment: Path) -> tuple[Path, Path]:
    """Where the next one is built, and the former one is kept until all is done."""
    return environment.with_name(f".{environment.name}.new"), environment.with_name(f".{environment.name}.old")


def _build(environment: Environment, place: Path) -> None:
    packages = place / environment.packages
    for folder in (place, place / "bin", *reversed(packages.relative_to(place).parents[:-1])):
        _make(place / folder)
    _make(packages)
    _put(place / "pyvenv.cfg", environment.configuration.encode(), 0o644)
    (place / "bin/python").symlink_to(environment.python)
    for name, content in environment.payload.files.items():
        target = packages / name
        for folder in reversed(target.relative_to(packages).parents[:-1]):
            _make(packages / folder)
        _put(target, content, 0o644)


def _try(environment: Environment, place: Path) -> None:
    """Compile all modules, so that no root process writes there later, and load them once."""
    python = [os.fspath(place / "bin/python"), "-I"]
    compiling = ["-m", "compileall", "-q", "-s", os.fspath(place), "-p", os.fspath(environment.path)]
    for arguments in ([*compiling, os.fspath(place / environment.packages)], ["-c", _CHECK]):
        done = subprocess.run([*python, *arguments], check=False, capture_output=True, text=True, cwd="/")
        if done.returncode != 0:
            words = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1]
            raise ServiceError(f"The package does not run on {environment.python}: {words}")
    if done.stdout.strip() != environment.payload.version:
        raise ServiceError(f"The package says it is version {done.stdout.strip()}")


def _below(root: Path, path: PurePosixPath) -> Path:
    return root / path.relative_to("/")


def _make(folder: Path) -> None:
    with suppress(FileExistsError):
        folder.mkdir(mode=0o755)
        _own(folder, 0o755)


def _put(path: Path, content: bytes, mode: int) -> None:
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    try:
        with temporary.open("xb") as file:
            file.write(content)
        _own(temporary, mode)
        temporary.rename(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _own(path: Path, mode: int) -> None:
    """Root's, also where the parent gives its group to what is made in it, as on macOS."""
    if os.geteuid() == 0:
        os.chown(path, 0, 0)
    path.chmod(mode)


def _stop(run: Runner, manager: str, services: tuple[str, ...]) -> None:
    """Those that run; returns when they are gone, so that they can be started again at once."""
    _tolerate(run, stop_commands(manager, services))
    until = time.monotonic() + _GONE_SECONDS
    pause = threading.Event()
    for look in look_commands(manager, services):
        while time.monotonic() < until:
            try:
                run(look)
            except ServiceError:
                break
            pause.wait(_LOOK_SECONDS)


def _tolerate(run: Runner, commands: tuple[Command, ...]) -> None:
    for command in commands:
        try:
            run(command)
        except ServiceError as error:
            _log.debug("%s", error)


def _quietly(action: Callable[[], object]) -> None:
    with suppress(OSError):
        action()


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        where = f'"{error.filename}": ' if error.filename else ""
        words = f"{where}{os.strerror(error.errno) if error.errno else error}"
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise PrivilegeError(f"Not permitted: {words}", next_step="Run it with sudo") from error
        raise ServiceError(f"The installation could not be written: {words}") from error
