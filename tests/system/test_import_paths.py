"""After the drop, code is still found where the service user cannot come by itself."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.root

_PROGRAM = """
import os, sys
import known
from vde_vmnet.import_paths import HeldPaths
ways = HeldPaths.open()
os.setgroups([]); os.setgid(65534); os.setuid(65534)
def found(name):
    try:
        __import__(name)
    except ImportError:
        return False
    return True
before = found("early")
ways.use()
descriptors = len(os.listdir("/proc/self/fd"))
print(before, found("late"), found("known.inside"), found("barred"), descriptors < 20)
"""


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder of root's that nobody else enters, with modules in folders that everybody could read."""
    folder = Path(tempfile.mkdtemp(prefix="vdet-paths-"))
    for name in (
        "lib/early.py",
        "lib/late.py",
        "lib/known/__init__.py",
        "lib/known/inside.py",
        "own/barred.py",
    ):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    (folder / "own").chmod(0o700)
    folder.chmod(0o700)
    yield folder
    shutil.rmtree(folder)


def test_a_folder_behind_a_barred_one_is_reached_and_a_barred_one_is_not(place: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", _PROGRAM],
        env={**os.environ, "PYTHONPATH": f"{place / 'lib'}:{place / 'own'}", "PYTHONDONTWRITEBYTECODE": "1"},
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )
    assert ran.stdout.split() == ["False", "True", "True", "False", "True"], ran.stderr
