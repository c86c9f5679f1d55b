"""The user-mode uplink where not every frame arrives: streams go on, and so does the way out."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator

import pytest

from tests.e2e.world import World
from tests.support.station import Station
from tests.system.user_uplink import UserNetwork, wait_for_address6
from vde_vmnet.demo.traffic import HttpServer, fetch

pytestmark = [pytest.mark.root, pytest.mark.timeout(150)]

PREFIX6 = "fd12:3456:789a:1::"
PORT = 8090
RECEIVE_MEMORY = "net.ipv4.tcp_rmem"
LOSSY = """
table inet lossy {
    chain in { type filter hook input priority 0; meta l4proto tcp numgen random mod 100 < 3 counter drop; }
    chain out { type filter hook output priority 0; meta l4proto tcp numgen random mod 100 < 3 counter drop; }
}
"""


@pytest.fixture(scope="module")
def network() -> Iterator[UserNetwork]:
    with UserNetwork(f"--vmnet-nat66-prefix={PREFIX6}") as opened:
        yield opened


@pytest.fixture(scope="module")
def alpha(network: UserNetwork) -> Iterator[Station]:
    with network.station(1, name="alpha") as station:
        station.request_lease()
        yield station


def test_the_ipv6_router_answers_who_looks_for_it(alpha: Station) -> None:
    wait_for_address6(alpha, PREFIX6)
    (route,) = json.loads(alpha.namespace.run("ip", "-6", "-j", "route", "show", "default"))
    for address in (route["gateway"], PREFIX6 + "2"):
        alpha.namespace.run("ip", "-6", "neighbour", "flush", "dev", "eth0")
        assert alpha.pings(address, "-I", "eth0") or "REACHABLE" in alpha.namespace.run(
            "ip", "-6", "neighbour", "show", "to", address
        )


@pytest.mark.parametrize(("octets", "memory"), [(1_000_000, ""), (100_000, "4096 4096 4096")])
def test_tcp_arrives_whole_though_a_guest_loses_segments(
    network: UserNetwork, alpha: Station, octets: int, memory: str
) -> None:
    """A guest's kernel drops three in a hundred, in and out; ``memory``: and takes little at once."""
    page = random.Random(octets).randbytes(octets)
    wait_for_address6(alpha, PREFIX6)
    usual = alpha.namespace.run("busybox", "sysctl", "-n", RECEIVE_MEMORY).strip()
    alpha.namespace.run("busybox", "sysctl", "-w", f"{RECEIVE_MEMORY}={memory or usual}")
    alpha.namespace.run("nft", LOSSY)
    try:
        for address in (World.WORLD4, World.WORLD6):
            with HttpServer(network.world.namespace.path, address, PORT, page):
                assert fetch(alpha.namespace.path, address, PORT, seconds=60) == page
        assert "counter packets 0 " not in alpha.namespace.run("nft", "list table inet lossy")
    finally:
        alpha.namespace.run("nft", "delete table inet lossy")
        alpha.namespace.run("busybox", "sysctl", "-w", f"{RECEIVE_MEMORY}={usual}")
