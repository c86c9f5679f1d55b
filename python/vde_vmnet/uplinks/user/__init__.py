"""The user-mode uplink: a TCP/IP stack in the daemon itself (libslirp), which needs no privilege at all.

What guests do becomes ordinary sockets of this process: the host and the world see connections of the user who
runs the daemon. One stack serves the network, so that its guests share a segment and see each other.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vde_vmnet.addresses import Forward, Reservation
from vde_vmnet.config.model import Mode, UplinkConfig
from vde_vmnet.errors import ConfigurationError, ConflictError, UnavailableError, UplinkError
from vde_vmnet.recovery import UndoRecord
from vde_vmnet.uplinks.base import OpenedEndpoint, OpenedUplink, nothing
from vde_vmnet.uplinks.linux import dnsmasq, link
from vde_vmnet.uplinks.user import library, services
from vde_vmnet.uplinks.user.forwards import Forwards
from vde_vmnet.uplinks.user.segment import DHCP_GUESTS, Segment

if TYPE_CHECKING:
    from vde_vmnet._engine import Engine, SlirpSegment

__all__ = ["UserUplink"]

_log = logging.getLogger(__name__)

_NO_BRIDGE = (
    "bridged mode needs root: the user-mode uplink speaks with the world through ordinary sockets, so that no"
    " guest can have an address of its own out there"
)


@dataclass(frozen=True)
class _StackEndpoint:
    """The stack to be: the engine makes it, in the process that serves."""

    name: str
    loaded: library.Library
    segment: SlirpSegment
    #: dnsmasq's TAP.
    services_fd: int | None
    forwards: Forwards

    def attach(self, engine: Engine, port: int) -> int:
        """See Endpoint. Raises what Forwards.open raises, too."""
        if self.services_fd is not None:
            engine.attach(port=port - 1, kind="tap", fd=self.services_fd, name="dnsmasq")
        number = engine.attach_slirp(
            port=port, name=self.name, functions=self.loaded.functions, segment=self.segment
        )
        self.forwards.open(engine, number)
        return number

    def close(self) -> None:
        """Nothing: it ends with the engine."""

    def release_in_keeper(self) -> None:
        """The keeper has no stack."""
        if self.services_fd is not None:
            os.close(self.services_fd)


class UserUplink:
    """libslirp as the way out. One per process: the library keeps some of its state in global variables."""

    name = "user"
    needs_keeper = False
    survives_fork = True

    def __init__(self, config: UplinkConfig, network_id: str) -> None:
        self._config = config
        self._network_id = network_id
        self._later: dnsmasq.Later | None = None

    def unavailable_reason(self) -> str | None:
        """See Uplink."""
        found = library.find()
        if isinstance(found, str):
            return found
        return f"Here {_NO_BRIDGE}" if self._config.mode is Mode.BRIDGED else None

    def prepare(self, undo: UndoRecord) -> None:
        """Nothing on the host is changed."""

    def open(self, undo: UndoRecord, prepare: Callable[[], None] = nothing) -> OpenedUplink:  # noqa: ARG002
        """Load the library, decide on addresses, start dnsmasq; the stack itself is made by whoever serves.

        Raises UnavailableError (no libslirp), ConfigurationError (bridged mode, an address without room),
        UplinkError (something was asked for that needs dnsmasq, which does not start).
        """
        config = self._config
        if config.mode is Mode.BRIDGED:
            raise ConfigurationError(
                f"--backend=user: {_NO_BRIDGE}",
                next_step="Run with sudo and --backend=linux, or leave --vmnet-mode=bridged out",
            )
        loaded = library.load()
        segment = Segment.plan(config)
        forwards = Forwards(config.forwards, config.named_forwards)
        forwards.check(segment.ipv4.network, loopback=segment.reaches_loopback)
        started = self._start_services(segment, undo)
        ipv4 = segment.ipv4
        end = ipv4.dhcp_end if started else min(ipv4.dhcp_end, ipv4.dhcp_start + DHCP_GUESTS - 1)
        facts = [
            ("mode", config.mode.value),
            ("stack", f"libslirp {loaded.version}, in this process"),
            ("gateway", f"{ipv4.gateway}/{ipv4.network.prefixlen}"),
            ("dhcp", f"{ipv4.dhcp_start} - {end}" if config.dhcp else "off"),
            ("names", f"by dnsmasq at {segment.services}" if started else "those of the world only"),
            ("host's loopback", segment.loopback_fact()),
        ]
        if config.nat66_prefix is not None:
            facts.append(("ipv6", str(config.nat66_prefix)))
        report: dict[str, str | int] = {
            "vmnet_start_address": str(ipv4.gateway),
            "vmnet_end_address": str(end),
            "vmnet_subnet_mask": str(ipv4.network.netmask),
            "vmnet_mtu": segment.engine_mtu,
            "mode": config.mode.value,
        }
        endpoint = _StackEndpoint(
            f"libslirp {loaded.version}",
            loaded,
            segment.to_engine(dhcp=config.dhcp and started is None),
            started.tap_fd if started else None,
            forwards,
        )
        log_fd = started.log_fd if started else None
        self._later = started.later if started else None
        return OpenedUplink(endpoint, tuple(facts), report, log_fd, on_lease=forwards.lease, ways_in=forwards)

    def _start_services(self, segment: Segment, undo: UndoRecord) -> services.Started | None:
        config = self._config
        try:
            mac = link.stable_mac(f"{self._network_id} services", None)
            return services.start(segment.dnsmasq(config.reservations), mac, undo)
        except (UnavailableError, UplinkError, ConflictError) as error:
            needed = [
                option
                for option, given in (
                    ("--reserve", config.reservations),
                    ("--vmnet-mtu", config.mtu),
                    ("--forward to a name or MAC address", config.named_forwards),
                )
                if given
            ]
            if needed:
                raise UplinkError(
                    f"{' and '.join(needed)}: the user-mode uplink needs dnsmasq in a namespace for that:"
                    f" {error.message}",
                    next_step=error.next_step
                    or "Install dnsmasq (dnsmasq-base) and allow unprivileged user namespaces",
                ) from error
            _log.warning(
                "No dnsmasq: %s. libslirp itself hands out at most %d addresses; guests have no names",
                error.message,
                DHCP_GUESTS,
            )
            return None

    def open_guest_mac(self, mac: str, undo: UndoRecord) -> OpenedEndpoint:  # noqa: ARG002
        """Raises UplinkError."""
        raise UplinkError(f"No descriptor for {mac}: the uplink hears every guest")

    def forward(self, rule: Forward, *, on: bool) -> None:  # noqa: ARG002
        """Raises UnavailableError."""
        raise UnavailableError(
            f"{rule} cannot be opened while the network runs", next_step="Start the daemon again with --forward"
        )

    def reload(self) -> str:
        """See Uplink."""
        return self._later.read_again() if self._later is not None else ""

    def reserve(self, one: Reservation, *, on: bool) -> None:
        """See Uplink."""
        if self._later is None:
            raise UnavailableError(
                f"Nothing can be kept for {one.mac}: libslirp itself hands out addresses, of its own choice",
                next_step="Install dnsmasq (dnsmasq-base), allow unprivileged user namespaces, start again",
            )
        self._later.change(one, on=on)
