"""Taps for the engine's tests: made inside a namespace, and sockets on the kernel's side of them."""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from tests.engine.plug import PATIENCE
from tests.support.netns import Namespace

__all__ = ["CSUM", "ECN", "TSO4", "TSO6", "USO", "VNET_HDR", "Raw", "Super", "inside", "open_tap"]

_T = TypeVar("_T")

# linux/if_tun.h
_TUNSETIFF = 0x400454CA
_TUNSETVNETHDRSZ = 0x400454D8
_TUNSETOFFLOAD = 0x400454D0
_IFF_TAP, _IFF_NO_PI, VNET_HDR = 0x0002, 0x1000, 0x4000
CSUM, TSO4, TSO6, ECN, USO = 0x01, 0x02, 0x04, 0x08, 0x60

_CLONE_NEWNET = 0x40000000
_ETH_P_ALL = 3
_SO_RCVBUFFORCE = 33  # linux/socket.h
# linux/if_packet.h
_SOL_PACKET, _PACKET_VNET_HDR = 263, 15
#: virtio_net_hdr, without the number of buffers.
_HEADER = struct.Struct("<BBHHHH")
_NEEDS_CSUM = 1


def inside(namespace: Namespace, work: Callable[[], _T]) -> _T:
    """Do ``work`` in a thread that has entered the namespace; descriptors made there work everywhere."""
    results: list[_T] = []

    def body() -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        entry = os.open(namespace.path, os.O_RDONLY)
        try:
            assert libc.setns(entry, _CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
        finally:
            os.close(entry)
        results.append(work())

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    return results[0]


def open_tap(name: str, *, flags: int = VNET_HDR, header: int = 12, offload: int = 0) -> int:
    """A TAP in the namespace of the thread. Raises OSError."""
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(fd, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TAP | _IFF_NO_PI | flags))
    if flags & VNET_HDR:
        fcntl.ioctl(fd, _TUNSETVNETHDRSZ, struct.pack("i", header))
        fcntl.ioctl(fd, _TUNSETOFFLOAD, offload)
    return fd


@dataclass(frozen=True)
class Super:
    """A frame with what its virtio-net header says; ``kind`` 0 is no super-frame."""

    frame: bytes
    kind: int = 0
    size: int = 0
    header_len: int = 0
    checksum_start: int = 0
    checksum_offset: int = 0

    def header(self) -> bytes:
        flags = _NEEDS_CSUM if self.checksum_offset else 0
        return _HEADER.pack(
            flags, self.kind, self.header_len, self.size, self.checksum_start, self.checksum_offset
        )


class Raw:
    """The host's mouth and ears on a device, with virtio-net headers: it says and hears super-frames."""

    def __init__(self, namespace: Namespace, device: str) -> None:
        self.socket = inside(namespace, lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW))
        self.socket.setsockopt(_SOL_PACKET, _PACKET_VNET_HDR, 1)
        self.socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 16 << 20)
        self.socket.bind((device, _ETH_P_ALL))
        self.socket.settimeout(PATIENCE)

    def send(self, frame: Super) -> None:
        self.socket.send(frame.header() + frame.frame)

    def receive(self) -> Super:
        """The next frame that was written to the device. Raises TimeoutError."""
        while True:
            data, address = self.socket.recvfrom(1 << 17)
            if address[2] != socket.PACKET_OUTGOING:
                break
        flags, kind, header_len, size, start, offset = _HEADER.unpack_from(data)
        if not flags & _NEEDS_CSUM:
            start = offset = 0
        return Super(data[_HEADER.size :], kind, size, header_len, start, offset)

    def close(self) -> None:
        self.socket.close()
