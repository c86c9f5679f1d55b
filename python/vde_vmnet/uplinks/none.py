"""No uplink: an isolated switch, whose guests reach each other only. Also the test double of an uplink."""

from __future__ import annotations

from collections.abc import Callable

from vde_vmnet.addresses import Forward, Reservation
from vde_vmnet.errors import UnavailableError, UplinkError
from vde_vmnet.recovery import UndoRecord
from vde_vmnet.uplinks.base import OpenedEndpoint, OpenedUplink, nothing

__all__ = ["NoneUplink"]


class NoneUplink:
    """Opens nothing, needs nothing, is always available."""

    name = "none"
    needs_keeper = False
    survives_fork = True

    def unavailable_reason(self) -> str | None:
        """None."""
        return None

    def prepare(self, undo: UndoRecord) -> None:
        """Nothing."""

    def open(self, undo: UndoRecord, prepare: Callable[[], None] = nothing) -> OpenedUplink:  # noqa: ARG002 - the contract's signature
        """An uplink without an endpoint."""
        return OpenedUplink(None, (("mode", "isolated"),))

    def open_guest_mac(self, mac: str, undo: UndoRecord) -> OpenedEndpoint:  # noqa: ARG002
        """Raises UplinkError."""
        raise UplinkError(f"No descriptor for {mac}: the switch has no uplink")

    def forward(self, rule: Forward, *, on: bool) -> None:  # noqa: ARG002
        """Raises UnavailableError."""
        raise UnavailableError(
            f"{rule} cannot be opened: an isolated switch leads nowhere",
            next_step="Start the daemon with another --backend",
        )

    def reload(self) -> str:
        """Nothing: there is no service of ours."""
        return ""

    def reserve(self, one: Reservation, *, on: bool) -> None:  # noqa: ARG002
        """Raises UnavailableError."""
        raise UnavailableError(
            f"Nothing can be kept for {one.mac}: the switch has no uplink, and nobody hands out addresses",
            next_step="Start the daemon with another --backend",
        )
