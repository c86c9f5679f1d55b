"""Which addresses a network of the framework gets: its rules for subnets, MAC addresses and prefixes. Pure."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

__all__ = [
    "RefusedError",
    "check_range",
    "free_subnet",
    "parse_prefix",
    "random_mac",
    "random_prefix",
    "unpadded",
]

_PRIVATE = [IPv4Network(text) for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")]


class RefusedError(Exception):
    """A request that the framework answers with a status other than VMNET_SUCCESS."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        #: vmnet_return_t
        self.status = status


def check_range(start: str, end: str, mask: str) -> tuple[IPv4Address, IPv4Address, IPv4Network]:
    """Gateway, last address of DHCP, subnet. Raises RefusedError: RFC 1918 only, prefixes /8 to /30."""
    try:
        first, last = IPv4Address(start), IPv4Address(end)
        network = IPv4Network(f"{start}/{mask}", strict=False)
    except ValueError as error:
        raise RefusedError(1003, str(error)) from error
    if not 8 <= network.prefixlen <= 30:
        raise RefusedError(1003, f"a prefix of {network.prefixlen}")
    if not any(network.subnet_of(private) for private in _PRIVATE):
        raise RefusedError(1003, f"{network} is not private")
    if last not in network or not network.network_address < first < last < network.broadcast_address:
        raise RefusedError(1003, f"{first} to {last} in {network}")
    return first, last, network


def free_subnet(third: int, taken: Iterable[IPv4Network]) -> IPv4Network:
    """192.168.`third`.0/24, or the next one that overlaps nothing. Raises RefusedError."""
    held = list(taken)
    for number in [*range(third, 256), *range(third)]:
        network = IPv4Network(f"192.168.{number}.0/24")
        if not any(network.overlaps(one) for one in held):
            return network
    raise RefusedError(1001, "no free subnet")


def parse_prefix(text: str) -> IPv6Network:
    """A /64 of fd00::/8, given as ``fd12:3456::``. Raises RefusedError."""
    try:
        network = IPv6Network(f"{IPv6Address(text)}/64")
    except ValueError as error:
        raise RefusedError(1003, str(error)) from error
    if not network.subnet_of(IPv6Network("fd00::/8")):
        raise RefusedError(1003, f"{network} is not unique local")
    return network


def random_prefix() -> IPv6Network:
    """A unique local /64, RFC 4193."""
    return IPv6Network((bytes([0xFD]) + secrets.token_bytes(7) + bytes(8), 64))


def random_mac() -> str:
    """Locally administered, unicast; lower case and padded."""
    octets = secrets.token_bytes(6)
    return ":".join(f"{octet:02x}" for octet in (octets[0] & 0xFC | 0x02, *octets[1:]))


def unpadded(mac: str) -> str:
    """As the framework writes it: without leading zeros."""
    return ":".join(f"{int(octet, 16):x}" for octet in mac.split(":"))
