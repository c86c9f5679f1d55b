"""Versions of what is beside us: findings from what programs say of themselves. Pure."""

from __future__ import annotations

import re

from vde_vmnet.uplinks.check import Check, Level

__all__ = ["number", "qemu_check"]

#: -netdev stream and dgram.
_STREAM = (7, 2)


def number(text: str) -> str:
    """The version number in what a program prints about itself; empty when there is none."""
    match = re.search(r"\d+(?:\.\d+)+\w*", text)
    return match[0] if match else ""


def qemu_check(found: tuple[str, str] | None) -> Check:
    """``found``: where it is and what it said."""
    if found is None:
        return Check(
            "QEMU",
            "none for guests like this machine",
            next_step="Install qemu-system, or use another program that plugs into a VDE or UNIX socket",
            level=Level.NOTE,
        )
    path, said = found
    version = number(said)
    match = re.match(r"(\d+)\.(\d+)", version)
    if match is not None and (int(match[1]), int(match[2])) < _STREAM:
        return Check(
            "QEMU",
            f"{path}, {version}",
            why="it has -netdev vde, and not -netdev stream and dgram, which came with 7.2",
            next_step="Use -netdev vde, or a newer QEMU",
            level=Level.NOTE,
        )
    return Check("QEMU", f"{path}{f', {version}' if version else ''}")
