"""Which IPv4 subnet the segment gets: a free one, or the wanted one if nothing is in its way. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_network
from typing import Any

from vde_vmnet.addresses import Ipv4Plan
from vde_vmnet.errors import ConflictError

__all__ = ["Occupied", "check_free", "choose_plan", "occupied_by"]

# Chosen: the block that socket_vmnet's users know comes first; then the rest of RFC 1918, the blocks that
# home routers (192.168.0 and .1, 10.0.0) and Docker (172.17 and up) like best last.
_FIRST = 105
# A route this wide is a way to everything (a default route, or the halves 0.0.0.0/1 and 128.0.0.0/1 that
# VPN clients set), not a network somebody lives in.
_WIDEST = 7
_UNTAKEN_TYPES = frozenset({"broadcast", "multicast", "anycast"})


@dataclass(frozen=True)
class Occupied:
    """A network that the host already reaches some way."""

    network: IPv4Network | IPv6Network
    #: Where it leads, for the message, such as ``eth0`` or ``10.0.0.1 dev eth0``.
    device: str
    #: ``route`` or ``address``.
    kind: str = "route"


def occupied_by(routes: Iterable[dict[str, Any]], links: Iterable[dict[str, Any]]) -> list[Occupied]:
    """Read ``ip -j route show table all`` and ``ip -j address show``; addresses come first."""
    found = []
    for link in links:
        for info in link.get("addr_info", ()):
            if info.get("family") in ("inet", "inet6") and info.get("scope") != "link":
                network = ip_network(f"{info['local']}/{info['prefixlen']}", strict=False)
                found.append(Occupied(network, str(link.get("ifname", "?")), "address"))
    for route in routes:
        destination = str(route.get("dst", "default"))
        if destination == "default" or route.get("type") in _UNTAKEN_TYPES:
            continue
        network = ip_network(destination, strict=False)
        if network.prefixlen > _WIDEST and not network.is_link_local and not network.is_multicast:
            device = str(route.get("dev") or route.get("type", "?"))
            found.append(Occupied(network, device))
    return found


def check_free(wanted: IPv4Network | IPv6Network, occupied: Iterable[Occupied], *, option: str) -> None:
    """Raises ConflictError that names the network in the way, its device and the option to change."""
    for other in occupied:
        if _overlap(wanted, other.network):
            raise ConflictError(
                f"{option} asks for {wanted}, but this host already has the {other.kind} {other.network}"
                f" on {other.device}",
                next_step=f"Choose another subnet with {option}, or leave the option out",
            )


def choose_plan(occupied: Iterable[Occupied]) -> Ipv4Plan:
    """The first free /24, with the gateway at .1. Raises ConflictError when all of RFC 1918 is taken."""
    taken = [other.network for other in occupied]
    for network in _candidates():
        if not any(_overlap(network, other) for other in taken):
            return Ipv4Plan.build(IPv4Address(int(network.network_address) + 1), "255.255.255.0", None)
    raise ConflictError(
        "Every private IPv4 network is already routed by this host, so no free subnet could be chosen",
        next_step="Name one with --vmnet-gateway after removing the route in its way",
    )


def _overlap(one: IPv4Network | IPv6Network, other: IPv4Network | IPv6Network) -> bool:
    if isinstance(one, IPv4Network):
        return isinstance(other, IPv4Network) and one.overlaps(other)
    return isinstance(other, IPv6Network) and one.overlaps(other)


def _candidates() -> Iterator[IPv4Network]:
    for third in (*range(_FIRST, 256), *range(_FIRST - 1, -1, -1)):
        yield IPv4Network(f"192.168.{third}.0/24")
    for second in range(31, 15, -1):
        for third in range(256):
            yield IPv4Network(f"172.{second}.{third}.0/24")
    for second in range(255, -1, -1):
        for third in range(256):
            yield IPv4Network(f"10.{second}.{third}.0/24")
