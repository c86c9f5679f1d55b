"""Who is at the other end of the control socket, and what they may do. Pure."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Peer", "may_change"]


@dataclass(frozen=True)
class Peer:
    """A process, as the kernel tells."""

    #: 0 where the system does not tell.
    pid: int
    uid: int


def may_change(peer: Peer | None, masters: frozenset[int]) -> bool:
    """Whoever the file's mode lets in may look; changes are for ``masters``. None: who that is is not known."""
    return peer is not None and peer.uid in masters
