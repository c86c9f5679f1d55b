"""Places on the switch for guests that do not choose their own."""

from __future__ import annotations

from vde_vmnet.errors import PeerError

__all__ = ["PortNumbers"]

#: Above what VDE clients may ask for, below the uplink's and the segment's.
_FIRST, _LAST = 8192, 61439


class PortNumbers:
    """Hands out port numbers, the lowest free one first; shared by the listeners of one network."""

    def __init__(self) -> None:
        self._used: set[int] = set()

    def take(self) -> int:
        """Raises PeerError when all are in use."""
        for number in range(_FIRST, _LAST + 1):
            if number not in self._used:
                self._used.add(number)
                return number
        raise PeerError("No port is free for one more guest")

    def give_back(self, number: int) -> None:
        """The guest has gone."""
        self._used.discard(number)
