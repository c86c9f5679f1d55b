"""Places on the switch: those that VDE clients may ask for, and those for guests that do not choose."""

from __future__ import annotations

from vde_vmnet.errors import PeerError

__all__ = ["MAX_PORT", "PortNumbers", "VdePorts"]

#: Highest port a VDE client may ask for. The reference has 32 by default; 65535 must stay refused, since people
#: write ``port=65535`` for point-to-point mode and would all end up on one port.
MAX_PORT = 4095

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


class VdePorts:
    """Ports of VDE clients, and who owns them; shared by the switch directories of one network."""

    def __init__(self) -> None:
        #: By port: the uid that owns it and how many endpoints it has.
        self._ports: dict[int, tuple[int, int]] = {}

    def allocate(self, wanted: int | None, uid: int, description: str) -> int:
        """The port ``wanted``, else the lowest free one from 1, for the client ``description`` of user ``uid``.

        Several clients of one user may share a port. Raises PeerError.
        """
        port = wanted
        if port is None:
            port = 1
            while port in self._ports:
                port += 1
        if port > MAX_PORT:
            hint = (
                "; port=65535 means point-to-point mode, which a switch directory has not"
                if port == 65535
                else ""
            )
            raise PeerError(f'Port {port} asked for by "{description}" is above {MAX_PORT}{hint}')
        owner, endpoints = self._ports.get(port, (uid, 0))
        if owner != uid:
            raise PeerError(f"Port {port} is in use by user id {owner}; user id {uid} may not join it")
        self._ports[port] = (owner, endpoints + 1)
        return port

    def release(self, port: int) -> None:
        """One client of it has gone."""
        owner, endpoints = self._ports.pop(port)
        if endpoints > 1:
            self._ports[port] = (owner, endpoints - 1)
