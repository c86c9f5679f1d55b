"""Daemons whose control socket works also where their user cannot read the tests' Python.

The daemon loads what serves it as its service user, with the first client. Where the tests' Python lies in a
folder that only root enters, that user cannot. With ``preload/`` in PYTHONPATH it is there from the start.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

__all__ = ["preload"]

_FOLDER = Path(__file__).parent / "preload"


def preload(patch: pytest.MonkeyPatch) -> None:
    """For every Python that is started from now on, until the patch is undone."""
    if os.geteuid() == 0:
        given = os.environ.get("PYTHONPATH")
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(_FOLDER), given))))
