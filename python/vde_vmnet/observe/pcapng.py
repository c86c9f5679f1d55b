"""A pcapng stream cut into whole blocks: counted, and with what each file of it has to begin with. Pure."""

from __future__ import annotations

import struct

from vde_vmnet.errors import InternalError

__all__ = ["Blocks"]

_SECTION, _INTERFACE, _STATISTICS, _PACKET = 0x0A0D0D0A, 1, 5, 6
_IFDROP, _END = 5, 0
#: Longer than any block of ours: a super-frame, and what stands around it.
_LONGEST = 1 << 20
_HEAD = struct.Struct("<II")


class Blocks:
    """What has come so far. The byte order is little-endian, as the engine writes it."""

    def __init__(self) -> None:
        #: The section header and all interfaces so far: any packet may come after it.
        self.header = b""
        #: Packets.
        self.frames = 0
        #: Packets for which the daemon had no room, as far as it has said so.
        self.dropped = 0
        self._rest = b""

    def feed(self, data: bytes) -> bytes:
        """The whole blocks that are there now. Raises InternalError when it is no pcapng."""
        data = self._rest + data if self._rest else data
        at, end, frames = 0, len(data), 0
        while end - at >= _HEAD.size:
            kind, length = _HEAD.unpack_from(data, at)
            if length % 4 or not 12 <= length <= _LONGEST:
                raise InternalError("What the daemon sends is no pcapng", next_step="Please report this")
            if end - at < length:
                break
            if kind == _PACKET:
                frames += 1
            else:
                self._note(kind, data[at : at + length])
            at += length
        self.frames += frames
        self._rest = data[at:]
        return data[:at]

    def _note(self, kind: int, block: bytes) -> None:
        if kind in (_SECTION, _INTERFACE):
            self.header += block
        elif kind == _STATISTICS:
            at = 20
            while at + 4 <= len(block) - 4:
                code, length = struct.unpack_from("<HH", block, at)
                if code == _END:
                    return
                if code == _IFDROP and length == 8:
                    self.dropped += struct.unpack_from("<Q", block, at + 4)[0]
                at += 4 + length + -length % 4
