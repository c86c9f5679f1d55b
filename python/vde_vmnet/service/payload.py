"""What is installed: the files of the package that runs now, with the metadata that names its commands."""

from __future__ import annotations

import configparser
from importlib.metadata import Distribution, distribution
from pathlib import Path

import vde_vmnet
from vde_vmnet.errors import UnavailableError
from vde_vmnet.service.plan import Payload

__all__ = ["running_package"]

_NAME = "vde_vmnet"


def running_package() -> Payload:
    """The package that runs now, from a checkout or installed. Raises UnavailableError without an engine."""
    root = Path(vde_vmnet.__file__).parent
    files = {
        f"{_NAME}/{path.relative_to(root).as_posix()}": path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }
    if not any(Path(name).match("_engine*.so") for name in files):
        raise UnavailableError(f'There is no engine in "{root}"', next_step="Run `make build` first")
    metadata = distribution(_NAME)
    for name in ("METADATA", "entry_points.txt"):
        text = metadata.read_text(name)
        if text is not None:
            files[f"{_NAME}-{metadata.version}.dist-info/{name}"] = text.encode()
    return Payload(metadata.version, files, _commands(metadata))


def _commands(metadata: Distribution) -> dict[str, str]:
    points = configparser.ConfigParser(delimiters=("=",))
    points.read_string(metadata.read_text("entry_points.txt") or "")
    return dict(points["console_scripts"])
