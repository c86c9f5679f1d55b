"""A running network, as the control socket sees it: what the worker hands to its overseer. Standard library."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from vde_vmnet.addresses import Forward, NamedForward, Reservation
from vde_vmnet.ports.base import Listener
from vde_vmnet.uplinks.base import OpenedUplink
from vde_vmnet.uplinks.followers import LaterFollowers
from vde_vmnet.wire.leases import Lease

if TYPE_CHECKING:
    from vde_vmnet._engine import Engine

__all__ = ["Facts", "LeaseSource", "Network", "Overseer"]


@dataclass(frozen=True)
class Facts:
    """What does not change while it runs."""

    #: VDESWITCH, or the first other socket.
    name: str
    #: Eight hex digits.
    id: str
    #: The one that the user started, and can signal.
    pid: int
    #: As whom it serves.
    user: str
    #: Who may change it: root, the service user, and who started it.
    masters: frozenset[int]
    #: The uplink's word.
    uplink: str
    #: The control socket; None where there is only ``--metrics``.
    control: Path | None
    #: What the command line asked for.
    reservations: tuple[Reservation, ...] = ()
    forwards: tuple[Forward | NamedForward, ...] = ()


class LeaseSource(Protocol):
    """Where leases are known."""

    def current(self, now: float) -> Sequence[Lease]:
        """Those that have not run out, by address."""


@dataclass
class Network:
    """What runs."""

    engine: Engine
    listeners: Sequence[Listener]
    opened: OpenedUplink
    leases: LeaseSource
    #: Ends it; the argument is why.
    stop: Callable[[str], None]
    #: Keeps an address for a guest, or (False) no longer. Raises VdeVmnetError.
    reserve: Callable[[Reservation, bool], None]
    #: Opens a way in to a guest, or (False) closes it, on uplinks without ``ways_in``. Raises VdeVmnetError.
    forward: Callable[[Forward, bool], None]
    #: The same for guests by name or MAC address.
    followers: LaterFollowers
    #: Has services look again; what they did. Raises VdeVmnetError.
    reload: Callable[[], str]
    #: When it was ready, in seconds since 1970.
    started: float
    #: Ports that were put down.
    down: set[int] = field(default_factory=set)


@runtime_checkable
class Overseer(Protocol):
    """A listener that shows the network to others."""

    def oversee(self, network: Network) -> None:
        """Called once, before the listeners start."""
