"""Which Python the installed daemon runs on: one that only root can change, and that everybody can run.

A virtual environment borrows its interpreter and the standard library from the Python it was made with; so
that one has to be root's as much as the daemon itself. Homebrew's and pyenv's usually are not.
"""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from vde_vmnet.errors import ConfigurationError, UnavailableError
from vde_vmnet.service.prefix import writable_below_by_others, writable_by_others

__all__ = ["MINIMUM", "Interpreter", "candidates", "choose", "unsuitable_reason"]

#: What the package requires (pyproject.toml).
MINIMUM = (3, 11)
#: Where systems, python.org's installer and MacPorts have theirs.
_USUAL = ("/usr/bin", "/usr/local/bin", "/opt/local/bin", "/Library/Frameworks/Python.framework/Versions/*/bin")
#: Not looked into by an environment of its own (PEP 405, no system site packages).
_NOT_OURS = frozenset({"site-packages", "dist-packages"})
_NAME = re.compile(r"python3\.(\d+)")
_PROBE = """
import json, sys, sysconfig
print(json.dumps({
    "version": sys.version_info[:3],
    "executable": sys._base_executable,
    "folders": sorted({sysconfig.get_path(name) for name in ("stdlib", "platstdlib")}),
    "library": sysconfig.get_config_var("LDLIBRARY"),
    "places": [sysconfig.get_config_var(name) for name in ("LIBDIR", "PYTHONFRAMEWORKPREFIX")],
    "framework": sys.base_prefix if sysconfig.get_config_var("PYTHONFRAMEWORK") else None,
}))
"""
_PROBE_SECONDS = 20


@dataclass(frozen=True)
class Interpreter:
    """A Python, and what belongs to it."""

    #: Its own name, with the version in it where there is one; never a virtual environment's.
    path: Path
    version: tuple[int, int, int]
    #: The standard library, and the program inside of a framework.
    folders: tuple[Path, ...]
    #: libpython, where that is a file of its own.
    libraries: tuple[Path, ...]

    @property
    def short_version(self) -> str:
        """As in folder names: ``3.11``."""
        return f"{self.version[0]}.{self.version[1]}"


def candidates() -> list[Path]:
    """The Python that runs us first, then the usual places; newest first within a place."""
    found = [Path(sys.executable)]
    for pattern in _USUAL:
        for place in sorted(Path("/").glob(pattern.removeprefix("/"))):
            named = [(int(match[1]), path) for path in place.iterdir() if (match := _NAME.fullmatch(path.name))]
            found += [path for minor, path in sorted(named, reverse=True) if minor >= MINIMUM[1]]
    return found


def choose(wanted: Path | None, *, for_this_system: bool) -> Interpreter:
    """``--python``, else the first candidate that is suitable.

    For another system (``--destdir``) any will do, since who may change it there is not known here. Raises
    ConfigurationError (``--python`` is unsuitable), UnavailableError (none is suitable) with every reason.
    """
    if wanted is not None and not for_this_system:
        return _probe(wanted)
    if wanted is not None:
        # Before it is run, as root perhaps.
        reason = writable_by_others(wanted) or unsuitable_reason(_probe(wanted))
        if reason is not None:
            raise ConfigurationError(
                f'--python "{wanted}" is no Python for a daemon that root runs: {reason}', next_step=_ADVICE
            )
        return _probe(wanted)
    reasons: list[str] = []
    for path in candidates():
        # The first runs us already; the others are looked at before they are run.
        reason = None if not reasons else writable_by_others(path)
        if reason is None:
            interpreter = _probe(path)
            reason = unsuitable_reason(interpreter)
            if reason is None:
                return interpreter
        reasons.append(f"{path}: {reason}")
    if not for_this_system:
        return _probe(Path(sys.executable))
    raise UnavailableError(f"No Python here is suitable for root ({'; '.join(reasons)})", next_step=_ADVICE)


_ADVICE = (
    "Install one that only root can change: python3 of Debian or Ubuntu; on macOS MacPorts' python3.13,"
    " or python.org's after `sudo chmod -R g-w /Library/Frameworks/Python.framework`; then name it by --python"
)


def unsuitable_reason(interpreter: Interpreter) -> str | None:
    """Why root should not, or others cannot, run it; None when it is suitable."""
    if interpreter.version < MINIMUM:
        return (
            f"it is {interpreter.short_version}, and {MINIMUM[0]}.{MINIMUM[1]} is the oldest that is supported"
        )
    reason = None
    for path in (interpreter.path, *interpreter.libraries):
        reason = reason or writable_by_others(path)
    for folder in interpreter.folders:
        reason = reason or writable_below_by_others(folder, but=_NOT_OURS)
    return reason or _closed(interpreter.path)


def _closed(path: Path) -> str | None:
    """socket_vmnet_client is run by ordinary users, on the same Python."""
    for place in (path.resolve(), *path.resolve().parents):
        if not place.stat().st_mode & stat.S_IXOTH:
            return f'ordinary users may not enter or run "{place}"'
    return None


def _probe(path: Path) -> Interpreter:
    """Raises ConfigurationError when it is not a Python."""
    try:
        done = subprocess.run(
            [os.fspath(path), "-I", "-c", _PROBE],
            check=True,
            capture_output=True,
            text=True,
            timeout=_PROBE_SECONDS,
        )
        told = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise ConfigurationError(f'"{path}" is not a Python that runs: {error}') from None
    major, minor, micro = told["version"]
    executable = Path(told["executable"])
    # python3 becomes another version one day; the environment's folders are named after this one.
    for folder in (executable.parent, executable.resolve().parent):
        exact = folder / f"python{major}.{minor}"
        if exact.exists():
            executable = exact
            break
    named = [Path(place) / told["library"] for place in told["places"] if place and told["library"]]
    folders = [Path(folder) for folder in told["folders"]]
    if told["framework"] is not None:
        folders.append(Path(told["framework"]) / "Resources")
    return Interpreter(
        executable,
        (major, minor, micro),
        tuple(folders),
        tuple(library for library in named if library.exists()),
    )
