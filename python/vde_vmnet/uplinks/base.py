"""The Uplink contract: where the switch meets the world.

An uplink is opened once, with privilege, before anything from a guest is read (stage 2 in privileges.py).
What must be undone on this host is recorded, *before* each step; whoever holds the record (the keeper) undoes
the steps in reverse, however the worker ended. An uplink therefore has no ``close``: what it made is gone when
its record has been undone. What ends with the worker, such as vmnet's interface, is the endpoint's to close.
"""

from __future__ import annotations

import enum
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Protocol

from vde_vmnet.addresses import Forward, NamedForward, Reservation
from vde_vmnet.recovery import UndoRecord
from vde_vmnet.uplinks.leases import LeaseFile

if TYPE_CHECKING:
    from vde_vmnet._engine import Engine

__all__ = ["Endpoint", "EndpointKind", "OpenedEndpoint", "OpenedUplink", "Uplink", "WaysIn", "nothing"]


def nothing() -> None:
    """Does nothing."""


class EndpointKind(enum.Enum):
    """Port kinds that the engine knows by name."""

    DGRAM = "dgram"
    TAP = "tap"


class Endpoint(Protocol):
    """What the engine moves frames to and from."""

    @property
    def name(self) -> str:
        """Shown in logs and counters, such as ``tap vmnet-1a2b3c4d``."""

    def attach(self, engine: Engine, port: int) -> int:
        """Hand it to the engine; the engine's number of it. Raises EngineError.

        ``port - 1`` is its own too, for something that answers guests beside it.
        """

    def close(self) -> None:
        """In the worker, after the engine was closed, attached or not; a second call does nothing."""

    def release_in_keeper(self) -> None:
        """In the keeper, when the worker has its own copy."""


@dataclass(frozen=True)
class OpenedEndpoint:
    """An open descriptor for the engine; ownership passes to whoever attaches it."""

    kind: EndpointKind
    #: Non-blocking, close-on-exec.
    fd: int
    #: Shown in logs and counters.
    name: str

    def attach(self, engine: Engine, port: int) -> int:
        """See Endpoint."""
        return engine.attach(port=port, kind=self.kind.value, fd=self.fd, name=self.name)

    def close(self) -> None:
        """Nothing: the engine has closed it, or the worker ends now."""

    def release_in_keeper(self) -> None:
        """A copy here would keep a TAP alive after the worker."""
        os.close(self.fd)


@dataclass(frozen=True)
class OpenedUplink:
    """What ``open`` hands on to the worker."""

    #: None for an isolated switch.
    endpoint: Endpoint | None
    #: Key and value lines shown at start, such as ("gateway", "192.168.105.1/24").
    facts: tuple[tuple[str, str], ...] = ()
    #: The same for programs: one line of JSON at start with ``--json``, in vmnet's words.
    report: Mapping[str, str | int] = field(default_factory=dict)
    #: Read end of the services' log (dnsmasq's stderr), for the worker to read and log; None without.
    service_log_fd: int | None = None
    #: True when frames for a guest's MAC arrive only after the keeper was asked for a descriptor of that
    #: MAC (``Uplink.open_guest_mac``): a macvtap hears only its own address.
    per_guest_mac: bool = False
    #: In the worker: a guest (by MAC address) was given an address; and its name, in the guest's own words.
    on_lease: Callable[[str, str, str | None], None] | None = None
    #: Where leases are known, if not by what the services log.
    leases: LeaseFile | None = None
    #: Opens ways in to guests while the network runs; None where that cannot be done.
    ways_in: WaysIn | None = None
    #: Forwards that the keeper has lead to whatever address their guest has: the worker asks it (`Followers`).
    followed: tuple[NamedForward, ...] = ()
    #: In the keeper: have one of them, by its place, lead to an address from now on. It is told nothing else,
    #: and looks at both as if a stranger had sent them. Raises UplinkError.
    lead_forward: Callable[[int, IPv4Address], None] | None = None

    def release_in_keeper(self) -> None:
        """Close the keeper's copies of what is the worker's alone."""
        if self.endpoint is not None:
            self.endpoint.release_in_keeper()
        if self.service_log_fd is not None:
            os.close(self.service_log_fd)

    def close(self) -> None:
        """In the worker, at its end, after the engine was closed."""
        if self.endpoint is not None:
            self.endpoint.close()


class WaysIn(Protocol):
    """Ports of the host that lead to guests. In the worker."""

    def add(self, rule: Forward | NamedForward) -> None:
        """Open one. Raises ConfigurationError, ConflictError (taken), PrivilegeError, UplinkError."""

    def remove(self, rule: Forward | NamedForward) -> None:
        """Close one that was added. Raises UplinkError."""


class Uplink(Protocol):
    """One way to the host. Construction touches nothing."""

    #: The word the user knows it by: ``linux``, ``vmnet``, ``none``.
    name: str
    #: Whether what ``open`` does must be undone with privilege, whoever the caller is.
    needs_keeper: bool
    #: Whether a forked child may use what ``open`` returns. Where not, the process that was started opens it
    #: and serves, and the keeper is its child, forked before.
    survives_fork: bool

    def unavailable_reason(self) -> str | None:
        """Why this uplink cannot be used here and now by this caller, as one sentence, or None."""

    def prepare(self, undo: UndoRecord) -> None:
        """Change on the host what ``open`` asked to have changed. Raises what ``open`` raises."""

    def open(self, undo: UndoRecord, prepare: Callable[[], None] = nothing) -> OpenedUplink:
        """Carry the recipe out. Blocks, at most a few seconds (vmnet: as long as ``--start-timeout``).

        ``undo`` is for uplinks that survive a fork. One that does not calls ``prepare`` where it needs
        something that must be undone with privilege: its own ``prepare`` is then carried out by whoever has
        the record.

        Raises UplinkError, UnavailableError, PrivilegeError, ConflictError or ConfigurationError; the caller
        then undoes what ``undo`` holds.
        """

    def open_guest_mac(self, mac: str, undo: UndoRecord) -> OpenedEndpoint:
        """Open a receive-only descriptor for one more guest MAC (``per_guest_mac`` uplinks; keeper only).

        Raises UplinkError, for uplinks without ``per_guest_mac`` always.
        """

    def reserve(self, one: Reservation, *, on: bool) -> None:
        """Keep an address for a guest from its next lease on, or (off) no longer one that was kept so.

        In the keeper, where there is one. Raises UnavailableError where that is for the start only,
        ConfigurationError when the address or name is none for a guest of the network.
        """

    def forward(self, rule: Forward, *, on: bool) -> None:
        """Open a way in to a guest, or (off) close one that was opened so; for uplinks without ``ways_in``.

        In the keeper, where there is one. Raises UnavailableError where that is for the start only,
        ConfigurationError, ConflictError, PrivilegeError, UplinkError.
        """

    def reload(self) -> str:
        """Have services read again what they read at their start; what, as one line, or empty for nothing.

        In the keeper, where there is one. Raises UnavailableError.
        """
