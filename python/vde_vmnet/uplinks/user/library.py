"""libslirp, opened at run time: where it is, which version, and the addresses of what the engine calls."""

from __future__ import annotations

import ctypes
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vde_vmnet.errors import UnavailableError

if TYPE_CHECKING:
    from vde_vmnet._engine import SlirpFunctions

__all__ = ["INSTALL_HINT", "Library", "find", "load"]

#: Linux by soname; macOS by Homebrew's and MacPorts' places, since nothing there is on the default path.
_NAMES = (
    "libslirp.so.0",
    "/opt/homebrew/lib/libslirp.0.dylib",
    "/usr/local/lib/libslirp.0.dylib",
    "/opt/local/lib/libslirp.0.dylib",
)
#: Its configuration has had a version 4, which we fill in, since 4.7 (2022); all later ones take it.
_OLDEST = (4, 7)
INSTALL_HINT = "On Debian or Ubuntu: apt-get install libslirp0; on macOS: brew install libslirp"


@dataclass(frozen=True)
class Library:
    """A loaded libslirp. It stays loaded until the process ends."""

    #: As it says itself, such as ``4.7.0``.
    version: str
    functions: SlirpFunctions


def find() -> Library | str:
    """The library, or one sentence that says why it cannot be used."""
    for name in _NAMES:
        try:
            library = ctypes.CDLL(name)
        except OSError:
            continue
        return _examine(library)
    return "libslirp is not installed"


def load() -> Library:
    """The library. Raises UnavailableError."""
    found = find()
    if isinstance(found, str):
        raise UnavailableError(found, next_step=INSTALL_HINT)
    return found


def _examine(library: ctypes.CDLL) -> Library | str:
    say = library.slirp_version_string
    say.restype = ctypes.c_char_p
    version = (say() or b"").decode(errors="replace")
    match = re.match(r"(\d+)\.(\d+)", version)
    if match is None or (int(match[1]), int(match[2])) < _OLDEST:
        return f"libslirp {version or 'of unknown version'} is too old: 4.7 or newer is needed"

    def address(name: str) -> int:
        return ctypes.cast(getattr(library, f"slirp_{name}"), ctypes.c_void_p).value or 0

    try:
        functions: SlirpFunctions = {
            "new": address("new"),
            "cleanup": address("cleanup"),
            "input": address("input"),
            "pollfds_fill": address("pollfds_fill"),
            "pollfds_poll": address("pollfds_poll"),
            "add_hostxfwd": address("add_hostxfwd"),
            "remove_hostxfwd": address("remove_hostxfwd"),
        }
    except AttributeError as error:
        return f"libslirp {version} lacks a function: {error}"
    return Library(version, functions)
