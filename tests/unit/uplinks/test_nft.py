"""The packet filter as text, and the host's own filters as nft lists them."""

from __future__ import annotations

import json
from ipaddress import IPv4Network, IPv6Network

import pytest

from vde_vmnet.uplinks.linux.nft import Filter, blocking_chains, render, table_name

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
