"""QEMU's stream framing: whole, byte by byte, with trailing bytes, and what cannot be."""

import pytest

from vde_vmnet.errors import PeerError
from vde_vmnet.wire.stream import MAX_FRAME, StreamDecoder, encode_frame

FRAMES = [b"x" * 14, b"y" * 1514, b"z" * MAX_FRAME]


@pytest.mark.parametrize("step", [1 << 20, 1000, 1])
def test_frames_come_back_however_they_are_cut(step: int) -> None:
    stream = b"".join(map(encode_frame, FRAMES[: 2 if step == 1 else 3])) + b"\0\0"
    decoder, got = StreamDecoder(), []
    for at in range(0, len(stream), step):
        decoder.feed(stream[at : at + step])
        while (frame := decoder.next()) is not None:
            got.append(frame)
    assert got == FRAMES[: len(got)] and len(got) >= 2


def test_the_length_is_four_bytes_big_endian() -> None:
    assert encode_frame(b"a" * 442)[:4] == bytes.fromhex("000001ba")


def test_zero_lengths_are_passed_over() -> None:
    decoder = StreamDecoder()
    decoder.feed(bytes(12) + encode_frame(b"frame"))
    assert decoder.next() == b"frame" and decoder.next() is None


def test_lengths_that_cannot_be() -> None:
    decoder = StreamDecoder()
    decoder.feed((MAX_FRAME + 1).to_bytes(4, "big"))
    with pytest.raises(PeerError, match="69633 bytes"):
        decoder.next()
    for frame in (b"", b"x" * (MAX_FRAME + 1)):
        with pytest.raises(ValueError, match="1 to 69632 bytes"):
            encode_frame(frame)
