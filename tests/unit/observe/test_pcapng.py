"""The cutting of a capture into blocks: whole, byte by byte, with more behind; and that it is pcapng at all."""

from __future__ import annotations

import struct

import pytest

from vde_vmnet.errors import InternalError
from vde_vmnet.observe.pcapng import Blocks


def block(kind: int, body: bytes) -> bytes:
    length = struct.pack("<I", len(body) + 12)
    return struct.pack("<I", kind) + length + body + length


SECTION = block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1))
INTERFACE = block(1, struct.pack("<HHI", 1, 0, 262_144))
PACKET = block(6, bytes(20) + b"four" + bytes(4))


def statistics(dropped: int) -> bytes:
    options = struct.pack("<HHQHHQI", 4, 8, 9, 5, 8, dropped, 0)
    return block(5, bytes(12) + options)


FILE = SECTION + INTERFACE + PACKET + PACKET + statistics(3) + INTERFACE + PACKET + statistics(4)


@pytest.mark.parametrize("step", [1, 7, 64, len(FILE)])
def test_the_pieces_do_not_matter(step: int) -> None:
    blocks = Blocks()
    out = b"".join(blocks.feed(FILE[at : at + step]) for at in range(0, len(FILE), step))
    assert out == FILE
    assert (blocks.frames, blocks.dropped) == (3, 7)
    assert blocks.header == SECTION + INTERFACE + INTERFACE


def test_what_is_not_whole_waits() -> None:
    blocks = Blocks()
    assert blocks.feed(FILE + PACKET[:-1]) == FILE
    assert blocks.feed(PACKET[-1:]) == PACKET


@pytest.mark.parametrize("length", [0, 8, 13, 1 << 30])
def test_what_is_no_pcapng_is_said_to_be_none(length: int) -> None:
    with pytest.raises(InternalError):
        Blocks().feed(struct.pack("<II", 6, length))
