"""A small vhost-user front end with its guest's driver, written from the specification."""

from __future__ import annotations

import ctypes
import mmap
import os
import select
import socket
import struct
from types import TracebackType
from typing import Self

__all__ = ["RECEIVE", "TRANSMIT", "VhostUserPeer"]

RECEIVE, TRANSMIT = 0, 1
#: VERSION_1, protocol features, event index left out, merged buffers, checksums and TSO both ways.
FEATURES = 1 << 32 | 1 << 30 | 1 << 15 | 1 << 0 | 1 << 1 | 1 << 7 | 1 << 11

_SIZE = 256
_MEMORY = 8 << 20
_GUEST, _USER = 1 << 20, 0x7F00_0000_0000
#: Of each ring: descriptors, available, used.
_RINGS = ((0, 0x2000, 0x4000), (0x8000, 0xA000, 0xC000))
_BUFFERS, _BUFFER = 0x10000, 2048
_HEADER = struct.Struct("<BBHHHHH")


class VhostUserPeer:
    """On a connected socket, or one to connect to. A context manager."""

    def __init__(self, connection: socket.socket, *, features: int = FEATURES) -> None:
        """The socket is ours from here on."""
        self._connection = connection
        self._features = features
        self.memory_fd = os.memfd_create("guest")
        os.ftruncate(self.memory_fd, _MEMORY)
        self._memory = mmap.mmap(self.memory_fd, _MEMORY)
        self._kicks = [os.eventfd(0, os.EFD_NONBLOCK) for _ in _RINGS]
        self._calls = [os.eventfd(0, os.EFD_NONBLOCK) for _ in _RINGS]
        self._available = [0, 0]
        self._seen = [0, 0]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()
        self._memory.close()
        for fd in (self.memory_fd, *self._kicks, *self._calls):
            os.close(fd)

    def message(self, request: int, body: bytes = b"", *fds: int, flags: int = 1) -> None:
        """Send one message."""
        socket.send_fds(self._connection, [struct.pack("=III", request, flags, len(body)) + body], fds)

    def ask(self, request: int) -> int:
        """Send a question whose answer is a number."""
        self.message(request)
        answer = self._connection.recv(20, socket.MSG_WAITALL)
        assert struct.unpack_from("=III", answer) == (request, 5, 8)
        return int.from_bytes(answer[12:], "little")

    def start(self) -> None:
        """All that QEMU says until both rings run, in its order; each receive buffer is there."""
        offered = self.ask(1)
        assert self._features & ~offered == 0
        assert self.ask(15) & 1
        self.message(16, struct.pack("=Q", 1))
        assert self.ask(17) == 1
        self.message(3)
        for ring in (RECEIVE, TRANSMIT):
            self.message(18, struct.pack("=II", ring, 1))  # enabled before anything is agreed on
        self.message(2, struct.pack("=Q", self._features))
        self.message(5, struct.pack("=IIQQQQ", 1, 0, _GUEST, _MEMORY, _USER, 0), self.memory_fd)
        for ring, (descriptors, available, used) in enumerate(_RINGS):
            self.message(8, struct.pack("=II", ring, _SIZE))
            self.message(10, struct.pack("=II", ring, 0))
            places = (_USER + descriptors, _USER + used, _USER + available, 0)
            self.message(9, struct.pack("=IIQQQQ", ring, 0, *places))
            self.message(13, struct.pack("=Q", ring), self._calls[ring])
            self.message(12, struct.pack("=Q", ring), self._kicks[ring])
        for number in range(_SIZE):
            self._offer(RECEIVE, number, _BUFFER)
        os.eventfd_write(self._kicks[RECEIVE], 1)
        assert self.ask(1) == offered  # all that was said has been obeyed

    def write(self, at: int, data: bytes) -> None:
        """Into the guest's memory, right or wrong."""
        self._memory[at : at + len(data)] = data

    def descriptor(self, ring: int, number: int, address: int, length: int, flags: int) -> None:
        """Write one descriptor."""
        self.write(_RINGS[ring][0] + 16 * number, struct.pack("<QIHH", address, length, flags, 0))

    def make_available(self, ring: int, head: int) -> None:
        """Say that a buffer is there."""
        place = _RINGS[ring][1]
        self.write(place + 4 + 2 * (self._available[ring] % _SIZE), struct.pack("<H", head))
        self._available[ring] = (self._available[ring] + 1) & 0xFFFF
        # The other side must not see the index before the entry: on the machines that run this it does not.
        ctypes.c_uint16.from_buffer(self._memory, place + 2).value = self._available[ring]

    def _buffer(self, ring: int, number: int) -> int:
        return _BUFFERS + (ring * _SIZE + number) * _BUFFER

    def _offer(self, ring: int, number: int, length: int) -> None:
        flags = 2 if ring == RECEIVE else 0
        self.descriptor(ring, number, _GUEST + self._buffer(ring, number), length, flags)
        self.make_available(ring, number)

    def kick(self, ring: int) -> None:
        """Tell the back end to look."""
        os.eventfd_write(self._kicks[ring], 1)

    def send(self, frame: bytes, header: bytes = bytes(12)) -> None:
        """One frame, in one buffer."""
        number = self._available[TRANSMIT] % _SIZE
        self.write(self._buffer(TRANSMIT, number), header + frame)
        self._offer(TRANSMIT, number, len(header) + len(frame))
        self.kick(TRANSMIT)

    def receive(self, seconds: float = 10.0) -> tuple[bytes, bytes]:
        """Header and frame of the next one, of as many buffers as it says."""
        header_and_frame = self._next(seconds)
        for _ in range(_HEADER.unpack_from(header_and_frame)[6] - 1):
            header_and_frame += self._next(seconds)
        return header_and_frame[:12], header_and_frame[12:]

    def _next(self, seconds: float) -> bytes:
        place = _RINGS[RECEIVE][2]
        while struct.unpack_from("<H", self._memory, place + 2)[0] == self._seen[RECEIVE]:
            assert select.select([self._calls[RECEIVE]], [], [], seconds)[0], "no frame came"
            os.eventfd_read(self._calls[RECEIVE])
        at = place + 4 + 8 * (self._seen[RECEIVE] % _SIZE)
        number, length = struct.unpack_from("<II", self._memory, at)
        self._seen[RECEIVE] = (self._seen[RECEIVE] + 1) & 0xFFFF
        buffer = self._buffer(RECEIVE, number)
        data = self._memory[buffer : buffer + length]
        self.make_available(RECEIVE, number)
        return data
