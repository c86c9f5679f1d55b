"""The Linux uplink: TAP, routing, nftables and dnsmasq, one recipe per mode, in order.

Each step records how to undo it before it is taken; nothing here undoes anything. What the host had before
is left as it is: names of ours carry the network's id.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable
from ipaddress import IPv4Address

from vde_vmnet.addresses import Forward, Ipv4Plan, NamedForward, Reservation
from vde_vmnet.config.model import Mode, UplinkConfig
from vde_vmnet.errors import PrivilegeError, UnavailableError, UplinkError
from vde_vmnet.recovery import UndoRecord
from vde_vmnet.uplinks import host_ports
from vde_vmnet.uplinks.base import EndpointKind, OpenedEndpoint, OpenedUplink, nothing
from vde_vmnet.uplinks.linux import bridged, children, dnsmasq, link, macvtap, nft, programs, subnets, sysctl
from vde_vmnet.uplinks.linux.ways_in import WaysInLater

__all__ = ["LinuxUplink"]

_EVERY_ADDRESS = IPv4Address("0.0.0.0")  # noqa: S104 - where the host listens for guests when nothing was said


class LinuxUplink:
    """The kernel of this host as the way out. One per network."""

    name = "linux"
    needs_keeper = True
    survives_fork = True

    def __init__(self, config: UplinkConfig, network_id: str) -> None:
        self._config = config
        self._network_id = network_id
        self._device = link.tap_name(network_id)
        self._later: dnsmasq.Later | None = None
        self._ways_in: WaysInLater | None = None
        self._macvtaps: macvtap.MacvtapGroup | None = None

    def unavailable_reason(self) -> str | None:
        """Why this uplink cannot be used here and now by this caller, as one sentence, or None."""
        if sys.platform != "linux":
            return "The linux uplink needs Linux"
        if not link.TUN_DEVICE.exists():
            return f"{link.TUN_DEVICE} does not exist"
        if not children.effective_capabilities() >> children.CAP_NET_ADMIN & 1:
            return "The linux uplink needs root (CAP_NET_ADMIN)"
        return programs.missing_reason(self._programs())

    def prepare(self, undo: UndoRecord) -> None:
        """Nothing: all is in ``open``, where the record is."""

    def open(self, undo: UndoRecord, prepare: Callable[[], None] = nothing) -> OpenedUplink:  # noqa: ARG002
        """Make the network on this host. Blocks for some tens of milliseconds.

        Raises ConflictError (the subnet or a port is taken), ConfigurationError (the interface does not
        exist, a reservation does not fit), UnavailableError, PrivilegeError, UplinkError.
        """
        self._check_available()
        if self._config.mode is Mode.BRIDGED:
            return self._open_bridged(undo)
        return self._open_routed(undo)

    def open_guest_mac(self, mac: str, undo: UndoRecord) -> OpenedEndpoint:
        """See Uplink. Raises ConflictError too, when another interface of this host has that MAC."""
        if self._macvtaps is None:
            raise UplinkError(f"No descriptor for {mac}: the uplink hears every guest")
        fd, name = self._macvtaps.open_guest(mac, undo)
        return OpenedEndpoint(EndpointKind.TAP, fd, f"macvtap {name}")

    def forward(self, rule: Forward, *, on: bool) -> None:
        """See Uplink."""
        if self._ways_in is None:
            raise UnavailableError(
                f"{rule} cannot be opened: on a bridged network guests are reached as they are",
                next_step="Connect to the guest's own address",
            )
        self._ways_in.change(rule, on=on)

    def reload(self) -> str:
        """See Uplink."""
        return self._later.read_again() if self._later is not None else ""

    def reserve(self, one: Reservation, *, on: bool) -> None:
        """See Uplink."""
        if self._later is None:
            raise UnavailableError(
                f"Nothing can be kept for {one.mac}: on a bridged network addresses come from its own router",
                next_step="Reserve it there",
            )
        self._later.change(one, on=on)

    def _programs(self) -> list[str]:
        return ["ip"] if self._config.mode is Mode.BRIDGED else ["ip", "nft", "dnsmasq"]

    def _check_available(self) -> None:
        if sys.platform != "linux" or not link.TUN_DEVICE.exists():
            raise UnavailableError(self.unavailable_reason() or "", next_step="modprobe tun may help")
        if not children.effective_capabilities() >> children.CAP_NET_ADMIN & 1:
            raise PrivilegeError(
                "The linux uplink needs root (CAP_NET_ADMIN)",
                next_step="Run with sudo, or use --backend=none for an isolated switch",
            )
        missing = [name for name in self._programs() if programs.find(name) is None]
        if missing:
            raise UnavailableError(
                programs.missing_reason(missing) or "", next_step=programs.install_hint(missing)
            )

    def _open_routed(self, undo: UndoRecord) -> OpenedUplink:
        """Shared and host mode: the host is the segment's gateway, or its only neighbour."""
        config, device = self._config, self._device
        shared = config.mode is Mode.SHARED
        prefix = config.nat66_prefix
        with contextlib.ExitStack() as on_failure:
            # From looking for a free subnet until the address is taken: two networks that start together
            # must not choose the same one.
            with undo.alone():
                link.remove_leftover(device)
                plan = self._plan()
                dnsmasq.check_reservations(plan, config.reservations)
                # The filter before the door, and in undoing after it.
                table = nft.table_name(self._network_id)
                gateway6 = () if prefix is None else (dnsmasq.gateway6(prefix),)
                own = (plan.gateway, *gateway6)
                rules, forwards = config.rules, config.forwards
                self._take_ports(plan, undo)
                followed = config.named_forwards
                loaded = nft.load(
                    nft.Filter(table, device, plan.network, prefix, shared, own, rules, forwards, followed),
                    undo,
                )
                self._ways_in = WaysInLater(loaded)
                fd = link.open_tap(device, undo)
                on_failure.callback(os.close, fd)
                sysctl.quiet_device(device, ipv6=prefix is not None)
                if forwards or followed:
                    sysctl.take_loopback(device)
                link.configure(self._addressing(plan))
            if shared:
                sysctl.enable_ipv4_forwarding(undo)
                if prefix is not None:
                    sysctl.enable_ipv6_forwarding(undo)
            service = dnsmasq.Service(
                device, plan, prefix, config.dhcp, shared, config.reservations, config.mtu
            )
            log_fd, self._later = dnsmasq.start(service, undo, undo.file("leases"), undo.file("hosts"))
            on_failure.pop_all()
        nft.warn_of_foreign_filters(device)
        facts = [
            ("mode", config.mode.value),
            ("device", device),
            ("gateway", f"{plan.gateway}/{plan.network.prefixlen}"),
            ("dhcp", f"{plan.dhcp_start} - {plan.dhcp_end}" if config.dhcp else "off"),
        ]
        if prefix is not None:
            facts.append(("ipv6", str(prefix)))
        endpoint = OpenedEndpoint(EndpointKind.TAP, fd, f"tap {device}")
        return OpenedUplink(
            endpoint,
            tuple(facts),
            self._report(plan),
            log_fd,
            followed=followed,
            lead_forward=loaded.lead if followed else None,
        )

    def _report(self, plan: Ipv4Plan) -> dict[str, str | int]:
        """In vmnet's words, as far as they have a meaning here, and ours."""
        found: dict[str, str | int] = {
            "vmnet_start_address": str(plan.gateway),
            "vmnet_end_address": str(plan.dhcp_end),
            "vmnet_subnet_mask": str(plan.network.netmask),
            "vmnet_mtu": self._config.mtu or 1500,
            "mode": self._config.mode.value,
            "device": self._device,
        }
        if self._config.nat66_prefix is not None:
            found["vmnet_nat66_prefix"] = str(self._config.nat66_prefix.network_address)
        return found

    def _take_ports(self, plan: Ipv4Plan, undo: UndoRecord) -> None:
        """So that a port which another program has is noticed, and none takes it later."""
        host_ports.check_guests(self._config.forwards, plan.network)
        every: tuple[Forward | NamedForward, ...] = (*self._config.forwards, *self._config.named_forwards)
        for one in every:
            undo.hold(host_ports.take(one, _EVERY_ADDRESS).detach())

    def _addressing(self, plan: Ipv4Plan) -> list[str]:
        """The `ip` commands that give the TAP its addresses and bring it up."""
        device, prefix = self._device, self._config.nat66_prefix
        mac = link.stable_mac(self._network_id, self._config.interface_id)
        mtu = f" mtu {self._config.mtu}" if self._config.mtu is not None else ""
        commands = [
            f"link set dev {device} address {mac}{mtu}",
            f"address add {plan.gateway}/{plan.network.prefixlen} broadcast + dev {device}",
            f"link set dev {device} up",
        ]
        if prefix is not None:
            gateway = f"{dnsmasq.gateway6(prefix)}/{prefix.prefixlen}"
            commands.insert(-1, f"address add {gateway} dev {device} nodad")
        return commands

    def _plan(self) -> Ipv4Plan:
        """The wanted subnet if it is free, else a free one."""
        addresses = link.addresses()
        prefix = self._config.nat66_prefix
        if prefix is not None:
            subnets.check_free(
                prefix, subnets.occupied_by(link.routes(6), addresses), option="--vmnet-nat66-prefix"
            )
        taken = subnets.occupied_by(link.routes(4), addresses)
        if self._config.ipv4 is None:
            return subnets.choose_plan(taken)
        subnets.check_free(self._config.ipv4.network, taken, option="--vmnet-gateway")
        return self._config.ipv4

    def _open_bridged(self, undo: UndoRecord) -> OpenedUplink:
        """A port of a bridge that is there, or macvtaps on an interface."""
        config, device = self._config, self._device
        found = link.links()
        mac = link.stable_mac(self._network_id, config.interface_id)
        # First: a bridge of Open vSwitch's user space datapath need not look like one.
        if config.interface is not None and bridged.is_open_vswitch(config.interface):
            fd = bridged.join_open_vswitch(config.interface, device, mac, undo)
            return self._bridged(
                fd, f"tap {device}", f"port {device} of Open vSwitch bridge {config.interface}"
            )
        chosen = bridged.target(config.interface, found)
        if chosen.kind == "bridge":
            fd = bridged.join_bridge(chosen, device, mac, undo)
            return self._bridged(fd, f"tap {device}", f"port {device} of bridge {chosen.name}")
        group = macvtap.MacvtapGroup(chosen.name, device)
        group.remove_leftovers(found)
        fd = group.open_primary(mac, undo)
        self._macvtaps = group
        return self._bridged(fd, f"macvtap {device}", f"macvtap {device} on {chosen.name}")

    def _bridged(self, fd: int, name: str, how: str) -> OpenedUplink:
        facts = (("mode", "bridged"), ("device", self._device), ("joined as", how))
        endpoint = OpenedEndpoint(EndpointKind.TAP, fd, name)
        report = {"mode": "bridged", "device": self._device}
        return OpenedUplink(endpoint, facts, report, per_guest_mac=self._macvtaps is not None)
