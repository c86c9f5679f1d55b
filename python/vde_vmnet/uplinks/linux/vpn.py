"""What routes say about VPNs, and about running networks of ours: findings. Pure.

In: what `ip -j -d link show`, `ip -j address show` and `ip -j route show table all` print.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, ip_network
from typing import Any

from vde_vmnet.errors import ConflictError
from vde_vmnet.uplinks.check import Check, Level

__all__ = ["Network", "checks", "default_device", "running", "tunnels"]

#: ``info_kind`` of links that lead into a tunnel; a "tun" may be a TAP, which its own data tells.
_TUNNELS = frozenset({"wireguard", "ppp", "ipip", "gre", "vti", "xfrm", "sit"})
_PREFIX = "vmnet-"
#: A default route, or the halves that VPN clients set so that they need not remove it.
_WIDE = 1


@dataclass(frozen=True)
class Network:
    """A network of ours that runs here."""

    device: str
    network: IPv4Network


def running(addresses: Iterable[dict[str, Any]]) -> list[Network]:
    """Our TAPs, by name, and the subnets on them."""
    found = []
    for link in addresses:
        name = str(link.get("ifname", ""))
        if not name.startswith(_PREFIX):
            continue
        for info in link.get("addr_info", ()):
            if info.get("family") == "inet":
                network = IPv4Network(f"{info['local']}/{info['prefixlen']}", strict=False)
                found.append(Network(name, network))
    return found


def tunnels(links: Iterable[dict[str, Any]]) -> dict[str, str]:
    """The links that lead into a tunnel, and their kinds."""
    found = {}
    for link in links:
        info = link.get("linkinfo", {})
        kind = str(info.get("info_kind", ""))
        is_tun = kind == "tun" and info.get("info_data", {}).get("type") == "tun"
        if kind in _TUNNELS or is_tun or link.get("link_type") == "ppp":
            found[str(link["ifname"])] = kind or "ppp"
    return found


def default_device(routes: Iterable[dict[str, Any]]) -> str | None:
    """Where the main table's default route leads; of several, by its metric."""
    found = [
        (int(route.get("metric", 0)), str(route["dev"]))
        for route in routes
        if route.get("dst") == "default" and "dev" in route and route.get("table", "main") == "main"
    ]
    return min(found)[1] if found else None


def checks(
    links: Sequence[dict[str, Any]], addresses: Sequence[dict[str, Any]], routes: Sequence[dict[str, Any]]
) -> Iterator[Check]:
    """What VPNs may take away, and routes that lead a running network's guests elsewhere."""
    vpn = tunnels(links)
    ours = running(addresses)
    before = 0
    wide = sorted({str(route["dev"]) for route in routes if route.get("dev") in vpn and _is_wide(route)})
    for device in wide:
        before += 1
        yield Check(
            "VPN",
            f"{device} ({vpn[device]}) takes this host's way out",
            next_step="If guests reach nothing beyond this host, exclude their subnet in the VPN, or leave it",
            why="guests go out through it too; one with a kill switch refuses what is forwarded for others",
            level=Level.NOTE,
        )
    for one in ours:
        for route in routes:
            network = _network(route)
            if network is None or route.get("dev") == one.device or not network.overlaps(one.network):
                continue
            # The host's own way to its guests is as long as the subnet: what is shorter loses, in one table.
            if network.prefixlen < one.network.prefixlen and route.get("table", "main") == "main":
                continue
            if network.prefixlen <= _WIDE or route.get("type", "unicast") != "unicast":
                continue
            before += 1
            yield _taken(one, network, str(route.get("dev", "?")), vpn)
    if not before:
        yield Check("VPN", "no route of one is in the way" if vpn else "none")


def _taken(one: Network, network: IPv4Network, device: str, vpn: dict[str, str]) -> Check:
    kind = f" ({vpn[device]})" if device in vpn else ""
    return Check(
        f"subnet {one.network}",
        f"of {one.device} is routed to {device}{kind} too, as {network}",
        ConflictError,
        "Exclude the subnet there, or start the network with another --vmnet-gateway",
        "this host's answers to guests may go there",
    )


def _is_wide(route: dict[str, Any]) -> bool:
    if route.get("dst") == "default":
        return True
    network = _network(route)
    return network is not None and network.prefixlen <= _WIDE


def _network(route: dict[str, Any]) -> IPv4Network | None:
    destination = str(route.get("dst", "default"))
    if destination == "default":
        return None
    try:
        network = ip_network(destination, strict=False)
    except ValueError:
        return None
    return network if isinstance(network, IPv4Network) else None
