"""A cpio archive in the "newc" form, written from values: what the kernel unpacks as its first root. Pure.

The format: Linux, Documentation/driver-api/early-userspace/buffer-format.rst. Writing it ourselves needs
neither root (a device node is only a header) nor the cpio program, and gives the same bytes for the same
input, so an image can be cached by its content.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["Entry", "archive", "device", "directory", "file", "symlink"]

# From the specification.
_MAGIC = b"070701"
_TRAILER = "TRAILER!!!"
_ALIGNMENT = 4


@dataclass(frozen=True)
class Entry:
    """One member: ``path`` without a leading slash, ``mode`` with its file type bits."""

    path: str
    mode: int
    data: bytes = b""
    #: Device number of a node.
    major: int = 0
    minor: int = 0


def directory(path: str, mode: int = 0o755) -> Entry:
    """A directory; its parents must stand before it in the archive."""
    return Entry(path, stat.S_IFDIR | mode)


def file(path: str, data: bytes, mode: int = 0o644) -> Entry:
    """A regular file."""
    return Entry(path, stat.S_IFREG | mode, data)


def symlink(path: str, target: str) -> Entry:
    """A symbolic link."""
    return Entry(path, stat.S_IFLNK | 0o777, target.encode())


def device(path: str, major: int, minor: int, mode: int = 0o600) -> Entry:
    """A character device."""
    return Entry(path, stat.S_IFCHR | mode, b"", major, minor)


def archive(entries: Iterable[Entry]) -> bytes:
    """The whole archive. Owner is root and the time is 0 everywhere, so equal input gives equal bytes.

    Raises ValueError for a path that is absolute, empty, or there twice: the kernel would unpack
    something else than was meant.
    """
    parts: list[bytes] = []
    seen: set[str] = set()
    for inode, entry in enumerate(entries, start=1):
        if not entry.path or entry.path.startswith("/") or entry.path in seen:
            raise ValueError(f'"{entry.path}" cannot be a member of the archive')
        seen.add(entry.path)
        parts.append(_member(entry, inode))
    parts.append(_member(Entry(_TRAILER, 0), 0))
    return b"".join(parts)


def _member(entry: Entry, inode: int) -> bytes:
    name = entry.path.encode() + b"\0"
    links = 2 if stat.S_ISDIR(entry.mode) else 1
    fields = (
        inode,
        entry.mode,
        0,  # uid
        0,  # gid
        links,
        0,  # mtime
        len(entry.data),
        0,  # device the file lies on
        0,
        entry.major,
        entry.minor,
        len(name),
        0,  # checksum, unused in this form
    )
    header = _MAGIC + b"".join(b"%08x" % value for value in fields)
    return _padded(header + name) + _padded(entry.data)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % _ALIGNMENT)
