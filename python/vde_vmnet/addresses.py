"""Values that check themselves: MAC addresses, DHCP ranges, reservations, port forwards. Pure."""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

__all__ = ["Forward", "Ipv4Plan", "MacAddress", "NamedForward", "Reservation", "digest"]

_MAC = re.compile(r"[0-9a-f]{2}(?::[0-9a-f]{2}){5}")
# RFC 1123 section 2.1: letters, digits and hyphens, not at an end, at most 63 octets.
_HOST_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")


def digest(data: bytes, size: int) -> bytes:
    """``size`` bytes (at most 8) that depend on ``data`` alone, for names that must come out the same again.

    No secret and no defence hangs on it, so checksums do: hashlib would bring all of OpenSSL into a process
    that runs as root.
    """
    return (zlib.crc32(data).to_bytes(4, "big") + zlib.crc32(b"more " + data).to_bytes(4, "big"))[:size]


@dataclass(frozen=True, order=True)
class MacAddress:
    """A unicast Ethernet address in the form ``52:54:00:12:34:56`` (lower case, colons)."""

    text: str

    @classmethod
    def parse(cls, text: str) -> MacAddress:
        """Accept upper case and ``-`` too.

        Raises ValueError for anything else, and for a multicast or all-zero address, which no station has.
        """
        canonical = text.strip().lower().replace("-", ":")
        if not _MAC.fullmatch(canonical):
            raise ValueError(f'"{text}" is not a MAC address such as 52:54:00:12:34:56')
        if int(canonical[:2], 16) & 1:
            raise ValueError(f'"{text}" is a multicast address, not that of one machine')
        if canonical == "00:00:00:00:00:00":
            raise ValueError(f'"{text}" is not the address of a machine')
        return cls(canonical)

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Reservation:
    """One ``--reserve MAC=IP[,NAME]``: this MAC always gets this address, and NAME resolves to it."""

    mac: MacAddress
    address: IPv4Address
    name: str | None = None

    @classmethod
    def parse(cls, text: str) -> Reservation:
        """Raises ValueError that says which part is wrong."""
        mac_text, equals, rest = text.partition("=")
        if not equals:
            raise ValueError(f'"{text}" is not of the form MAC=IP[,NAME]')
        address_text, comma, name = rest.partition(",")
        mac = MacAddress.parse(mac_text)
        try:
            address = IPv4Address(address_text.strip())
        except ValueError:
            raise ValueError(f'"{address_text}" is not an IPv4 address') from None
        name = name.strip().lower()
        if comma and not _HOST_NAME.fullmatch(name):
            raise ValueError(f'"{name}" is not a host name (letters, digits and hyphens, at most 63)')
        return cls(mac, address, name or None)

    def __str__(self) -> str:
        return f"{self.mac}={self.address}" + (f",{self.name}" if self.name is not None else "")


@dataclass(frozen=True)
class Forward:
    """One ``--forward [tcp|udp:][HOSTADDR:]PORT:IP:PORT``: what comes to the host's port goes to a guest."""

    #: ``tcp`` or ``udp``.
    protocol: str
    #: The address of the host that listens; None is every one.
    host: IPv4Address | None
    host_port: int
    guest: IPv4Address
    guest_port: int

    @classmethod
    def parse(cls, text: str) -> Forward:
        """One to an address. Raises ValueError that says which part is wrong."""
        named = NamedForward.parse(text)
        return named.to(_ipv4(str(named.guest)))

    def __str__(self) -> str:
        host = f"{self.host}:" if self.host is not None else ""
        return f"{self.protocol}:{host}{self.host_port}:{self.guest}:{self.guest_port}"


@dataclass(frozen=True)
class NamedForward:
    """The same to a guest whose address is not known yet."""

    protocol: str
    host: IPv4Address | None
    host_port: int
    #: By its card, or by the name (or, just parsed, the address) that it has on the network.
    guest: MacAddress | str
    guest_port: int

    @classmethod
    def parse(cls, text: str) -> NamedForward:
        """Raises ValueError that says which part is wrong."""
        match = _FORWARD.fullmatch(text)
        if match is None:
            raise ValueError(f'"{text}" is not of the form [tcp|udp:][HOSTADDR:]PORT:GUEST:PORT')
        protocol, host, host_port, guest, guest_port = match.groups()
        who: MacAddress | str = guest.lower()
        if ":" in guest:
            who = MacAddress.parse(guest)
        elif not re.fullmatch(r"[0-9.]+", guest) and not _HOST_NAME.fullmatch(guest.lower()):
            raise ValueError(f'"{guest}" is not an address, a MAC address or the name of a guest')
        address = _ipv4(host) if host is not None else None
        return cls(protocol or "tcp", address, _port(host_port), who, _port(guest_port))

    def is_for(self, mac: str, name: str | None) -> bool:
        """Whether it leads to the guest with this card, which calls itself ``name``."""
        return (name or "").lower() == self.guest or mac == str(self.guest)

    def to(self, address: IPv4Address) -> Forward:
        """This forward when the guest has that address."""
        return Forward(self.protocol, self.host, self.host_port, address, self.guest_port)

    def __str__(self) -> str:
        host = f"{self.host}:" if self.host is not None else ""
        return f"{self.protocol}:{host}{self.host_port}:{self.guest}:{self.guest_port}"


# A MAC address has colons of its own, and nothing else in the middle has.
_FORWARD = re.compile(
    r"(?:(tcp|udp):)?(?:([^:]*):)?([^:]*):((?:[0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}|[^:]*):([^:]*)"
)


def _ipv4(text: str) -> IPv4Address:
    try:
        return IPv4Address(text)
    except ValueError:
        raise ValueError(f'"{text}" is not an IPv4 address') from None


def _port(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and 0 < int(text) < 65536):
        raise ValueError(f'"{text}" is not a port from 1 to 65535')
    return int(text)


@dataclass(frozen=True)
class Ipv4Plan:
    """The IPv4 side of a network, complete and checked.

    ``dhcp_start`` … ``dhcp_end`` is inclusive; the gateway is the host's own address on the segment.
    """

    gateway: IPv4Address
    network: IPv4Network
    dhcp_start: IPv4Address
    dhcp_end: IPv4Address

    @classmethod
    def build(cls, gateway: IPv4Address, mask: str, dhcp_end: IPv4Address | None) -> Ipv4Plan:
        """Apply the original's defaults (range gateway+1 … x.x.x.254) and check the result.

        Raises ValueError with the option at fault as the first word of the message.
        """
        try:
            network = IPv4Network(f"{gateway}/{mask}", strict=False)
        except ValueError:
            raise ValueError(f'--vmnet-mask "{mask}" is not a subnet mask such as 255.255.255.0') from None
        # ipaddress reads 0.0.0.255 as a host mask; a user who writes it has swapped the bits.
        if mask != str(network.netmask):
            raise ValueError(f'--vmnet-mask "{mask}" is not a subnet mask such as 255.255.255.0')
        if network.prefixlen > 30:
            raise ValueError(f'--vmnet-mask "{mask}" leaves no room for guests (at most 255.255.255.252)')
        if network.prefixlen < 8:
            raise ValueError(f'--vmnet-mask "{mask}" is too wide (at least 255.0.0.0)')
        if gateway in (network.network_address, network.broadcast_address):
            raise ValueError(f"--vmnet-gateway {gateway} is not a host address of {network}")
        if gateway.is_multicast or gateway.is_loopback or gateway.is_unspecified or gateway.is_reserved:
            raise ValueError(f"--vmnet-gateway {gateway} is not usable as a host address")
        if dhcp_end is None:
            # The original: the gateway's own /24, .254; a narrower or wider subnet ends inside itself.
            dhcp_end = IPv4Address((int(gateway) & 0xFFFFFF00) | 254)
            last = IPv4Address(int(network.broadcast_address) - 1)
            if dhcp_end not in network or dhcp_end > last:
                dhcp_end = last
            if dhcp_end <= gateway:
                raise ValueError(
                    f"--vmnet-gateway {gateway} leaves no addresses for DHCP: the range starts at the next"
                    f" one and ends at {dhcp_end}; choose a lower gateway"
                )
        start = IPv4Address(int(gateway) + 1)
        if dhcp_end not in network:
            raise ValueError(f"--vmnet-dhcp-end {dhcp_end} is outside the subnet {network}")
        if dhcp_end == network.broadcast_address:
            raise ValueError(f"--vmnet-dhcp-end {dhcp_end} is the broadcast address of {network}")
        if dhcp_end == gateway:
            raise ValueError(f"--vmnet-dhcp-end {dhcp_end} is the gateway itself; the range starts after it")
        if dhcp_end < start:
            raise ValueError(
                f"--vmnet-dhcp-end {dhcp_end} is below the first DHCP address {start}"
                " (the one after --vmnet-gateway)"
            )
        return cls(gateway, network, start, dhcp_end)
