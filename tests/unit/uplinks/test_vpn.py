"""What doctor makes of routes, from the form in which `ip -j` prints them."""

from __future__ import annotations

from typing import Any

from vde_vmnet.errors import ConflictError
from vde_vmnet.uplinks.check import Level
from vde_vmnet.uplinks.linux.checkup import forwarding_check
from vde_vmnet.uplinks.linux.vpn import checks, default_device, running, tunnels

LINKS: list[dict[str, Any]] = [
    {"ifname": "lo", "link_type": "loopback"},
    {"ifname": "eth0", "link_type": "ether"},
    {
        "ifname": "vmnet-1a2b3c4d",
        "link_type": "ether",
        "linkinfo": {"info_kind": "tun", "info_data": {"type": "tap"}},
    },
    {"ifname": "tun0", "link_type": "none", "linkinfo": {"info_kind": "tun", "info_data": {"type": "tun"}}},
    {"ifname": "wg0", "link_type": "none", "linkinfo": {"info_kind": "wireguard"}},
    {"ifname": "ppp0", "link_type": "ppp"},
]
ADDRESSES: list[dict[str, Any]] = [
    {"ifname": "eth0", "addr_info": [{"family": "inet", "local": "10.0.2.15", "prefixlen": 24}]},
    {
        "ifname": "vmnet-1a2b3c4d",
        "addr_info": [
            {"family": "inet", "local": "192.168.105.1", "prefixlen": 24},
            {"family": "inet6", "local": "fe80::1", "prefixlen": 64},
        ],
    },
]
OWN = [
    {"dst": "default", "gateway": "10.0.2.2", "dev": "eth0"},
    {"dst": "10.0.2.0/24", "dev": "eth0"},
    {"dst": "192.168.105.0/24", "dev": "vmnet-1a2b3c4d"},
    {"type": "local", "dst": "192.168.105.1", "dev": "vmnet-1a2b3c4d", "table": "local"},
]


def test_which_links_are_tunnels_and_which_networks_are_ours() -> None:
    assert tunnels(LINKS) == {"tun0": "tun", "wg0": "wireguard", "ppp0": "ppp"}
    assert [(one.device, str(one.network)) for one in running(ADDRESSES)] == [
        ("vmnet-1a2b3c4d", "192.168.105.0/24")
    ]
    assert default_device(OWN) == "eth0"
    assert default_device([{"dst": "default", "dev": "wlan0", "metric": 600}, *OWN]) == "eth0"
    assert default_device([]) is None


def test_no_vpn() -> None:
    assert [one.said for one in checks(LINKS[:3], ADDRESSES, OWN)] == ["none"]
    assert [one.said for one in checks(LINKS, ADDRESSES, OWN)] == ["no route of one is in the way"]


def test_a_way_out_through_a_tunnel_is_a_note() -> None:
    halves = [{"dst": "0.0.0.0/1", "dev": "tun0"}, {"dst": "128.0.0.0/1", "dev": "tun0"}]
    (found,) = checks(LINKS, ADDRESSES, [*OWN, *halves])
    assert found.level is Level.NOTE and "tun0 (tun) takes this host's way out" in found.said
    (found,) = checks(LINKS, ADDRESSES, [*OWN, {"dst": "default", "dev": "wg0", "table": "51820"}])
    assert "wg0 (wireguard)" in found.said


def test_a_route_that_takes_the_guests_away() -> None:
    (found,) = checks(LINKS, ADDRESSES, [*OWN, {"dst": "192.168.105.0/25", "dev": "tun0"}])
    assert found.blame is ConflictError
    assert found.said == "of vmnet-1a2b3c4d is routed to tun0 (tun) too, as 192.168.105.0/25"
    # Shorter loses in one table, and wins in a table that is asked before.
    shorter = {"dst": "192.168.0.0/16", "dev": "tun0"}
    assert [one.level for one in checks(LINKS, ADDRESSES, [*OWN, shorter])] == [Level.OK]
    (found,) = checks(LINKS, ADDRESSES, [*OWN, {**shorter, "table": "52"}])
    assert found.blame is ConflictError


def test_what_is_no_ipv4_route_is_passed_over() -> None:
    strange = [{"dst": "fe80::/64", "dev": "tun0"}, {"dst": "nonsense", "dev": "tun0"}, {"type": "unreachable"}]
    assert [one.level for one in checks(LINKS, ADDRESSES, [*OWN, *strange])] == [Level.OK]


def test_ip_forwarding() -> None:
    assert forwarding_check("1\n", ["vmnet-1a2b3c4d"]).said == "on"
    assert forwarding_check("0\n", []).level is Level.OK
    off = forwarding_check("0\n", ["vmnet-1a2b3c4d"])
    assert off.level is Level.WARNING and "sysctl net.ipv4.ip_forward=1" in off.next_step
