"""The Port contract: a listener accepts clients and turns each into one endpoint of the engine.

A listener never sees a frame. It owns the client's control side (its connection, its socket file) for as
long as the client is plugged in, and the engine owns the data descriptor.
"""

from __future__ import annotations

from typing import Literal, Protocol, runtime_checkable

__all__ = ["SEGMENT_PORTS", "UPLINK_PORT", "Greeter", "Listener", "Switch"]

#: The uplink's place on the switch. VDE clients may name ports from 1 upwards and, as the management port,
#: 0, so the uplink stands where none of them can ask to be. The place below it is for what an uplink
#: brings along.
UPLINK_PORT = 65535
#: Places of connections that stand for a whole segment or its only guest: each plug in another switch, and each
#: point-to-point peer, has one of its own.
SEGMENT_PORTS = range(61440, 65534)


class Switch(Protocol):
    """The part of ``_engine.Engine`` that listeners use; see its stub."""

    def attach(
        self,
        *,
        port: int,
        kind: Literal["dgram", "unixgram", "stream", "tap"],
        fd: int,
        name: str,
        receive_only: bool = False,
    ) -> int: ...

    def detach(self, *, endpoint: int) -> None: ...


class Listener(Protocol):
    """One place where clients plug in. Lives in the worker, on its event loop."""

    def start(self) -> None:
        """Begin to accept clients. Raises PrivilegeError, OSError."""

    def how_to_plug_in(self) -> str | None:
        """The arguments a user gives to QEMU to plug in here, as one line; shown when the network is ready.
        None where no guest plugs in."""

    def label(self, endpoint: int) -> str | None:
        """What an endpoint is called in the log, or None when it is not this listener's."""

    def endpoint_down(self, endpoint: int, reason: str) -> bool:
        """The engine gave an endpoint up. True when it was one of this listener's, which then unplugs it."""

    async def stop(self) -> None:
        """Accept no more, unplug everyone, remove what was made."""


@runtime_checkable
class Greeter(Protocol):
    """A listener whose clients are told apart by the engine, and meet it with their first datagram."""

    def newcomer(self, door: int, address: bytes) -> bool:
        """Somebody whom nobody knows sent to an endpoint. True when it was one of this listener's doors, which
        then admits them or turns them away."""
