"""Interfaces: which network a start joins, its TAP, and what it reports."""

from __future__ import annotations

import secrets
from ipaddress import IPv4Network, IPv6Address
from pathlib import Path

from tests.support.vmnet_sim import links, networks
from tests.support.vmnet_sim.requests import Client, Request
from tests.support.vmnet_sim.subnets import (
    RefusedError,
    check_range,
    parse_prefix,
    random_mac,
    random_prefix,
    unpadded,
)
from tests.support.vmnet_sim.world import BRIDGED, HOST, MOST_INTERFACES, SHARED, Network, World

__all__ = ["Interfaces"]


class Interfaces:
    """Starts and stops members of the world's networks."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._number = 0
        #: An interface's identifier keeps its MAC for as long as the fabric runs, as InternetSharing does.
        self._macs: dict[str, str] = {}

    def start(self, client: Client, request: Request) -> tuple[Request, int]:
        """The facts of a new interface, and its TAP. Raises RefusedError, OSError."""
        if self._world.members() >= MOST_INTERFACES:
            raise RefusedError(1001, f"more than {MOST_INTERFACES} interfaces")
        identifier = request.get("interface_id", secrets.token_hex(16))
        mac = self._macs.setdefault(identifier, random_mac())
        if any(identifier in one.members.values() for one in self._world.networks):
            raise RefusedError(1001, f"the interface {identifier} runs already: its MAC cannot be granted")
        network = self._network(request)
        if network.start_fails:
            raise RefusedError(1001, "the subnet was given as a network address")
        mtu = int(request.get("mtu", network.mtu))
        if not network.members:
            network.mtu = mtu
            if network.plan is not None:
                network.plan.mtu = mtu
            self._world.begin(network)
        self._number += 1
        taken = {entry.name for entry in Path("/sys/class/net").iterdir()}
        tap = links.Tap(
            next(name for number in range(1000) if (name := f"vmenet{number}") not in taken),
            mtu,
            isolated=request.get("enable_isolation") == "1",
            tso=request.get("enable_tso") == "1",
            checksum=request.get("enable_checksum_offload") == "1",
            virtio=request.get("enable_virtio_header") == "1",
        )
        try:
            fd = links.open_tap(tap, network.bridge)
        except OSError:
            if not network.members:
                self._world.end(network)
            raise
        network.members[self._number] = identifier
        client.interfaces[self._number] = network
        facts = self._facts(network, int(request["macos"]))
        if request.get("allocate_mac_address") != "0" or "network" in request:
            facts["mac_address"] = unpadded(mac)
        return {"interface": str(self._number), "interface_id": identifier, "mtu": str(mtu), **facts}, fd

    @staticmethod
    def _facts(network: Network, macos: int) -> Request:
        """What a start reports, by mode."""
        if network.mode == BRIDGED:
            return {}
        if network.plan is None:
            if macos < 2600:
                return {"start_address": "0.0.0.0", "end_address": "255.255.255.254", "subnet_mask": "0.0.0.0"}
            return {
                "start_address": "192.168.128.1",
                "end_address": "192.168.128.254",
                "subnet_mask": "255.255.255.0",
            }
        plan = network.plan
        facts = {
            "start_address": str(plan.gateway),
            "end_address": str(plan.dhcp_end),
            "subnet_mask": str(plan.network.netmask),
        }
        if plan.prefix is not None and network.mode == SHARED:
            facts["nat66_prefix"] = str(plan.prefix.network_address)
        return facts

    def _network(self, request: Request) -> Network:
        """The network that a start joins, found or made."""
        if "network" in request:
            return networks.find(self._world, int(request["network"]))
        mode = int(request["operation_mode"])
        if mode == BRIDGED:
            return self._bridged(request["shared_interface_name"])
        if "network_identifier" in request:
            return self._identified(request)
        prefix = parse_prefix(request["nat66_prefix"]) if "nat66_prefix" in request else None
        key: tuple[str, ...] = (str(mode), "default")
        if "start_address" in request:
            gateway, end, subnet = check_range(
                request["start_address"], request["end_address"], request["subnet_mask"]
            )
            key = (str(mode), str(gateway), str(subnet))
        for one in self._world.networks:
            plan = None if one.reserved else one.plan
            if one.key == key or (plan and (str(one.mode), str(plan.gateway), str(plan.network)) == key):
                return one
        if "start_address" not in request:
            subnet = self._world.free_subnet(64 if mode == SHARED else 128)
            gateway, end = subnet[1], subnet[-2]
        network = self._world.add(key, mode)
        if mode == SHARED and prefix is None:
            prefix = random_prefix()
        self._world.plan(network, subnet, gateway, end, prefix)
        return network

    def _bridged(self, name: str) -> Network:
        if name not in links.bridgeable():
            raise RefusedError(1003, f"there is no interface {name} to bridge")
        key = (str(BRIDGED), name)
        found = self._world.find(key)
        if found is None:
            found = self._world.add(key, BRIDGED)
            found.physical = name
        return found

    def _identified(self, request: Request) -> Network:
        key = (str(HOST), request["network_identifier"])
        found = self._world.find(key)
        if found is not None:
            return found
        addresses = []
        try:
            if "host_ip_address" in request:
                mask = request.get("host_subnet_mask", "255.255.255.0")
                prefix = IPv4Network(f"{request['host_ip_address']}/{mask}", strict=False).prefixlen
                addresses.append(f"{request['host_ip_address']}/{prefix}")
            if "host_ipv6_address" in request:
                addresses.append(f"{IPv6Address(request['host_ipv6_address'])}/64")
        except ValueError as error:
            raise RefusedError(1003, str(error)) from error
        network = self._world.add(key, HOST)
        network.addresses = tuple(addresses)
        return network

    def stop(self, client: Client, request: Request) -> Request:
        """Raises RefusedError."""
        number = int(request["interface"])
        if number not in client.interfaces:
            raise RefusedError(1001, f"interface {number} is not one of this client")
        self._remove(client, number)
        return {}

    def remove_all(self, client: Client) -> None:
        """A client ended."""
        for number in list(client.interfaces):
            self._remove(client, number)

    def names(self) -> Request:
        """What can be bridged."""
        return {"names": ",".join(links.bridgeable())}

    def _remove(self, client: Client, number: int) -> None:
        network = client.interfaces.pop(number)
        del network.members[number]
        if not network.members:
            self._world.end(network)
