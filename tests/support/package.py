"""The package where every user can load it: the checkout may lie in a folder that only root enters."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import vde_vmnet

__all__ = ["package_for_all"]


@contextmanager
def package_for_all() -> Iterator[Path]:
    """A copy, for PYTHONPATH; it goes with the block."""
    with tempfile.TemporaryDirectory(prefix="vdet-package-") as folder:
        place = Path(folder)
        place.chmod(0o755)
        source = Path(vde_vmnet.__file__).parent
        shutil.copytree(source, place / "vde_vmnet", ignore=shutil.ignore_patterns("__pycache__"))
        yield place
