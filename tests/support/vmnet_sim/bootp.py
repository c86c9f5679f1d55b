"""The files of Apple's bootpd: /etc/bootptab with reservations, /var/db/dhcpd_leases with leases. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address

__all__ = ["Lease", "parse_bootptab", "render_leases"]

_ENTRY = re.compile(r"(\S+)\s+(\d+)\s+([0-9A-Fa-f:]+)\s+(\d+\.\d+\.\d+\.\d+)(\s+\S+)?\s*")


@dataclass(frozen=True)
class Lease:
    """One guest's lease."""

    name: str
    address: IPv4Address
    mac: str
    #: Client identifier as hex octets with its type first (``01:aa:…``); "" when the guest sent none.
    identifier: str
    #: Seconds since 1970.
    expires: int


def parse_bootptab(text: str) -> dict[str, IPv4Address]:
    """MAC address (zero-padded, lower case) to reserved address.

    Entries begin after a line ``%%``: name, hardware type 1, MAC address, IP address, boot file (optional).
    What is before it, comments, and lines that are no entry are skipped, as bootpd does.
    """
    found: dict[str, IPv4Address] = {}
    inside = False
    for line in text.splitlines():
        if line.strip() == "%%":
            inside = True
        elif inside and not line.lstrip().startswith("#") and (entry := _ENTRY.fullmatch(line.strip())):
            octets = entry[3].split(":")
            if entry[2] == "1" and len(octets) == 6:
                found[":".join(f"{int(octet, 16):02x}" for octet in octets)] = IPv4Address(entry[4])
    return found


def _unpadded(octets: str) -> str:
    return ":".join(f"{int(octet, 16):x}" for octet in octets.split(":"))


def render_leases(leases: list[Lease]) -> str:
    """The text of dhcpd_leases: newest first, octets without leading zeros, times in hex."""
    parts = []
    for lease in reversed(leases):
        identifier = lease.identifier or f"01:{lease.mac}"
        kind, _, rest = identifier.partition(":")
        lines = [f"name={lease.name}"] if lease.name else []
        lines += [
            f"ip_address={lease.address}",
            f"hw_address=1,{_unpadded(lease.mac)}",
            f"identifier={int(kind, 16):x},{_unpadded(rest)}",
            f"lease={lease.expires:#x}",
        ]
        parts.append("{\n" + "".join(f"\t{line}\n" for line in lines) + "}\n")
    return "".join(parts)
