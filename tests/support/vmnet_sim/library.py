"""Compiling the simulator: one shared library for each macOS it can play, cached by what it is made of."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

__all__ = ["HERE", "INCLUDE", "MACOS_VERSIONS", "Version", "build", "compile_client", "exported_symbols"]

HERE = Path(__file__).parent
INCLUDE = HERE / "include"
_CACHE = HERE.parents[2] / "build" / "vmnet_sim"

#: What `macos` may be, and its number in the C sources.
MACOS_VERSIONS = {"11": 1100, "13": 1300, "15": 1500, "15.4": 1504, "26": 2600}
Version = str

_WARNINGS = ("-Wall", "-Wextra", "-Werror")
_SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer")


def exported_symbols(macos: Version) -> list[str]:
    """The names and patterns that a build for `macos` exports."""
    names: list[str] = []
    since = 0
    for line in (HERE / "symbols.txt").read_text().splitlines():
        word = line.strip()
        if not word or word.startswith("#"):
            continue
        if word[0].isdigit():
            major, minor = word.split(".")
            since = int(major) * 100 + int(minor)
        elif since <= MACOS_VERSIONS[macos]:
            names.append(word)
    return names


def build(macos: Version = "26", *, sanitize: bool = False) -> Path:
    """The library for `macos`, compiled if its sources changed. Needs libblocksruntime-dev.

    With `sanitize` it is made by clang with AddressSanitizer and UndefinedBehaviorSanitizer, for programs
    compiled the same way.
    """
    compiler = ("clang", *_SANITIZERS) if sanitize else ("cc",)
    flags = (*compiler, "-std=c11", "-D_GNU_SOURCE", "-O2", "-g", "-fPIC", *_WARNINGS)
    flags += (f"-I{INCLUDE}", f"-I{HERE / 'src'}")
    script = "{ global: " + " ".join(f"{name};" for name in exported_symbols(macos)) + " local: *; };"
    digest = hashlib.sha256(repr((flags, script)).encode())
    for path in [*_sources(), *sorted((HERE / "src").glob("*.h")), *sorted(INCLUDE.rglob("*.h"))]:
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    kind = f"macos-{macos}{'-sanitized' if sanitize else ''}"
    folder = _CACHE / f"{kind}-{digest.hexdigest()[:16]}"
    library = folder / "libvmnet.so"
    _CACHE.mkdir(parents=True, exist_ok=True)
    with (_CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not library.exists():
            for old in _CACHE.glob(f"{kind}-????????????????"):
                shutil.rmtree(old)
            folder.mkdir()
            (folder / "symbols.map").write_text(script)
            _link(macos, folder, _objects(flags, sanitize), flags)
    return library


def _sources() -> list[Path]:
    return sorted((HERE / "src").glob("*.c"))


def _objects(flags: tuple[str, ...], sanitize: bool) -> list[Path]:
    """Everything that does not depend on the version, compiled where it is older than its sources."""
    folder = _CACHE / ("objects-sanitized" if sanitize else "objects")
    folder.mkdir(exist_ok=True)
    newest_header = max(path.stat().st_mtime for path in [*HERE.rglob("*.h"), HERE / "library.py"])

    def compile_one(source: Path) -> Path:
        target = folder / f"{source.stem}.o"
        if not target.exists() or target.stat().st_mtime < max(newest_header, source.stat().st_mtime):
            subprocess.run([*flags, "-c", "-o", str(target), str(source)], check=True)
        return target

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(compile_one, (path for path in _sources() if path.stem != "personality")))


def _link(macos: Version, folder: Path, objects: list[Path], flags: tuple[str, ...]) -> None:
    making = folder / "making.so"
    subprocess.run(
        [
            *flags, f"-DSIM_MACOS={MACOS_VERSIONS[macos]}", "-shared", "-Wl,-soname,libvmnet.so",
            f"-Wl,--version-script={folder / 'symbols.map'}", "-o", str(making),
            str(HERE / "src" / "personality.c"), *map(str, objects), "-lBlocksRuntime", "-lpthread", "-ldl",
        ],
        check=True,
    )  # fmt: skip
    # A service user loads it as well.
    for part in (making, folder, _CACHE, _CACHE.parent):
        part.chmod(0o755)
    making.rename(folder / "libvmnet.so")


def compile_client(source: Path, output: Path, library: Path, *extra: str) -> Path:
    """A C program written for the framework, compiled as on a Mac: with blocks, against our headers."""
    sanitizers = _SANITIZERS if "-sanitized-" in library.parent.name else ()
    subprocess.run(
        [
            "clang", "-std=gnu11", "-fblocks", "-O1", "-gdwarf-4", *sanitizers, *extra, f"-I{INCLUDE}",
            "-o", str(output), str(source), str(library), "-lBlocksRuntime", f"-Wl,-rpath,{library.parent}",
        ],
        check=True,
    )  # fmt: skip
    return output
