"""Which kernel modules a guest needs, in the order in which they must be loaded, and their bytes."""

from __future__ import annotations

import gzip
import lzma
import shutil
import subprocess
from pathlib import Path

from vde_vmnet.errors import UnavailableError

__all__ = ["load_order", "module_bytes", "parse_dependencies"]


def parse_dependencies(modules_dep: str) -> dict[str, tuple[str, ...]]:
    """``modules.dep`` as path → paths it needs. Pure. Lines that are not of its form are left out."""
    dependencies: dict[str, tuple[str, ...]] = {}
    for line in modules_dep.splitlines():
        path, colon, needed = line.partition(":")
        if colon:
            dependencies[path.strip()] = tuple(needed.split())
    return dependencies


def load_order(dependencies: dict[str, tuple[str, ...]], wanted: list[str]) -> list[str]:
    """Paths of the modules with the names ``wanted`` and all that they need, each after its needs. Pure.

    A name that is not there is taken for built into the kernel. ``modules.dep`` lists needs of needs too,
    but in no order that insmod could use; hence the walk.
    """
    by_name = {_name(path): path for path in dependencies}
    order: list[str] = []

    def visit(path: str) -> None:
        if path in order:
            return
        for needed in dependencies.get(path, ()):
            visit(needed)
        order.append(path)

    for name in wanted:
        path = by_name.get(_name(name))
        if path is not None:
            visit(path)
    return order


def _name(path: str) -> str:
    """``kernel/drivers/virtio/virtio-rng.ko.xz`` and ``virtio_rng`` are the same module."""
    return Path(path).name.partition(".ko")[0].replace("-", "_")


def module_bytes(path: Path) -> bytes:
    """The module as the kernel wants it: uncompressed. Raises UnavailableError without zstd for ``.zst``."""
    data = path.read_bytes()
    if path.suffix == ".xz":
        return lzma.decompress(data)
    if path.suffix == ".gz":
        return gzip.decompress(data)
    if path.suffix == ".zst":
        program = shutil.which("zstd")
        if program is None:
            raise UnavailableError(
                f"The kernel module {path} is compressed with zstd, which is not installed",
                next_step="Run: apt-get install zstd",
            )
        return subprocess.run([program, "-dcq"], input=data, stdout=subprocess.PIPE, check=True).stdout
    return data
