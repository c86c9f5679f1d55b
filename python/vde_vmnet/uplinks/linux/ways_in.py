"""Forwards that are added and removed while the network runs: elements of maps in the network's own table.

In the keeper, which alone may change the table. What the maps need (chains, and a setting of our TAP) is made
with the first one. Connections that are under way stay with the guest that they reached.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from ipaddress import IPv4Address

from vde_vmnet.addresses import Forward, NamedForward
from vde_vmnet.errors import ConflictError, UnavailableError
from vde_vmnet.uplinks import host_ports
from vde_vmnet.uplinks.linux import nft, sysctl

__all__ = ["WaysInLater"]

_EVERY_ADDRESS = IPv4Address("0.0.0.0")  # noqa: S104 - where the host listens for guests when nothing was said
_PROTOCOLS = ("tcp", "udp")


class WaysInLater:
    """Of one network."""

    def __init__(self, table: nft.Table) -> None:
        self._table = table
        self._rules = table.rules
        self._prepared = False
        #: What has the host's port meanwhile.
        self._open: dict[Forward, socket.socket] = {}

    def change(self, rule: Forward, *, on: bool) -> None:
        """Open a way in, or close one that was opened so.

        Raises ConfigurationError, ConflictError, PrivilegeError, UnavailableError (in host mode), UplinkError.
        """
        if not self._rules.nat:
            raise UnavailableError(
                f"{rule} cannot be opened: nothing leads to guests in host mode",
                next_step="Use --vmnet-mode=shared",
            )
        if on:
            self._add(rule)
        elif rule in self._open:
            self._table.transact([f"delete element {self._element(rule)}"], self._map(rule))
            self._open.pop(rule).close()

    def _add(self, rule: Forward) -> None:
        host_ports.check_guests([rule], self._rules.ipv4)
        others: list[Forward | NamedForward] = [*self._rules.forwards, *self._rules.followed, *self._open]
        for other in others:
            if _same_port(rule, other):
                raise ConflictError(
                    f"{rule}: {other} has that port of the host", next_step="Choose another, or remove that"
                )
        taken = host_ports.take(rule, _EVERY_ADDRESS)
        try:
            if not self._prepared:
                sysctl.take_loopback(self._rules.device)
                self._table.transact(_preparation(self._rules), "later_tcp")
                self._prepared = True
            self._table.transact([f"add element {self._element(rule)}"], self._map(rule))
        except BaseException:
            taken.close()
            raise
        self._open[rule] = taken

    @staticmethod
    def _map(rule: Forward) -> str:
        return f"later_{rule.protocol}" + ("_at" if rule.host is not None else "")

    def _element(self, rule: Forward) -> str:
        key = f"{rule.host} . {rule.host_port}" if rule.host is not None else str(rule.host_port)
        target = f"{rule.guest} . {rule.guest_port}"
        return f"inet {self._rules.table} {self._map(rule)} {{ {key} : {target} }}"


def _same_port(one: Forward, other: Forward | NamedForward) -> bool:
    same = (one.protocol, one.host_port) == (other.protocol, other.host_port)
    return same and (one.host == other.host or one.host is None or other.host is None)


def _preparation(rules: nft.Filter) -> Sequence[str]:
    """What makes the maps lead somewhere, one command a line; see ``nft.render`` for what each rule is for."""
    table, device = f"inet {rules.table}", f'"{rules.device}"'
    commands = []
    if not rules.has_forwards:
        commands += [
            f"add chain {table} raw {{ type filter hook prerouting priority -300 ; policy accept ; }}",
            f"add rule {table} raw iifname {device} ip daddr 127.0.0.0/8 drop",
            f"add chain {table} prerouting {{ type nat hook prerouting priority -100 ; policy accept ; }}",
            f"add chain {table} output {{ type nat hook output priority -100 ; policy accept ; }}",
            f"add rule {table} postrouting ip saddr 127.0.0.0/8 oifname {device} masquerade",
            f"insert rule {table} forward oifname {device} ct status dnat accept",
        ]
    for protocol in _PROTOCOLS:
        name = f"later_{protocol}"
        target = "ipv4_addr . inet_service"
        commands += [
            f"add map {table} {name} {{ type inet_service : {target} ; }}",
            f"add map {table} {name}_at {{ type ipv4_addr . inet_service : {target} ; }}",
        ]
        for chain, condition in (("prerouting", f"iifname != {device} "), ("output", "")):
            start = f"add rule {table} {chain} {condition}meta nfproto ipv4 meta l4proto {protocol}"
            commands += [
                f"{start} dnat ip to ip daddr . {protocol} dport map @{name}_at",
                f"{start} fib daddr type local dnat ip to {protocol} dport map @{name}",
            ]
    return commands
