"""QEMU's stream framing: four bytes of length, big endian, before each frame. Pure."""

from __future__ import annotations

from vde_vmnet.errors import PeerError

__all__ = ["MAX_FRAME", "StreamDecoder", "encode_frame"]

#: QEMU closes the connection on a longer one.
MAX_FRAME = 69_632
_LENGTH = 4


def encode_frame(frame: bytes) -> bytes:
    """``frame`` as it goes on the stream. Raises ValueError for none or more than ``MAX_FRAME`` bytes."""
    if not 0 < len(frame) <= MAX_FRAME:
        raise ValueError(f"a frame has 1 to {MAX_FRAME} bytes, not {len(frame)}")
    return len(frame).to_bytes(_LENGTH, "big") + frame


class StreamDecoder:
    """Bytes in as they come, frames out. Holds less than one frame and its length between calls of ``next``."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> None:
        """More bytes of the stream."""
        self._buffer += data

    def next(self) -> bytes | None:
        """The next whole frame, or None. Lengths of zero, which some peers send, are passed over.

        Raises PeerError for a length above ``MAX_FRAME``; the stream cannot be followed any further then.
        """
        while len(self._buffer) >= _LENGTH:
            length = int.from_bytes(self._buffer[:_LENGTH], "big")
            if length > MAX_FRAME:
                raise PeerError(f"A frame of {length} bytes is announced; {MAX_FRAME} is the most there is")
            if len(self._buffer) < _LENGTH + length:
                return None
            frame = bytes(self._buffer[_LENGTH : _LENGTH + length])
            del self._buffer[: _LENGTH + length]
            if frame:
                return frame
        return None
