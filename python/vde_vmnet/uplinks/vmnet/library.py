"""Where the framework's functions come from: the one object that opens Apple's libraries.

Nothing is opened when this is imported, and nothing lets an option or the environment choose another file:
the paths below are all there is.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from vde_vmnet.errors import UnavailableError

__all__ = ["FRAMEWORK", "Library", "is_macos", "load", "macos_version"]

#: In the dyld shared cache since macOS 11: dlopen(3) finds it although there is no such file.
FRAMEWORK = "/System/Library/Frameworks/vmnet.framework/vmnet"


_DARWIN_OF_MACOS_11, _DARWIN_OF_MACOS_26 = 20, 25


@dataclass(frozen=True)
class Library:
    """Two handles in which symbols are looked up by name; ``abi.py`` says which symbol is in which."""

    #: vmnet.framework. dlsym(3) on it finds what it depends on too: CoreFoundation's ``CFRelease``.
    vmnet: ctypes.CDLL
    #: libSystem: dispatch, the Blocks runtime, XPC.
    system: ctypes.CDLL

    @classmethod
    def open(cls) -> Self:
        """Load vmnet.framework into this process. Raises UnavailableError where there is none.

        A process that forks after this must leave what it opened to the parent: XPC and dispatch do not
        survive a fork.
        """
        try:
            return cls(ctypes.CDLL(FRAMEWORK), ctypes.CDLL(None))
        except OSError as error:
            raise UnavailableError(
                f"Apple's vmnet.framework cannot be loaded: {error}",
                next_step="It comes with macOS; elsewhere use --backend=linux or --backend=none",
            ) from error


#: What the uplink calls, through this attribute.
load: Callable[[], Library] = Library.open


def macos_version() -> tuple[int, ...]:
    """Major and minor version of this macOS, empty when it cannot be told; asked through the module.

    By the kernel's release, since macOS tells programs that were built for an older one that it is 16 or 10.16:
    Darwin 24.6 is macOS 15.6, and 25.2 is 26.2.
    """
    major, _, rest = os.uname().release.partition(".")
    minor = rest.partition(".")[0]
    if not (major.isdecimal() and minor.isdecimal() and int(major) >= _DARWIN_OF_MACOS_11):
        return ()
    step = 1 if int(major) >= _DARWIN_OF_MACOS_26 else 0
    return int(major) - _DARWIN_OF_MACOS_11 + 11 + 10 * step, int(minor)


def is_macos() -> bool:
    """Whether this host is a Mac; asked through the module (``library.is_macos()``)."""
    return sys.platform == "darwin"
