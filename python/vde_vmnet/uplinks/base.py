"""The Uplink contract: where the switch meets the world.

An uplink is opened once, with privilege, before anything from a guest is read (stage 2 in privileges.py).
``open`` carries out its recipe in order and records, *before* each step, how to undo it; whoever holds the
record (the keeper) undoes the steps in reverse, however the worker ended. An uplink therefore has no
``close``: what it made is gone when its record has been undone.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Protocol

from vde_vmnet.recovery import UndoRecord

__all__ = ["EndpointKind", "OpenedEndpoint", "OpenedUplink", "Uplink"]


class EndpointKind(enum.Enum):
    """Port kinds that the engine knows by name."""

    DGRAM = "dgram"
    TAP = "tap"


@dataclass(frozen=True)
class OpenedEndpoint:
    """An open descriptor for the engine; ownership passes to whoever attaches it."""

    kind: EndpointKind
    #: Non-blocking, close-on-exec.
    fd: int
    #: Shown in logs and counters, such as ``tap vmnet-1a2b3c4d``.
    name: str


@dataclass(frozen=True)
class OpenedUplink:
    """What ``open`` hands on to the worker."""

    #: None for an isolated switch.
    endpoint: OpenedEndpoint | None
    #: Key and value lines shown at start, such as ("gateway", "192.168.105.1/24").
    facts: tuple[tuple[str, str], ...] = ()
    #: Read end of the services' log (dnsmasq's stderr), for the worker to read and log; None without.
    service_log_fd: int | None = None
    #: True when frames for a guest's MAC arrive only after the keeper was asked for a descriptor of that
    #: MAC (``Uplink.open_guest_mac``): a macvtap hears only its own address.
    per_guest_mac: bool = False


class Uplink(Protocol):
    """One way to the host. Construction touches nothing."""

    #: The word the user knows it by: ``linux``, ``none``.
    name: str

    def unavailable_reason(self) -> str | None:
        """Why this uplink cannot be used here and now by this caller, as one sentence, or None."""

    def open(self, undo: UndoRecord) -> OpenedUplink:
        """Carry the recipe out. Blocks, at most a few seconds.

        Raises UplinkError, UnavailableError, PrivilegeError, ConflictError or ConfigurationError; the
        caller then undoes what ``undo`` holds.
        """

    def open_guest_mac(self, mac: str, undo: UndoRecord) -> OpenedEndpoint:
        """Open a receive-only descriptor for one more guest MAC (``per_guest_mac`` uplinks; keeper only).

        Raises UplinkError, for uplinks without ``per_guest_mac`` always.
        """
