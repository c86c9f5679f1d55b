"""Addresses of a user-mode network, and what its guests may reach, as plain values. Pure but for ``taken``."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Network
from typing import TYPE_CHECKING

from vde_vmnet.addresses import Ipv4Plan, Reservation
from vde_vmnet.config.access import LOOPBACK4, AccessRule, allows, with_defaults
from vde_vmnet.config.model import Mode, UplinkConfig
from vde_vmnet.errors import ConfigurationError, UnavailableError, UplinkError
from vde_vmnet.uplinks.linux import dnsmasq, link, subnets
from vde_vmnet.uplinks.user import services

if TYPE_CHECKING:
    from vde_vmnet._engine import SlirpSegment

__all__ = ["DHCP_GUESTS", "Segment"]

_log = logging.getLogger(__name__)

#: Addresses that libslirp hands out (NB_BOOTP_CLIENTS of its bootp.h).
DHCP_GUESTS = 16
#: Addresses at the end of the subnet that are no guest's.
_OWN_ADDRESSES = 2
#: What Ethernet carries everywhere.
_MTU = 1500
#: The host within the IPv6 prefix. libslirp advertises the router fe80::2, and answers whoever looks for it
#: only where the host's address ends likewise (4.7, ``in6_equal_router`` in ip6.h).
_HOST6 = 2


@dataclass(frozen=True)
class Segment:
    """One network, complete."""

    ipv4: Ipv4Plan
    ipv6: IPv6Network | None
    restricted: bool
    dhcp: bool
    mtu: int | None
    rules: tuple[AccessRule, ...]

    @classmethod
    def plan(cls, config: UplinkConfig) -> Segment:
        """Decide what ``config`` leaves open. Raises ConfigurationError when an address has no room."""
        wanted = config.ipv4 or subnets.choose_plan(_taken())
        last = int(wanted.network.broadcast_address) - 1 - _OWN_ADDRESSES
        if last < int(wanted.dhcp_start):
            raise ConfigurationError(
                f"The subnet {wanted.network} has no room for guests: its last two addresses are name servers'",
                next_step="Choose a wider one with --vmnet-mask, 255.255.255.248 or wider",
            )
        ipv4 = replace(wanted, dhcp_end=min(wanted.dhcp_end, IPv4Address(last)))
        for one in config.reservations:
            if int(one.address) > last and one.address in ipv4.network:
                raise ConfigurationError(
                    f"--reserve {one.mac}={one.address}: the two last addresses of {ipv4.network} are not free",
                    next_step="The user-mode network has its name servers there; choose another address",
                )
        dnsmasq.check_reservations(ipv4, config.reservations)
        restricted, rules = config.mode is Mode.HOST, with_defaults(config.rules)
        return cls(ipv4, config.nat66_prefix, restricted, config.dhcp, config.mtu, rules)

    @property
    def reaches_loopback(self) -> bool:
        """Whether the gateway's address leads to services on the host's own 127.0.0.1."""
        return allows(self.rules, LOOPBACK4)

    @property
    def nameserver(self) -> IPv4Address:
        """Where libslirp answers DNS, by asking the host's first server.

        Not at the gateway's address: no service of the host could be reached there then.
        """
        return IPv4Address(int(self.ipv4.network.broadcast_address) - 2)

    @property
    def services(self) -> IPv4Address:
        """dnsmasq's address, where there is one."""
        return IPv4Address(int(self.ipv4.network.broadcast_address) - 1)

    def dnsmasq(self, reservations: Sequence[Reservation]) -> dnsmasq.Service:
        """What it serves."""
        return dnsmasq.Service(
            services.DEVICE,
            self.ipv4,
            None,
            self.dhcp,
            not self.restricted,
            reservations,
            self.mtu,
            self.services,
            self.nameserver,
        )

    @property
    def engine_mtu(self) -> int:
        """Longest packet in bytes."""
        return self.mtu or _MTU

    def loopback_fact(self) -> str:
        """For the log at start."""
        if self.reaches_loopback:
            return f"guests reach services on 127.0.0.1 as {self.ipv4.gateway}"
        return "guests may not reach it (--allow=127.0.0.1 to change that)"

    def to_engine(self, *, dhcp: bool) -> SlirpSegment:
        """As the engine wants it; ``dhcp``: whether libslirp hands out addresses."""
        six = self.ipv6
        return {
            "restricted": self.restricted,
            "network": str(self.ipv4.network.network_address),
            "mask": str(self.ipv4.network.netmask),
            "host": str(self.ipv4.gateway),
            "nameserver": str(self.nameserver),
            "dhcp_start": str(self.ipv4.dhcp_start),
            "dhcp": dhcp,
            "prefix6": None if six is None else str(six.network_address),
            "host6": None if six is None else str(six[_HOST6]),
            "nameserver6": None if six is None else str(six[3]),
            "domain": dnsmasq.DOMAIN,
            "mtu": self.engine_mtu,
            "rules": [
                (str(rule.network.network_address), rule.network.prefixlen, rule.allow) for rule in self.rules
            ],
        }


def _taken() -> list[subnets.Occupied]:
    """What this host reaches, which guests would not if their own network were the same."""
    try:
        return subnets.occupied_by(link.routes(4), link.addresses())
    except (UnavailableError, UplinkError) as error:
        _log.debug("Cannot look at the host's networks: %s", error)
        return []
