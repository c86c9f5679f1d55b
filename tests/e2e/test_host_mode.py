"""Host mode: guests and host reach each other, and nothing goes beyond, whatever a guest configures."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from tests.e2e.world import PAGE, World
from tests.support.daemon import GATEWAY, Daemon
from tests.support.guest import boot, fetch_in_guest, wait_for_address6
from tests.support.netns import Namespace
from vde_vmnet.demo.guest import Guest
from vde_vmnet.demo.traffic import HttpServer, fetch

pytestmark = [pytest.mark.root, pytest.mark.guest]

PREFIX6 = "fd12:3456:789a:2::"


@dataclass
class Closed:
    """The module's network."""

    host: Namespace
    world: World
    guest: Guest
    lease: dict[str, str]


@pytest.fixture(scope="module")
def closed() -> Iterator[Closed]:
    with ExitStack() as stack:
        host = stack.enter_context(Namespace("host"))
        world = stack.enter_context(World(host))
        # A host that is a router already, and a world that knows the way back: only a rule can stop a guest.
        host.run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
        world.namespace.run("ip", "route", "add", "192.168.105.0/24", "via", World.HOST4)
        world.namespace.run("ip", "-6", "route", "add", f"{PREFIX6}/64", "via", World.HOST6)
        daemon = stack.enter_context(
            Daemon(host, "--vmnet-mode=host", f"--vmnet-gateway={GATEWAY}", f"--vmnet-nat66-prefix={PREFIX6}")
        )
        guest = stack.enter_context(boot(daemon, 1))
        lease = guest.request_lease()
        assert lease is not None
        yield Closed(host, world, guest, lease)


def test_no_router_is_offered(closed: Closed) -> None:
    assert closed.lease["router"] == ""
    assert "default" not in closed.guest.check("ip route")


def test_host_and_guest_reach_each_other(closed: Closed) -> None:
    with HttpServer(closed.host.path, GATEWAY, 8080, PAGE):
        assert fetch_in_guest(closed.guest, f"http://{GATEWAY}:8080/") == PAGE.decode()
    closed.guest.check("httpd -p 80 -h /var/www")
    assert fetch(closed.host.path, closed.lease["address"], 80) == b"hello from the guest\n"


def test_the_host_has_a_name(closed: Closed) -> None:
    assert GATEWAY in closed.guest.check("nslookup host.vmnet.internal").partition("Name:")[2]


def test_names_of_the_world_are_not_asked_for(closed: Closed) -> None:
    # A name server that asks others would be a way out of its own.
    assert closed.guest.run(f"nslookup {World.NAME}").status != 0


def test_a_guest_that_insists_on_a_way_out_gets_none(closed: Closed) -> None:
    closed.guest.check(f"ip route add default via {GATEWAY}")
    assert closed.guest.run(f"ping -c 1 -W 2 {World.WORLD4}").status != 0
    assert fetch_in_guest(closed.guest, closed.world.url4, seconds=3) is None
    assert closed.world.web4.clients == []


def test_the_same_by_ipv6(closed: Closed) -> None:
    wait_for_address6(closed.guest, PREFIX6.rstrip(":"))
    assert closed.guest.run(f"ping -6 -c 1 -W 2 {PREFIX6}1").status == 0
    closed.guest.run(f"ip -6 route add default via {PREFIX6}1")
    assert closed.guest.run(f"ping -6 -c 1 -W 2 {World.WORLD6}").status != 0
    assert closed.world.web6.clients == []


def test_the_world_does_not_come_in(closed: Closed) -> None:
    address = closed.lease["address"]
    assert not closed.world.namespace.succeeds("ping", "-c", "1", "-W", "2", address)
