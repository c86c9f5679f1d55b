"""Bridged mode: guests are on the host's segment, with addresses of a DHCP server that is not ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.e2e.world import dnsmasq
from tests.support.daemon import Daemon, Picture
from tests.support.guest import boot, start
from tests.support.netns import Namespace, wire
from vde_vmnet.demo.traffic import fetch

pytestmark = [pytest.mark.root, pytest.mark.guest]

ROUTER = "198.51.100.1"
RANGE = "198.51.100.50,198.51.100.60,10m"


@pytest.fixture
def router() -> Iterator[Namespace]:
    """Who hands out addresses on the segment, on a cable named ``lan0``."""
    with Namespace("router") as namespace:
        yield namespace


def serve_addresses(router: Namespace) -> None:
    router.run("ip", "address", "add", f"{ROUTER}/24", "dev", "lan0")
    dnsmasq(router, "--port=0", "--interface=lan0", "--bind-interfaces", f"--dhcp-range={RANGE}")


def test_on_a_bridge(host: Namespace, router: Namespace) -> None:
    wire(host, "nic0", router, "lan0")
    host.run("ip", "link", "add", "br0", "type", "bridge")
    host.run("ip", "link", "set", "br0", "up")
    host.run("ip", "link", "set", "nic0", "master", "br0")
    host.run("ip", "address", "add", "198.51.100.2/24", "dev", "br0")
    serve_addresses(router)
    with Daemon(host, "--vmnet-mode=bridged", "--vmnet-interface=br0") as daemon:
        before = Picture.take(host, daemon.place)
        with boot(daemon, 1) as guest:
            lease = guest.request_lease()
            assert lease is not None
            assert lease["address"].startswith("198.51.100.5")
            assert lease["server"] == ROUTER
            for neighbour in (ROUTER, "198.51.100.2"):
                assert guest.run(f"ping -c 1 -W 2 {neighbour}").status == 0
            guest.check("httpd -p 80 -h /var/www")
            for who in (host, router):
                assert fetch(who.path, lease["address"], 80) == b"hello from the guest\n"
        assert Picture.take(host, daemon.place).links == before.links
    assert "vmnet" not in host.run("ip", "link")
    assert "nic0" in host.run("ip", "link", "show", "master", "br0")


def test_two_guests_on_a_network_card(host: Namespace, router: Namespace) -> None:
    wire(host, "nic0", router, "lan0")
    serve_addresses(router)
    with Daemon(host, "--vmnet-mode=bridged", "--vmnet-interface=nic0") as daemon, ExitStack() as stack:
        guests = [stack.enter_context(start(daemon, number)) for number in (1, 2)]
        addresses = []
        for guest in guests:
            guest.wait_ready()
            lease = guest.request_lease()
            assert lease is not None, "no lease through the network card"
            assert lease["server"] == ROUTER
            addresses.append(lease["address"])
        assert len(set(addresses)) == 2
        for guest, other in zip(guests, reversed(addresses), strict=True):
            assert guest.run(f"ping -c 2 -i 0.2 -W 2 {ROUTER}").status == 0
            assert guest.run(f"ping -c 2 -i 0.2 -W 2 {other}").status == 0
            guest.check("httpd -p 80 -h /var/www")
        for address in addresses:
            assert fetch(router.path, address, 80) == b"hello from the guest\n"
    assert "vmnet" not in host.run("ip", "link")
