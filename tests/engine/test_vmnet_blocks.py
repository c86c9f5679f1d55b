"""The engine's hand-made blocks beside a compiler's: the same layout, and callable by compiled code."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from ctypes import CDLL, Structure, c_char_p, c_int, c_uint32, c_ulong, c_void_p
from pathlib import Path

import pytest

from tests.engine.vmnet_double import SUCCESS, Retained, blocks
from vde_vmnet._engine import Completion

OBJECT = 0x5000
#: BLOCK_NEEDS_FREE and the count of references, which the runtime puts in when it copies.
RUNTIME_FLAGS = 1 << 24 | 0xFFFF


class Descriptor(Structure):
    _fields_ = (
        ("reserved", c_ulong),
        ("size", c_ulong),
        ("copy", c_void_p),
        ("dispose", c_void_p),
        ("signature", c_char_p),
    )


class Literal(Structure):
    _fields_ = (
        ("isa", c_void_p),
        ("flags", c_int),
        ("reserved", c_int),
        ("invoke", c_void_p),
        ("descriptor", ctypes.POINTER(Descriptor)),
    )


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> CDLL:
    if shutil.which("clang") is None:
        pytest.skip("clang is needed: apt-get install clang libblocksruntime-dev")
    library = tmp_path_factory.mktemp("blocks") / "blocks.so"
    source = Path(__file__).parent / "compiled_blocks.c"
    subprocess.run(
        ["clang", "-fblocks", "-shared", "-fPIC", "-Wall", "-Werror", source, "-o", library, "-lBlocksRuntime"],
        check=True,
    )
    loaded = CDLL(str(library))
    for name in ("compiled_with_object", "compiled_status_only"):
        getattr(loaded, name).restype = c_void_p
    loaded.forget.argtypes = [c_void_p]
    loaded.call_with_object.argtypes = [c_void_p, c_uint32, c_void_p]
    loaded.call_status_only.argtypes = [c_void_p, c_uint32]
    return loaded


def layout(block: int) -> tuple[int, int, int, bytes]:
    """What a callee could look at: flags, reserved, size, and the signature up to the kind of object."""
    literal = Literal.from_address(block)
    descriptor = literal.descriptor.contents
    assert literal.invoke and descriptor.copy and descriptor.dispose
    # An object is ^v in C and @ in Objective-C, which the framework is written in.
    return (
        literal.flags & ~RUNTIME_FLAGS,
        literal.reserved,
        descriptor.size,
        descriptor.signature.replace(b"^v", b"@"),
    )


@pytest.mark.parametrize("kind", ["with_object", "status_only"])
def test_the_layout_is_a_compilers(compiled: CDLL, kind: str) -> None:
    objects = Retained()
    keywords = {"retain": objects.retain, "release": objects.release} if kind == "with_object" else {}
    ours = Completion(blocks=blocks(), **keywords)  # type: ignore[arg-type]
    theirs = getattr(compiled, f"compiled_{kind}")()
    assert layout(ours.block) == layout(theirs)
    assert Literal.from_address(ours.block).isa == Literal.from_address(theirs).isa
    compiled.forget(theirs)


def test_compiled_code_calls_a_handler_with_an_object(compiled: CDLL) -> None:
    objects = Retained()
    handler = Completion(blocks=blocks(), retain=objects.retain, release=objects.release)  # type: ignore[arg-type]
    assert compiled.call_with_object(handler.block, SUCCESS, OBJECT) == 0
    assert handler.wait(5) == (SUCCESS, OBJECT)
    assert objects.counts == {OBJECT: 1}


def test_compiled_code_calls_a_handler_with_a_status(compiled: CDLL) -> None:
    handler = Completion(blocks=blocks())  # type: ignore[arg-type]
    assert compiled.call_status_only(handler.block, 1009) == 0
    assert handler.wait(5) == (1009, 0)
