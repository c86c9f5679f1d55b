"""Which guest has which address: what a network's DHCP server said, or its file. Time is an argument."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from vde_vmnet.wire.leases import Lease, parse_dhcpd

__all__ = ["LEASE_SECONDS", "LeaseFile", "LeaseTable"]

#: What dnsmasq is told to hand addresses out for; a guest that asks for less gets less.
LEASE_SECONDS = 3600
#: As many as dnsmasq keeps.
_MOST = 4096


class LeaseTable:
    """By what dnsmasq logs: its own file is its user's. Each of our networks starts without leases."""

    def __init__(self) -> None:
        #: By address, the longest untouched first.
        self._leases: dict[str, Lease] = {}

    def given(self, mac: str, address: str, name: str | None, now: float) -> None:
        """A guest was given an address, or has renewed it."""
        former = self._leases.pop(address, None)
        if name is None and former is not None and former.mac == mac:
            name = former.name
        lease = Lease(IPv4Address(address), mac, name, int(now) + LEASE_SECONDS)
        if len(self._leases) >= _MOST:
            del self._leases[next(iter(self._leases))]
        self._leases[address] = lease

    def released(self, address: str) -> None:
        """A guest has given it back."""
        self._leases.pop(address, None)

    def current(self, now: float) -> Sequence[Lease]:
        """Those that have not run out, by address."""
        for address, lease in list(self._leases.items()):
            if lease.expires is not None and lease.expires <= now:
                del self._leases[address]
        return sorted(self._leases.values(), key=lambda lease: int(lease.address))


class LeaseFile:
    """By the file of macOS's bootpd, which serves every network of the system: those of one subnet."""

    def __init__(self, path: Path, network: IPv4Network) -> None:
        self._path = path
        self._network = network

    def current(self, now: float) -> Sequence[Lease]:
        """Those that have not run out; none when the file cannot be read."""
        try:
            text = self._path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return []
        found = [
            one
            for one in parse_dhcpd(text)
            if one.address in self._network and (one.expires is None or one.expires > now)
        ]
        return sorted(found, key=lambda lease: int(lease.address))
