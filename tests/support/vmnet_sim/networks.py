"""The network API of macOS 26: networks that hold their subnet while somebody has a reference."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_address

from tests.support.vmnet_sim import links
from tests.support.vmnet_sim.requests import Client, Request
from tests.support.vmnet_sim.services import Forward
from tests.support.vmnet_sim.subnets import RefusedError, check_range, random_prefix
from tests.support.vmnet_sim.world import SHARED, Network, World

__all__ = ["answer", "drop_all", "find"]

#: Where defaults begin: 64 belongs to the older calls.
_FIRST_DEFAULT = 65


def answer(verb: str, world: World, client: Client, request: Request) -> Request:
    """``network_create``, ``network_join`` or ``network_release``. Raises RefusedError."""
    network = _create(world, request) if verb == "network_create" else find(world, int(request["network"]))
    if verb == "network_release":
        _drop(world, client, network)
        return {}
    network.holders.append(client.number)
    assert network.plan is not None
    plan = network.plan
    return {
        "network": str(network.number),
        "gateway": str(plan.gateway),
        "mask": str(plan.network.netmask),
        **({"prefix": str(plan.prefix.network_address)} if plan.prefix is not None else {}),
    }


def find(world: World, number: int) -> Network:
    """Raises RefusedError."""
    for network in world.networks:
        if network.number == number and network.reserved:
            return network
    raise RefusedError(1003, f"there is no network {number}")


def drop_all(world: World, client: Client) -> None:
    """A client ended: its networks go, but for those that a fault leaves behind."""
    for network in list(world.networks):
        while client.number in network.holders and not network.orphan:
            _drop(world, client, network)


def _drop(world: World, client: Client, network: Network) -> None:
    if client.number not in network.holders:
        raise RefusedError(1003, f"network {network.number} is not held by this client")
    network.holders.remove(client.number)
    if not network.holders:
        network.reserved = False
        if not network.members:
            world.forget(network)


def _create(world: World, request: Request) -> Network:
    mode = int(request["mode"])
    if "subnet" in request:
        given = IPv4Address(request["subnet"])
        subnet = IPv4Network(f"{given}/{request['mask']}", strict=False)
        try:
            # The first and the last address are nobody's, the second is the host's.
            check_range(str(subnet[1]), str(subnet[-2]), request["mask"])
        except RefusedError as error:
            raise RefusedError(1001, str(error)) from error
    else:
        subnet = world.free_subnet(_FIRST_DEFAULT)
        given = subnet[1]
    if "external" in request and request["external"] not in links.bridgeable():
        raise RefusedError(1003, f"there is no interface {request['external']}")
    network = world.add((str(mode), f"reserved {given}"), mode)
    network.reserved = True
    network.mtu = int(request["mtu"])
    network.orphan = request["orphan"] == "1"
    network.start_fails = request["subnet_zero_fails"] == "1" and given == subnet.network_address
    prefix = IPv6Network(f"{request['prefix']}/64", strict=False) if "prefix" in request else random_prefix()
    plan = world.plan(network, subnet, subnet[1], subnet[-2], prefix if mode == SHARED else None)
    plan.external = request.get("external")
    plan.nat44, plan.nat66 = request["no_nat44"] == "0", request["no_nat66"] == "0"
    plan.dhcp, plan.dns = request["no_dhcp"] == "0", request["no_dns"] == "0"
    plan.advertisement = request["no_advertisement"] == "0"
    try:
        _add_lists(network, request)
    except RefusedError:
        world.forget(network)
        raise
    return network


def _add_lists(network: Network, request: Request) -> None:
    plan = network.plan
    assert plan is not None
    for text in filter(None, request.get("reservations", "").split(",")):
        mac, _, address = text.partition("/")
        if IPv4Address(address) not in plan.network or IPv4Address(address) == plan.gateway:
            raise RefusedError(1003, f"{address} cannot be reserved in {plan.network}")
        plan.reservations[mac] = IPv4Address(address)
    for text in filter(None, request.get("forwards", "").split(",")):
        protocol, port, guest, guest_port = text.split("/")
        plan.forwards.append(Forward(int(protocol), int(port), ip_address(guest), int(guest_port)))
