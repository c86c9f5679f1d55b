"""Whether the other end of a datagram socket is still there, which the socket itself does not tell.

Linux: the kernel's socket table (``sock_diag``, <linux/unix_diag.h>) names the inode of a socket's peer, and
names none once that is closed. Elsewhere closing a socket is reported to those connected to it, so that the
engine notices.
"""

from __future__ import annotations

import os
import socket
import struct
import sys

__all__ = ["peer_is_gone"]

# --- from <linux/netlink.h>, <linux/sock_diag.h>, <linux/unix_diag.h> ---------------------------------
_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_REQUEST = 1  # NLM_F_REQUEST
_SHOW_PEER = 4
_ATTRIBUTE_PEER = 2
_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
# sdiag_family, sdiag_protocol, pad, states, inode, show, cookie
_QUESTION = struct.Struct("=BBHIIIII")
_NO_COOKIE = 0xFFFFFFFF
# udiag_family, type, state, pad, inode, cookie
_ANSWER = struct.Struct("=BBBBIII")
_ATTRIBUTE = struct.Struct("=HH")  # length, type


def peer_is_gone(connected: socket.socket) -> bool:
    """Whether the peer of an ``AF_UNIX`` socket has been closed; False also where the system does not tell."""
    if sys.platform != "linux":
        return False
    inode = os.fstat(connected.fileno()).st_ino
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as table:
            table.settimeout(1.0)
            question = _QUESTION.pack(
                socket.AF_UNIX, 0, 0, 0xFFFFFFFF, inode, _SHOW_PEER, _NO_COOKIE, _NO_COOKIE
            )
            header = _HEADER.pack(_HEADER.size + len(question), _SOCK_DIAG_BY_FAMILY, _REQUEST, 1, 0)
            table.send(header + question)
            return _names_no_peer(table.recv(4096))
    except OSError:
        return False  # no such table in this kernel, or not for us


def _names_no_peer(reply: bytes) -> bool:
    """Whether the answer is about our socket and has no peer with an inode in it."""
    if len(reply) < _HEADER.size or _HEADER.unpack_from(reply)[1] != _SOCK_DIAG_BY_FAMILY:
        return False
    at, end = _HEADER.size + _ANSWER.size, min(len(reply), _HEADER.unpack_from(reply)[0])
    while at + _ATTRIBUTE.size <= end:
        length, kind = _ATTRIBUTE.unpack_from(reply, at)
        if kind == _ATTRIBUTE_PEER and length >= _ATTRIBUTE.size + 4:
            return not int.from_bytes(reply[at + _ATTRIBUTE.size : at + _ATTRIBUTE.size + 4], sys.byteorder)
        at += max(_ATTRIBUTE.size, (length + 3) & ~3)
    return True
