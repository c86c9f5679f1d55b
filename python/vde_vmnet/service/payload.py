"""What is installed: the files of the package that runs now, with the metadata that names its commands, and of
the packages that observers and the control socket need."""

from __future__ import annotations

import configparser
import re
import sys
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

import vde_vmnet
from vde_vmnet.errors import UnavailableError
from vde_vmnet.service.plan import Payload

__all__ = ["running_package"]

_NAME = "vde_vmnet"
#: rich has these for what we show none of: source code, and Markdown.
_LEFT_OUT = frozenset({"pygments", "markdown-it-py"})


def running_package(version: tuple[int, int, int] | None = None) -> Payload:
    """The package that runs now, from a checkout or installed. Raises UnavailableError without an engine.

    ``version`` is that of the Python it is for. Some of the packages that observers need are compiled for one:
    for another than ours they are left out.
    """
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
    if version is None or version[:2] == sys.version_info[:2]:
        files |= _dependencies(metadata)
    return Payload(metadata.version, files, _commands(metadata))


def _dependencies(metadata: Distribution) -> dict[str, bytes]:
    """The modules of all that is required, and their metadata; what stands beside the modules is left out."""
    found: dict[str, bytes] = {}
    waiting, seen = _required(metadata), set(_LEFT_OUT)
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        try:
            other = distribution(name)
        except PackageNotFoundError:
            continue  # needed by other systems or versions only
        waiting += _required(other)
        for file in other.files or ():
            if ".." not in file.parts and "__pycache__" not in file.parts and not file.is_absolute():
                found[file.as_posix()] = Path(str(file.locate())).read_bytes()
    return found


def _required(metadata: Distribution) -> list[str]:
    """Names of what is needed without extras."""
    plain = [text for text in metadata.requires or () if "extra ==" not in text]
    return [re.split(r"[^\w.-]", text, maxsplit=1)[0].lower().replace("_", "-") for text in plain]


def _commands(metadata: Distribution) -> dict[str, str]:
    points = configparser.ConfigParser(delimiters=("=",))
    points.read_string(metadata.read_text("entry_points.txt") or "")
    return dict(points["console_scripts"])
