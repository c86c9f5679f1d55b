"""Code that the service user may not reach, such as a Python below ``/root``, can be loaded after the drop.

The control server is loaded late, and never as root. The folders that modules come from are opened before
privilege is dropped; afterwards the import system is led through these descriptors (``/proc/self/fd/N``), which
asks for no permission on the folders above. What lies in a folder must be readable for everybody, as it is
where Python and pip put it. Linux only: elsewhere a descriptor leads to no folder.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

__all__ = ["HeldPaths"]

_DESCRIPTORS = Path("/proc/self/fd")


class HeldPaths:
    """The folders that modules are loaded from, kept open."""

    def __init__(self) -> None:
        self._held: dict[str, int] = {}

    @classmethod
    def open(cls) -> HeldPaths:
        """With the rights of who calls."""
        held = cls()
        if sys.platform == "linux" and _DESCRIPTORS.is_dir():
            for folder in dict.fromkeys(_folders()):
                with suppress(OSError):
                    held._held[folder] = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        return held

    def use(self) -> None:
        """Lead the import system through what was opened, where the way there is barred now; close the rest."""
        ways = {folder: self._way(folder, number) for folder, number in self._held.items()}
        sys.path[:] = [ways.get(entry, entry) for entry in sys.path]
        for module in list(sys.modules.values()):
            places = getattr(module, "__path__", None)
            if isinstance(places, list):
                places[:] = [ways.get(place, place) for place in places]
        sys.path_importer_cache.clear()
        self._held.clear()

    @staticmethod
    def _way(folder: str, number: int) -> str:
        if not os.access(folder, os.R_OK | os.X_OK):
            return str(_DESCRIPTORS / str(number))  # open from here on, as long as the process lives
        os.close(number)
        return folder


def _folders() -> Iterator[str]:
    yield from filter(os.path.isdir, sys.path)
    for module in list(sys.modules.values()):
        places = getattr(module, "__path__", None)
        if isinstance(places, list):
            yield from places
