"""``--allow`` and ``--deny``: what guests may connect to. Pure."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

from vde_vmnet.errors import ConfigurationError

__all__ = ["LOOPBACK4", "AccessRule", "add_options", "allows", "by_precedence", "parse", "with_defaults"]

LOOPBACK4 = IPv4Address("127.0.0.1")
#: More is a list for a firewall; every new connection looks through it.
_MOST = 256


@dataclass(frozen=True)
class AccessRule:
    """One option: whether guests may connect to addresses of this network."""

    network: IPv4Network | IPv6Network
    allow: bool


#: The host's own loopback, in every way to write it: 0.0.0.0 and :: mean it too when connected to.
_DENIED = ("127.0.0.0/8", "0.0.0.0/8", "::1/128", "::/128")


def add_options(add: Callable[..., object]) -> None:
    """``add`` is ``add_argument``."""
    for option, verb in (("--allow", "may"), ("--deny", "may not")):
        add(
            option,
            metavar="CIDR",
            action="append",
            default=[],
            help=f"guests {verb} connect to these addresses; can be repeated, and the most specific one counts"
            + (" (default: all but the host's loopback)" if option == "--allow" else ""),
        )


def parse(arguments: argparse.Namespace) -> tuple[AccessRule, ...]:
    """Raises ConfigurationError that names the option and what is wrong with it."""
    rules = [
        AccessRule(_network(option, text), option == "--allow")
        for option, texts in (("--allow", arguments.allow), ("--deny", arguments.deny))
        for text in texts
    ]
    if len(rules) > _MOST:
        raise ConfigurationError(
            f"--allow and --deny name {len(rules)} networks; at most {_MOST} are taken",
            next_step="Put longer lists into the host's firewall",
        )
    allowed = {rule.network for rule in rules if rule.allow}
    for rule in rules:
        if not rule.allow and rule.network in allowed:
            raise ConfigurationError(f"--allow and --deny both name {rule.network}")
    return tuple(rules)


def with_defaults(rules: Sequence[AccessRule]) -> tuple[AccessRule, ...]:
    """The rules that hold where ``rules`` were given: guests do not reach the host's loopback unasked."""
    said = {rule.network for rule in rules}
    defaults = (ip_network(text) for text in _DENIED)
    return (*rules, *(AccessRule(network, allow=False) for network in defaults if network not in said))


def by_precedence(rules: Iterable[AccessRule]) -> list[AccessRule]:
    """The first one that holds an address decides about it."""
    return sorted(rules, key=lambda rule: (-rule.network.prefixlen, rule.allow))


def allows(rules: Iterable[AccessRule], address: IPv4Address | IPv6Address) -> bool:
    """Whether guests may connect to ``address``; without a rule that holds it they may."""
    for rule in by_precedence(rules):
        if address.version == rule.network.version and address in rule.network:
            return rule.allow
    return True


def _network(option: str, text: str) -> IPv4Network | IPv6Network:
    try:
        return ip_network(text)
    except ValueError:
        pass
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        raise ConfigurationError(
            f'{option} "{text}" is not a network such as 10.0.0.0/8, nor an address'
        ) from None
    raise ConfigurationError(
        f'{option} "{text}" has bits set beyond the prefix',
        next_step=f"Write {network}, or {text.partition('/')[0]} for one address",
    )
