"""The networks of the simulated machine: who is on which, when they begin and when they end."""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Network
from pathlib import Path

from tests.support.vmnet_sim import links
from tests.support.vmnet_sim.bootp import Lease, parse_bootptab, render_leases
from tests.support.vmnet_sim.services import Dnsmasq, Plan, load_filter, remove_filter
from tests.support.vmnet_sim.subnets import RefusedError, free_subnet, random_mac

__all__ = ["BRIDGED", "HOST", "MOST_INTERFACES", "SHARED", "Network", "World"]

HOST, SHARED, BRIDGED = 1000, 1001, 1002
#: Apple's limit for all programs together.
MOST_INTERFACES = 32


@dataclass
class Network:
    """One segment. It runs while it has members; a reserved one (network API) keeps its subnet between runs."""

    key: tuple[str, ...]
    mode: int
    bridge: str
    mac: str
    mtu: int = 1500
    plan: Plan | None = None
    #: Bridged mode: the interface that stands for the physical one.
    physical: str | None = None
    #: The host's address where there is no plan for services (host mode with a network identifier).
    addresses: tuple[str, ...] = ()
    members: dict[int, str] = field(default_factory=dict)
    #: Holders of the network API's reference: connections by number.
    holders: list[int] = field(default_factory=list)
    reserved: bool = False
    orphan: bool = False
    number: int = 0
    start_fails: bool = False
    dnsmasq: Dnsmasq | None = None
    moved: list[str] = field(default_factory=list)


class World:
    """Everything the fabric has made in its namespace."""

    def __init__(self, folder: Path) -> None:
        self.networks: list[Network] = []
        self._folder = folder
        self._bootptab = folder / "bootptab"
        self._leases_file = folder / "dhcpd_leases"
        self._leases: dict[tuple[str, IPv4Address], Lease] = {}
        self.events = folder / "lease-events"
        self._sysctls: dict[str, str] = {}
        self._numbers = 0

    # -- Finding and making networks.

    def find(self, key: tuple[str, ...]) -> Network | None:
        """A network that has members, or is reserved."""
        return next((one for one in self.networks if one.key == key), None)

    def add(self, key: tuple[str, ...], mode: int) -> Network:
        """One that does not run yet. A place for its bridge is taken."""
        taken = {one.bridge for one in self.networks}
        bridge = next(name for number in range(100, 1000) if (name := f"bridge{number}") not in taken)
        self._numbers += 1
        network = Network(key, mode, bridge, random_mac(), number=self._numbers)
        self.networks.append(network)
        return network

    def plan(
        self,
        network: Network,
        subnet: IPv4Network,
        gateway: IPv4Address,
        end: IPv4Address,
        prefix: IPv6Network | None,
    ) -> Plan:
        """Services of a network on a subnet. Raises RefusedError when that is in use."""
        for other in self.networks:
            if other is not network and other.plan is not None and other.plan.network.overlaps(subnet):
                self.forget(network)
                raise RefusedError(1001, f"{subnet} overlaps {other.plan.network} of {other.key}")
        network.plan = Plan(
            network.bridge, subnet, gateway, gateway + 1, end, prefix, network.mode == SHARED, network.mtu
        )
        return network.plan

    def free_subnet(self, third: int) -> IPv4Network:
        """The default subnet, or the next that neither a network nor the host uses."""
        taken = [one.plan.network for one in self.networks if one.plan is not None]
        for device in json.loads(links.run("ip", "-j", "-4", "address")):
            if device["ifname"] not in {one.bridge for one in self.networks}:
                taken += [IPv4Interface(f"{a['local']}/{a['prefixlen']}").network for a in device["addr_info"]]
        return free_subnet(third, taken)

    def forget(self, network: Network) -> None:
        """Give up one that does not run."""
        if network in self.networks:
            self.networks.remove(network)

    # -- Running.

    def members(self) -> int:
        """Interfaces of all networks."""
        return sum(len(one.members) for one in self.networks)

    def begin(self, network: Network) -> None:
        """Make the bridge and start the services. Raises OSError; nothing is left then."""
        plan = network.plan
        addresses = list(network.addresses)
        if plan is not None:
            addresses.append(f"{plan.gateway}/{plan.network.prefixlen}")
            if plan.prefix is not None:
                addresses.append(f"{plan.prefix[1]}/64")
        try:
            links.add_bridge(network.bridge, network.mac, *addresses, mtu=network.mtu)
            if network.physical is not None:
                self._enslave(network)
            if plan is not None:
                if plan.outside:
                    self._forwarding(plan)
                load_filter(plan)
                if plan.dhcp or plan.dns or (plan.prefix is not None and plan.advertisement):
                    network.dnsmasq = Dnsmasq(plan, self._folder, self.events, self.bootptab())
        except OSError:
            self.end(network)
            raise

    def end(self, network: Network) -> None:
        """Undo `begin`. Forwards and reservations of the API go with the run."""
        if network.dnsmasq is not None:
            network.dnsmasq.stop()
            network.dnsmasq = None
        if network.plan is not None:
            network.plan.forwards.clear()
            network.plan.reservations.clear()
            with contextlib.suppress(OSError):
                remove_filter(network.plan)
        with contextlib.suppress(OSError):
            if network.physical is not None:
                links.run("ip", "link", "set", network.physical, "nomaster")
            links.remove_bridge(network.bridge)
        if network.physical is not None:
            self._restore(network)
        if not network.reserved:
            self.forget(network)

    def _forwarding(self, plan: Plan) -> None:
        for name in ("ipv4/ip_forward", *(["ipv6/conf/all/forwarding"] if plan.prefix is not None else [])):
            self._sysctls.setdefault(name, links.set_sysctl(name, "1"))

    def _enslave(self, network: Network) -> None:
        """The physical interface becomes a member; the host's addresses and routes move to the bridge."""
        assert network.physical is not None
        (device,) = json.loads(links.run("ip", "-j", "address", "show", "dev", network.physical))
        routes = [
            line
            for line in links.run("ip", "route", "show", "dev", network.physical).splitlines()
            if "proto kernel" not in line
        ]
        addresses = [one for one in device["addr_info"] if one["scope"] == "global"]
        network.moved = [f"address add {one['local']}/{one['prefixlen']}" for one in addresses]
        text = f"address flush dev {network.physical} scope global\n"
        text += f"link set {network.physical} master {network.bridge}\n"
        text += f"link set {network.physical} up\nlink set {network.bridge} address {device['address']}\n"
        text += "".join(f"{line} dev {network.bridge}\n" for line in network.moved)
        network.moved += [f"route add {line}" for line in routes]
        text += "".join(f"route add {line} dev {network.bridge}\n" for line in routes)
        links.run("ip", "-batch", "-", text=text)

    def _restore(self, network: Network) -> None:
        lines = [f"{line} dev {network.physical}\n" for line in network.moved]
        with contextlib.suppress(OSError):
            links.run("ip", "-force", "-batch", "-", text="".join(lines))
        network.moved = []

    def close(self) -> None:
        """End everything; the host is as it was."""
        for network in list(self.networks):
            network.reserved = False
            self.end(network)
        for name, value in self._sysctls.items():
            links.set_sysctl(name, value)

    # -- bootpd.

    def bootptab(self) -> dict[str, IPv4Address]:
        """What /etc/bootptab says now."""
        try:
            return parse_bootptab(self._bootptab.read_text())
        except FileNotFoundError:
            return {}

    def restart_bootpd(self) -> None:
        """Read bootptab again."""
        for network in self.networks:
            if network.dnsmasq is not None:
                network.dnsmasq.reload(self.bootptab())

    def lease_event(self, line: str) -> None:
        """One line of a lease script: action, MAC, address, expiry, client identifier, name."""
        words = line.split(" ")
        if len(words) < 5 or words[0] not in ("add", "old", "del") or ":" in words[2]:
            return
        action, mac, address = words[0], words[1], IPv4Address(words[2])
        self._leases.pop((mac, address), None)
        if action != "del":
            identifier = "" if words[4] == "-" else words[4]
            name = " ".join(words[5:]).strip()
            expires = int(words[3]) or int(time.time())
            self._leases[mac, address] = Lease(name, address, mac, identifier, expires)
        self._leases_file.write_text(render_leases(list(self._leases.values())))
