"""The wheels for macOS, compiled here and read as files: what a Mac's loader and installer will look at.

Nothing of them is run: that takes a Mac.
"""

from __future__ import annotations

import ctypes
import importlib.util
import re
import subprocess
import zipfile
from pathlib import Path

import lief
import pytest

from vde_vmnet import __version__
from vde_vmnet.uplinks.vmnet.abi import DATA, FUNCTIONS

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "python" / "vde_vmnet"
ENGINE = "vde_vmnet/_engine.abi3.so"
#: By the tag of the wheel.
PROCESSORS = {"arm64": lief.MachO.Header.CPU_TYPE.ARM64, "x86_64": lief.MachO.Header.CPU_TYPE.X86_64}
LIBSYSTEM = "/usr/lib/libSystem.B.dylib"
#: BIND_SPECIAL_DYLIB_FLAT_LOOKUP: whatever the process has loaded already, which is the interpreter.
FLAT_LOOKUP = -2

# The standard library of Rust is compiled first when there is none for macOS, twice.
pytestmark = pytest.mark.timeout(1200)


@pytest.fixture(scope="session")
def wheels() -> dict[str, Path]:
    """By processor. Skips where nothing compiles for macOS, with the command to change that."""
    tool = str(ROOT / "tools" / "macos")
    available = subprocess.run([tool, "available"], capture_output=True, text=True, check=False)
    if available.returncode:
        pytest.skip(available.stderr.strip())
    built = subprocess.run([tool, "wheel"], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    return {processor: _only(f"*_{processor}.whl") for processor in PROCESSORS}


def _only(pattern: str) -> Path:
    (found,) = (ROOT / "build" / "macos").glob(pattern)
    return found


@pytest.fixture(params=PROCESSORS)
def processor(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def wheel(wheels: dict[str, Path], processor: str) -> Path:
    return wheels[processor]


@pytest.fixture
def engine(wheel: Path) -> lief.MachO.Binary:
    with zipfile.ZipFile(wheel) as archive:
        parsed = lief.MachO.parse(list(archive.read(ENGINE)))
    assert parsed is not None and parsed.size == 1
    binary = parsed.at(0)
    assert binary is not None
    return binary


def test_installers_know_whom_it_is_for(wheel: Path, processor: str) -> None:
    tag = f"cp311-abi3-macosx_11_0_{processor}"
    assert wheel.name == f"vde_vmnet-{__version__}-{tag}.whl"
    with zipfile.ZipFile(wheel) as archive:
        assert archive.testzip() is None
        information = archive.read(f"vde_vmnet-{__version__}.dist-info/WHEEL").decode()
        entry_points = archive.read(f"vde_vmnet-{__version__}.dist-info/entry_points.txt").decode()
    assert f"Tag: {tag}\n" in information
    assert "Root-Is-Purelib: false" in information
    assert "vde_vmnet=vde_vmnet.cli:main" in entry_points.replace(" ", "")


def test_the_python_files_are_those_of_the_checkout(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = {name: archive.read(name) for name in archive.namelist() if name.startswith("vde_vmnet/")}
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "."],
        cwd=PACKAGE,
        capture_output=True,
        text=True,
        check=True,
    )
    expected = {f"vde_vmnet/{name}": (PACKAGE / name).read_bytes() for name in listed.stdout.splitlines()}
    del packed[ENGINE]
    assert packed == expected


def test_the_engine_is_for_that_processor_and_that_macos(engine: lief.MachO.Binary, processor: str) -> None:
    assert engine.header.cpu_type == PROCESSORS[processor]
    assert engine.header.file_type == lief.MachO.Header.FILE_TYPE.DYLIB
    assert engine.build_version is not None
    assert engine.build_version.platform == lief.MachO.BuildVersion.PLATFORMS.MACOS
    assert list(engine.build_version.minos) == [11, 0, 0]


def test_the_engine_is_signed_where_macos_asks_for_it(engine: lief.MachO.Binary, processor: str) -> None:
    if processor == "arm64":
        assert engine.has_code_signature


def test_python_finds_its_door(engine: lief.MachO.Binary) -> None:
    assert "_PyInit__engine" in {symbol.name for symbol in engine.exported_symbols}


def test_only_libsystem_is_loaded(engine: lief.MachO.Binary) -> None:
    loaded = {
        library.name for library in engine.libraries if library.command != lief.MachO.LoadCommand.TYPE.ID_DYLIB
    }
    assert loaded == {LIBSYSTEM}
    assert not list(engine.rpaths)


def test_every_symbol_will_be_found(engine: lief.MachO.Binary) -> None:
    """What is bound to libSystem was found by the linker in its list of names; the rest is Python's."""
    left_open = set()
    for symbol in engine.imported_symbols:
        bound = symbol.binding_info
        if bound is None:
            continue
        if bound.library_ordinal == FLAT_LOOKUP:
            left_open.add(str(symbol.name).removeprefix("_"))
        else:
            assert bound.library is not None, symbol.name
            assert bound.library.name == LIBSYSTEM, symbol.name
    assert left_open
    unknown = {name for name in left_open if not hasattr(ctypes.pythonapi, name)}
    assert not unknown
    assert all(name.startswith(("Py", "_Py")) for name in left_open)


def test_libsystem_has_every_name_that_we_look_up(wheels: dict[str, Path]) -> None:
    """The names of the wheel's Python half against the linker's list of what libSystem exports."""
    assert wheels
    linker = importlib.util.find_spec("ziglang")
    assert linker is not None and linker.origin is not None
    listed = Path(linker.origin).parent / "lib" / "libc" / "darwin" / "libSystem.tbd"
    exported = set(re.findall(r"[\w$.]+", listed.read_text()))
    names = [function.name for function in FUNCTIONS if function.library == "system"]
    for name in [*names, *DATA]:
        assert f"_{name}" in exported, name
