"""The Port contract: a listener accepts clients and turns each into one endpoint of the engine.

A listener never sees a frame. It owns the client's control side (its connection, its socket file) for as
long as the client is plugged in, and the engine owns the data descriptor.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

from vde_vmnet.log import about

__all__ = [
    "KICKED",
    "SEGMENT_PORTS",
    "UPLINK_PORT",
    "Greeter",
    "Guest",
    "GuestKind",
    "Listener",
    "NoGuests",
    "Switch",
]

#: The uplink's place on the switch. VDE clients may name ports from 1 upwards and, as the management port,
#: 0, so the uplink stands where none of them can ask to be. The place below it is for what an uplink
#: brings along.
UPLINK_PORT = 65535
#: Places of connections that stand for a whole segment or its only guest: each plug in another switch, and each
#: point-to-point peer, has one of its own.
SEGMENT_PORTS = range(61440, 65534)


#: Why a guest is unplugged that ``Listener.kick`` was called for.
KICKED = "kicked"

#: What a listener's guests plug in with.
GuestKind = Literal["vde", "stream", "dgram", "fd", "switch", "ptp", "vhost-user"]


@dataclass(frozen=True)
class Guest:
    """One that is plugged in, as the control plane knows it."""

    port: int
    kind: GuestKind
    #: What it is called in the log.
    label: str
    #: What it calls itself, or the path that it is known by; its own words.
    name: str = ""
    #: The process at the other end, and its user; None where the system does not tell.
    pid: int | None = None
    uid: int | None = None
    #: When it plugged in, in seconds since 1970.
    since: float = field(default_factory=time.time)

    def about(
        self, event: Literal["port_up", "port_down"], endpoint: int, reason: str = ""
    ) -> dict[str, object]:
        """``extra`` for the line in the log that says so; ``reason`` is why it left, if not by itself."""
        return about(
            event,
            port=self.port,
            endpoint=endpoint,
            port_kind=self.kind,
            name=self.name,
            pid=self.pid,
            uid=self.uid,
            reason=reason,
        )


class Switch(Protocol):
    """The part of ``_engine.Engine`` that listeners use; see its stub."""

    def attach(
        self,
        *,
        port: int,
        kind: Literal["dgram", "unixgram", "stream", "tap", "vhost_user"],
        fd: int,
        name: str,
        receive_only: bool = False,
        offload_mtu: int | None = None,
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

    def guests(self) -> Mapping[int, Guest]:
        """Who is plugged in, by endpoint. Coming and going is said in the log, with ``Guest.about``."""

    def kick(self, endpoint: int) -> bool:
        """Unplug one as if it had left; it may come back. True when it was one of this listener's."""

    def endpoint_down(self, endpoint: int, reason: str) -> bool:
        """The engine gave an endpoint up. True when it was one of this listener's, which then unplugs it."""

    async def stop(self) -> None:
        """Accept no more, unplug everyone, remove what was made."""


class NoGuests:
    """The part of a ``Listener`` that is about guests, for one where none plugs in."""

    def how_to_plug_in(self) -> str | None:
        """None."""
        return None

    def label(self, endpoint: int) -> str | None:  # noqa: ARG002 - the contract's signature
        """None: no endpoint is ours."""
        return None

    def guests(self) -> Mapping[int, Guest]:
        """Nobody."""
        return {}

    def kick(self, endpoint: int) -> bool:  # noqa: ARG002
        """False: no endpoint is ours."""
        return False

    def endpoint_down(self, endpoint: int, reason: str) -> bool:  # noqa: ARG002
        """False: no endpoint is ours."""
        return False


@runtime_checkable
class Greeter(Protocol):
    """A listener whose clients are told apart by the engine, and meet it with their first datagram."""

    def newcomer(self, door: int, address: bytes) -> bool:
        """Somebody whom nobody knows sent to an endpoint. True when it was one of this listener's doors, which
        then admits them or turns them away."""
