"""Lease files: macOS's ``/var/db/dhcpd_leases`` and dnsmasq's, as values. Pure.

Guests choose names and identifiers in them, so anything that does not parse is left out, never an error.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

__all__ = ["Lease", "parse_dhcpd", "parse_dnsmasq"]

#: Hardware type 1 is Ethernet; others (255: a DUID) are identifiers, not addresses.
_ETHERNET = "1,"
_MAC = re.compile(r"[0-9a-f]{1,2}(?::[0-9a-f]{1,2}){5}", re.IGNORECASE)
_PRINTABLE = re.compile(r"[^\x21-\x7e]")


@dataclass(frozen=True)
class Lease:
    """One address that has been handed out."""

    address: IPv4Address | IPv6Address
    #: ``52:54:00:12:34:56``; None where the file has only an identifier of another kind.
    mac: str | None
    #: What the guest calls itself; None when it says nothing.
    name: str | None
    #: Seconds since 1970; None for a lease that never ends.
    expires: int | None


def parse_dhcpd(text: str) -> list[Lease]:
    """The file of macOS's bootpd: blocks in braces of ``key=value`` lines, newest first."""
    found = []
    for block in re.findall(r"\{([^{}]*)\}", text):
        pairs = (line.partition("=") for line in block.splitlines())
        fields = {key.strip(): value.strip() for key, equals, value in pairs if equals}
        address = _address(fields.get("ip_address", ""))
        if address is None:
            continue
        hardware = fields.get("hw_address", "")
        mac = _mac(hardware.removeprefix(_ETHERNET)) if hardware.startswith(_ETHERNET) else None
        try:
            expires = int(fields["lease"], 16)
        except (KeyError, ValueError):
            expires = None
        found.append(Lease(address, mac, _name(fields.get("name", "")), expires))
    return found


def parse_dnsmasq(text: str) -> list[Lease]:
    """The file of dnsmasq: ``expiry mac address name client-id`` a line, and DHCPv6 after a line ``duid``."""
    found = []
    for line in text.splitlines():
        fields = line.split()
        if len(fields) < 4 or not fields[0].isdecimal():
            continue
        address = _address(fields[2])
        if address is not None:
            name = None if fields[3] == "*" else _name(fields[3])
            found.append(Lease(address, _mac(fields[1]), name, int(fields[0]) or None))
    return found


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None


def _mac(text: str) -> str | None:
    if not _MAC.fullmatch(text):
        return None
    return ":".join(f"{int(octet, 16):02x}" for octet in text.split(":"))


def _name(text: str) -> str | None:
    return _PRINTABLE.sub("?", text) or None
