"""Which subnets are taken, which is chosen, and what a refusal says."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network
from typing import Any

import pytest

from vde_vmnet.errors import ConflictError
from vde_vmnet.uplinks.linux.subnets import Occupied, check_free, choose_plan, occupied_by


def taken(*networks: str) -> list[Occupied]:
    return [Occupied(IPv4Network(network), "eth0") for network in networks]


def address(local: str, length: int, **more: Any) -> dict[str, Any]:
    return {"ifname": "eth0", "addr_info": [{"family": "inet", "local": local, "prefixlen": length, **more}]}


@pytest.mark.parametrize(
    ("occupied", "chosen"),
    [
        ([], "192.168.105.0/24"),
        (["192.168.105.0/24"], "192.168.106.0/24"),
        (["192.168.105.77/32"], "192.168.106.0/24"),
        (["192.168.104.0/22"], "192.168.108.0/24"),
        (["192.168.105.0/24", "192.168.106.0/23", "192.168.128.0/17", "192.168.108.0/22", "192.168.112.0/20"],
         "192.168.104.0/24"),
        (["192.168.0.0/16"], "172.31.0.0/24"),
        (["192.168.0.0/16", "172.16.0.0/12"], "10.255.0.0/24"),
        (["192.168.0.0/16", "172.16.0.0/12", "10.128.0.0/9"], "10.127.0.0/24"),
    ],
)  # fmt: skip
def test_the_first_free_subnet(occupied: list[str], chosen: str) -> None:
    plan = choose_plan(taken(*occupied))
    assert str(plan.network) == chosen
    assert plan.gateway == plan.network[1]
    assert (plan.dhcp_start, plan.dhcp_end) == (plan.network[2], plan.network[254])


def test_no_free_subnet() -> None:
    with pytest.raises(ConflictError, match="Every private IPv4 network"):
        choose_plan(taken("192.168.0.0/16", "172.16.0.0/12", "10.0.0.0/8"))


@pytest.mark.parametrize(
    ("routes", "links", "found"),
    [
        ([{"dst": "default", "dev": "eth0"}], [], []),
        ([{"dst": "0.0.0.0/1", "dev": "tun0"}, {"dst": "128.0.0.0/1", "dev": "tun0"}], [], []),
        ([{"dst": "10.0.0.0/8", "dev": "tun0"}], [], [("10.0.0.0/8", "tun0", "route")]),
        ([{"dst": "10.1.2.3", "dev": "tun0"}], [], [("10.1.2.3/32", "tun0", "route")]),
        ([{"type": "blackhole", "dst": "10.1.0.0/16"}], [], [("10.1.0.0/16", "blackhole", "route")]),
        ([{"type": "broadcast", "dst": "10.1.2.255", "dev": "eth0", "table": "local"}], [], []),
        ([{"type": "local", "dst": "10.9.0.0/16", "dev": "lo", "table": "local"}], [],
         [("10.9.0.0/16", "lo", "route")]),
        ([{"dst": "fe80::/64", "dev": "eth0"}], [], []),
        ([{"type": "multicast", "dst": "ff00::/8", "dev": "eth0"}], [], []),
        ([{"dst": "fd00:1::/64", "dev": "eth0"}], [], [("fd00:1::/64", "eth0", "route")]),
        ([], [address("10.1.2.3", 24)], [("10.1.2.0/24", "eth0", "address")]),
        ([], [address("169.254.3.4", 16, scope="link")], []),
        ([], [{"ifname": "eth0"}], []),
        ([{"dst": "10.1.2.0/24", "dev": "eth0"}], [address("10.1.2.3", 24)],
         [("10.1.2.0/24", "eth0", "address"), ("10.1.2.0/24", "eth0", "route")]),
    ],
)  # fmt: skip
def test_reading_what_the_host_has(
    routes: list[dict[str, Any]], links: list[dict[str, Any]], found: list[tuple[str, str, str]]
) -> None:
    assert [(str(one.network), one.device, one.kind) for one in occupied_by(routes, links)] == found


@pytest.mark.parametrize("other", ["10.1.2.0/24", "10.1.2.128/25", "10.1.0.0/16", "10.1.2.9/32"])
def test_a_collision_names_all_three(other: str) -> None:
    with pytest.raises(ConflictError) as refused:
        check_free(IPv4Network("10.1.2.0/24"), taken("10.1.3.0/24", other), option="--vmnet-gateway")
    for word in ("--vmnet-gateway", "10.1.2.0/24", other, "eth0"):
        assert word in str(refused.value)


def test_what_does_not_collide() -> None:
    check_free(IPv4Network("10.1.2.0/24"), taken("10.1.3.0/24", "10.0.0.0/16"), option="--vmnet-gateway")
    check_free(IPv6Network("fd00::/64"), taken("10.0.0.0/8"), option="--vmnet-nat66-prefix")
    six = [Occupied(IPv6Network("fd00::/48"), "eth0")]
    check_free(IPv4Network("10.1.2.0/24"), six, option="--vmnet-gateway")
    with pytest.raises(ConflictError):
        check_free(IPv6Network("fd00::/64"), six, option="--vmnet-nat66-prefix")
