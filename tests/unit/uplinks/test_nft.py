"""The packet filter as text, and the host's own filters as nft lists them."""

from __future__ import annotations

import json
from ipaddress import IPv4Address, IPv4Network, IPv6Network

import pytest

from vde_vmnet.addresses import Forward, NamedForward
from vde_vmnet.config.access import AccessRule
from vde_vmnet.errors import UplinkError
from vde_vmnet.uplinks.linux.nft import Filter, Table, blocking_chains, render, table_name

V4 = IPv4Network("192.168.105.0/24")
V6 = IPv6Network("fd12:3456:789a::/64")

SHARED = """\
table inet vde_vmnet_1a2b3c4d {
\tflags owner
\tchain forward {
\t\ttype filter hook forward priority filter; policy accept;
\t\tiifname "vmnet-1a2b3c4d" ip saddr 192.168.105.0/24 accept
\t\tiifname "vmnet-1a2b3c4d" ip6 saddr fd12:3456:789a::/64 accept
\t\toifname "vmnet-1a2b3c4d" ct state established,related accept
\t\tiifname "vmnet-1a2b3c4d" drop
\t\toifname "vmnet-1a2b3c4d" drop
\t}
\tchain input {
\t\ttype filter hook input priority filter; policy accept;
\t\tiifname "vmnet-1a2b3c4d" ip saddr != { 192.168.105.0/24, 0.0.0.0 } drop
\t\tiifname "vmnet-1a2b3c4d" ip6 saddr != { fd12:3456:789a::/64, fe80::/10, :: } drop
\t}
\tchain postrouting {
\t\ttype nat hook postrouting priority srcnat; policy accept;
\t\tip saddr 192.168.105.0/24 oifname != "vmnet-1a2b3c4d" masquerade
\t\tip6 saddr fd12:3456:789a::/64 oifname != "vmnet-1a2b3c4d" masquerade
\t}
}
"""

GUARDED = """\
table inet vde_vmnet_1a2b3c4d {
\tflags owner
\tchain forward {
\t\ttype filter hook forward priority filter; policy accept;
\t\tiifname "vmnet-1a2b3c4d" ct state established,related ct direction reply accept
\t\tiifname "vmnet-1a2b3c4d" ip daddr 10.1.0.0/16 ip saddr 192.168.105.0/24 accept
\t\tiifname "vmnet-1a2b3c4d" ip daddr 10.0.0.0/8 drop
\t\tiifname "vmnet-1a2b3c4d" ip saddr 192.168.105.0/24 accept
\t\toifname "vmnet-1a2b3c4d" ct state established,related accept
\t\toifname "vmnet-1a2b3c4d" ct status dnat accept
\t\tiifname "vmnet-1a2b3c4d" drop
\t\toifname "vmnet-1a2b3c4d" drop
\t}
\tchain input {
\t\ttype filter hook input priority filter; policy accept;
\t\tiifname "vmnet-1a2b3c4d" ip saddr != { 192.168.105.0/24, 0.0.0.0 } drop
\t\tiifname "vmnet-1a2b3c4d" meta nfproto ipv6 drop
\t\tiifname "vmnet-1a2b3c4d" ct state established,related ct direction reply accept
\t\tiifname "vmnet-1a2b3c4d" fib daddr type != local accept
\t\tiifname "vmnet-1a2b3c4d" ip daddr 192.168.105.1 accept
\t\tiifname "vmnet-1a2b3c4d" ip6 daddr fe80::/10 accept
\t\tiifname "vmnet-1a2b3c4d" ip daddr 10.1.0.0/16 accept
\t\tiifname "vmnet-1a2b3c4d" ip daddr 10.0.0.0/8 drop
\t}
\tchain postrouting {
\t\ttype nat hook postrouting priority srcnat; policy accept;
\t\tip saddr 192.168.105.0/24 oifname != "vmnet-1a2b3c4d" masquerade
\t\tip saddr 127.0.0.0/8 oifname "vmnet-1a2b3c4d" masquerade
\t}
\tchain raw {
\t\ttype filter hook prerouting priority raw; policy accept;
\t\tiifname "vmnet-1a2b3c4d" ip daddr 127.0.0.0/8 drop
\t}
\tchain prerouting {
\t\ttype nat hook prerouting priority -100; policy accept;
\t\tiifname != "vmnet-1a2b3c4d" meta nfproto ipv4 fib daddr type local tcp dport 80 dnat ip to 192.168.105.9:80
\t\tiifname != "vmnet-1a2b3c4d" meta nfproto ipv4 ip daddr 10.9.9.9 udp dport 53 dnat ip to 192.168.105.9:5353
\t}
\tchain output {
\t\ttype nat hook output priority -100; policy accept;
\t\tmeta nfproto ipv4 fib daddr type local tcp dport 80 dnat ip to 192.168.105.9:80
\t\tmeta nfproto ipv4 ip daddr 10.9.9.9 udp dport 53 dnat ip to 192.168.105.9:5353
\t}
}
"""

HOST = """\
table inet vde_vmnet_1a2b3c4d {
\tflags owner
\tchain forward {
\t\ttype filter hook forward priority filter; policy accept;
\t\tiifname "vmnet-1a2b3c4d" drop
\t\toifname "vmnet-1a2b3c4d" drop
\t}
\tchain input {
\t\ttype filter hook input priority filter; policy accept;
\t\tiifname "vmnet-1a2b3c4d" ip saddr != { 192.168.105.0/24, 0.0.0.0 } drop
\t\tiifname "vmnet-1a2b3c4d" meta nfproto ipv6 drop
\t}
}
"""


@pytest.mark.parametrize(("ipv6", "nat", "text"), [(V6, True, SHARED), (None, False, HOST)])
def test_the_table(ipv6: IPv6Network | None, nat: bool, text: str) -> None:
    name = table_name("1a2b3c4d")
    assert render(Filter(name, "vmnet-1a2b3c4d", V4, ipv6, nat)) == text


def test_followed_forwards_lead_where_their_maps_say() -> None:
    followed = tuple(map(NamedForward.parse, ("80:web:8080", "udp:10.9.9.9:53:52:54:00:aa:bb:01:5353")))
    text = render(Filter("t", "d", V4, None, nat=True, followed=followed))
    for line in (
        "map follow0 { type inet_service : ipv4_addr . inet_service; }",
        "map follow1 { type inet_service : ipv4_addr . inet_service; }",
        'oifname "d" ct status dnat accept',
        'iifname != "d" meta nfproto ipv4 fib daddr type local tcp dport 80 dnat ip to tcp dport map @follow0',
        "meta nfproto ipv4 ip daddr 10.9.9.9 udp dport 53 dnat ip to udp dport map @follow1",
    ):
        assert f"\t{line}\n" in text


@pytest.mark.parametrize(
    ("place", "address", "why"),
    [
        (1, "192.168.105.9", "no forward number 1"),
        (-1, "192.168.105.9", "no forward number -1"),
        (0, "10.0.0.9", "no guest's address"),
        (0, "192.168.105.1", "no guest's address"),
        (0, "192.168.105.0", "no guest's address"),
        (0, "192.168.105.255", "no guest's address"),
    ],
)
def test_a_forward_is_led_to_guests_only(place: int, address: str, why: str) -> None:
    followed = (NamedForward.parse("80:web:80"),)
    rules = Filter("t", "d", V4, None, True, (IPv4Address("192.168.105.1"),), followed=followed)
    with pytest.raises(UplinkError, match=why):
        Table(rules, -1, -1).lead(place, IPv4Address(address))


def test_ipv4_alone_says_nothing_of_ipv6_prefixes() -> None:
    text = render(Filter("t", "d", V4, None, nat=True))
    assert "ip6 saddr" not in text
    assert text.count("masquerade") == 1


def test_chains_of_others_that_drop_by_default() -> None:
    def chain(hook: str, policy: str, table: str) -> dict[str, object]:
        return {"chain": {"family": "ip", "table": table, "name": "X", "hook": hook, "policy": policy}}

    listing = {
        "nftables": [
            {"metainfo": {"version": "1.0.6"}},
            {"chain": {"family": "ip", "table": "filter", "name": "regular"}},
            chain("forward", "drop", "filter"),
            chain("input", "drop", "ufw"),
            chain("output", "drop", "filter"),
            chain("forward", "accept", "other"),
        ]
    }
    assert blocking_chains(json.dumps(listing)) == ["forward of table ip filter", "input of table ip ufw"]
    assert blocking_chains('{"nftables": []}') == []


def test_rules_and_forwards() -> None:
    gateway = IPv4Address("192.168.105.1")
    rules = (
        AccessRule(IPv4Network("10.0.0.0/8"), allow=False),
        AccessRule(IPv4Network("10.1.0.0/16"), allow=True),
        AccessRule(IPv6Network("2001:db8::/32"), allow=False),
    )
    forwards = tuple(map(Forward.parse, ("80:192.168.105.9:80", "udp:10.9.9.9:53:192.168.105.9:5353")))
    name = table_name("1a2b3c4d")
    text = render(Filter(name, "vmnet-1a2b3c4d", V4, None, True, (gateway,), rules[:2], forwards))
    assert text == GUARDED
    # Of a family that the segment has not, nothing is forwarded anyway.
    assert "2001:db8" not in render(Filter(name, "x", V4, None, True, (gateway,), rules)).partition("input")[0]
