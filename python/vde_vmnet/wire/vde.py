"""The VDE switch handshake: a plug's request and the switch's reply, as bytes and values. Pure.

A client connects to ``DIRECTORY/ctl``, sends one request in one message and gets one reply: a whole
``struct sockaddr_un`` with the path of the switch's data socket. There is no error reply; refusing is
closing. Integers are in host byte order, as the protocol never leaves the machine.

Source: observed between Debian's vde2 2.3.2, vdeplug4 4.0.1 and QEMU 7.2, and ``datasock.c``/``consmgmt.h``
of vde-2 for the names.
"""

from __future__ import annotations

import struct
import sys
from dataclasses import dataclass

from vde_vmnet.errors import PeerError

__all__ = [
    "MAX_REQUEST",
    "REPLY_SIZE",
    "SUN_PATH_SIZE",
    "PlugRequest",
    "encode_reply",
    "encode_request",
    "parse_reply",
    "parse_request",
]

# --- from the protocol -------------------------------------------------------------------------------
_MAGIC = 0xFEEDFACE
_VERSION = 3
_REQ_NEW_CONTROL = 0
_REQ_NEW_PORT0 = 1
_AF_UNIX = 1
#: ``sizeof sun_path``: 108 on Linux, 104 on macOS, where a length byte stands before the family.
SUN_PATH_SIZE = 104 if sys.platform == "darwin" else 108
REPLY_SIZE = 2 + SUN_PATH_SIZE
_HEAD_V3 = struct.Struct("=III")
_HEAD_V1 = struct.Struct("=II6s")
#: The reference switch reads at most 256 bytes; a longer request does not exist.
MAX_REQUEST = 256


@dataclass(frozen=True)
class PlugRequest:
    """What a client asks for."""

    #: Path of the client's data socket; bytes, since a path need not be UTF-8. A leading NUL is an abstract
    #: address (Linux), given in full length as it was bound.
    path: bytes
    #: Requested port, 1…2**24-1; None lets the switch choose.
    port: int | None
    #: Free text such as ``QEMU user=alice pid=4711``, made printable.
    description: str
    #: REQ_NEW_PORT0: the management port.
    port0: bool = False


def parse_request(data: bytes) -> PlugRequest:
    """Read one request, version 3 or 1, of at most ``MAX_REQUEST`` bytes.

    Raises PeerError that says what is wrong with it.
    """
    if len(data) > MAX_REQUEST:
        raise PeerError(f"Request of {len(data)} bytes is longer than the {MAX_REQUEST} the protocol knows")
    if len(data) < 8:
        raise PeerError(f"Request of {len(data)} bytes is shorter than its header")
    magic, word = struct.unpack_from("=II", data)
    if magic != _MAGIC:
        raise PeerError(f"Request starts with 0x{magic:08x}, not with the VDE magic 0x{_MAGIC:08x}")
    # Version 1 has its type where version 3 has its version, and knows types 0 and 1 only.
    if word == _VERSION:
        head_size = _HEAD_V3.size
        if len(data) < head_size:
            raise PeerError(f"Request of {len(data)} bytes is shorter than its header")
        type_word = _HEAD_V3.unpack_from(data)[2]
        request_type, port = type_word & 0xFF, type_word >> 8
    elif word in (_REQ_NEW_CONTROL, _REQ_NEW_PORT0):
        head_size = _HEAD_V1.size
        request_type, port = word, 0
    else:
        raise PeerError(f"Request is of protocol version {word}; 1 and 3 are known")
    if request_type not in (_REQ_NEW_CONTROL, _REQ_NEW_PORT0):
        raise PeerError(f"Request type {request_type} is unknown; 0 (new plug) and 1 (port 0) are known")
    address = data[head_size : head_size + REPLY_SIZE]
    if len(address) < REPLY_SIZE:
        raise PeerError(f"Request of {len(data)} bytes ends inside the address of the client's socket")
    path = _path_of(address)
    if not path:
        raise PeerError("Request names no client socket")
    return PlugRequest(
        path=path,
        port=port if port and request_type == _REQ_NEW_CONTROL else None,
        description=_printable(data[head_size + REPLY_SIZE :]),
        port0=request_type == _REQ_NEW_PORT0,
    )


def encode_request(request: PlugRequest) -> bytes:
    """The version 3 form of ``request``; ``parse_request`` reads it back.

    Raises ValueError when the path or port does not fit.
    """
    if not 0 <= (request.port or 0) < 1 << 24:
        raise ValueError(f"port {request.port} does not fit into 24 bits")
    type_word = (request.port or 0) << 8 | (_REQ_NEW_PORT0 if request.port0 else _REQ_NEW_CONTROL)
    return _HEAD_V3.pack(_MAGIC, _VERSION, type_word) + _address(request.path) + request.description.encode()


def encode_reply(path: bytes) -> bytes:
    """The reply that names the switch's data socket. Raises ValueError when ``path`` is too long."""
    return _address(path)


def parse_reply(data: bytes) -> bytes:
    """The path in a switch's reply. Raises PeerError when there is none."""
    if len(data) < 3 or data[2:3] == b"\0":
        raise PeerError(f"Reply of {len(data)} bytes names no data socket")
    return _path_of(data.ljust(REPLY_SIZE, b"\0"))


def _address(path: bytes) -> bytes:
    if len(path) >= SUN_PATH_SIZE and not path.startswith(b"\0"):
        raise ValueError(f"socket path of {len(path)} bytes is longer than {SUN_PATH_SIZE - 1}")
    family = bytes((REPLY_SIZE, _AF_UNIX)) if sys.platform == "darwin" else struct.pack("=H", _AF_UNIX)
    return family + path.ljust(SUN_PATH_SIZE, b"\0")


def _path_of(address: bytes) -> bytes:
    # macOS has its length in the first byte, and libvdeplug leaves that at 0: only the family counts.
    family = address[1] if sys.platform == "darwin" else struct.unpack_from("=H", address)[0]
    if family != _AF_UNIX:
        raise PeerError(f"Address family {family} is not that of a UNIX socket ({_AF_UNIX})")
    raw = address[2:REPLY_SIZE]
    if raw.startswith(b"\0"):
        # Clients bind abstract addresses in full length, so the trailing zeros belong to the name.
        return raw if any(raw) else b""
    return raw.split(b"\0", 1)[0]


def _printable(raw: bytes) -> str:
    """A description comes from a client: nothing in it may reach a terminal or a log line as control."""
    text = raw.split(b"\0", 1)[0].decode("utf-8", "replace")
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text).strip()
