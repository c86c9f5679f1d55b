"""A shared network with two guests: who gets which address and name, and who reaches whom.

One network for the whole module: these tests look, and put back what they change.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from ipaddress import IPv4Address

import pytest

from tests.e2e.world import PAGE, World
from tests.support.daemon import GATEWAY, Daemon
from tests.support.guest import fetch_in_guest, mac, start, wait_for_address6
from tests.support.netns import Namespace
from vde_vmnet.demo.accounts import credentials_of
from vde_vmnet.demo.guest import Guest
from vde_vmnet.demo.traffic import HttpServer, fetch

pytestmark = [pytest.mark.root, pytest.mark.guest]

DHCP_END = "192.168.105.20"
RESERVED = "192.168.105.100"
STATIC = "192.168.105.200"
PREFIX6 = "fd12:3456:789a:1::"
HOST6 = f"{PREFIX6}1"
WEB_PORT = 8080


@dataclass
class Shared:
    """The module's network."""

    host: Namespace
    world: World
    daemon: Daemon
    #: Has an address of the range.
    alpha: Guest
    alpha_lease: dict[str, str]
    #: Has the reserved address.
    printer: Guest
    printer_lease: dict[str, str]


@pytest.fixture(scope="module")
def shared() -> Iterator[Shared]:
    with ExitStack() as stack:
        host = stack.enter_context(Namespace("host"))
        world = stack.enter_context(World(host))
        daemon = stack.enter_context(
            Daemon(
                host,
                f"--vmnet-gateway={GATEWAY}",
                f"--vmnet-dhcp-end={DHCP_END}",
                f"--vmnet-nat66-prefix={PREFIX6}",
                f"--reserve={mac(2)}={RESERVED},printer",
                prefix=world.resolver(),
            )
        )
        alpha = stack.enter_context(start(daemon, 1, name="alpha"))
        printer = stack.enter_context(start(daemon, 2, name="anything"))
        leases = []
        for guest in (alpha, printer):
            guest.wait_ready()
            lease = guest.request_lease()
            assert lease is not None, "no lease"
            leases.append(lease)
            guest.check("httpd -p 80 -h /var/www")
        yield Shared(host, world, daemon, alpha, leases[0], printer, leases[1])


def pings(guest: Guest, address: str) -> bool:
    return guest.run(f"ping -c 2 -i 0.2 -W 2 {address}").status == 0


def test_qemu_has_no_privilege(shared: Shared) -> None:
    for guest in (shared.alpha, shared.printer):
        credentials = guest.credentials()
        assert credentials.rootless
        assert credentials.bounding == 0
        assert not credentials.groups


def test_the_worker_has_no_privilege(shared: Shared) -> None:
    assert credentials_of(shared.daemon.worker).rootless


def test_lease_is_inside_the_range(shared: Shared) -> None:
    lease = shared.alpha_lease
    assert IPv4Address("192.168.105.2") <= IPv4Address(lease["address"]) <= IPv4Address(DHCP_END)
    assert lease["prefix"] == "24"
    assert lease["router"] == lease["dns"] == lease["server"] == GATEWAY
    assert int(lease["seconds"]) >= 600


def test_reserved_address_goes_to_its_mac(shared: Shared) -> None:
    assert shared.printer_lease["address"] == RESERVED


@pytest.mark.parametrize("name", ["printer", "printer.vmnet.internal"])
def test_reserved_name_resolves_from_another_guest(shared: Shared, name: str) -> None:
    assert RESERVED in shared.alpha.check(f"nslookup {name}")
    # The C library's way too, with the search domain that DHCP gave.
    assert shared.alpha.check(f"ping -c 1 -W 2 {name}").startswith(f"PING {name} ({RESERVED})")


def test_a_guest_is_found_by_the_name_it_gave_itself(shared: Shared) -> None:
    assert shared.alpha_lease["address"] in shared.printer.check("nslookup alpha.vmnet.internal")


def test_the_host_has_a_name(shared: Shared) -> None:
    assert GATEWAY in shared.alpha.check("nslookup host.vmnet.internal").partition("Name:")[2]


def test_names_of_the_world_are_asked_for(shared: Shared) -> None:
    assert World.WORLD4 in shared.alpha.check(f"nslookup {World.NAME}").partition("Name:")[2]
    page = fetch_in_guest(shared.alpha, f"http://{World.NAME}:{World.PORT}/")
    assert page == PAGE.decode()


def test_ping_between_guest_and_host(shared: Shared) -> None:
    assert pings(shared.alpha, GATEWAY)
    assert shared.host.succeeds("ping", "-c", "2", "-i", "0.2", "-W", "2", shared.alpha_lease["address"])


def test_http_from_guest_to_host(shared: Shared) -> None:
    with HttpServer(shared.host.path, GATEWAY, WEB_PORT, PAGE) as server:
        assert fetch_in_guest(shared.alpha, f"http://{GATEWAY}:{WEB_PORT}/") == PAGE.decode()
    assert server.clients == [shared.alpha_lease["address"]]


def test_http_from_host_to_guest(shared: Shared) -> None:
    for lease in (shared.alpha_lease, shared.printer_lease):
        assert fetch(shared.host.path, lease["address"], 80) == b"hello from the guest\n"


def test_large_transfers_arrive_whole_in_both_directions(shared: Shared) -> None:
    data = random.Random(4711).randbytes(16 << 20)
    digest = hashlib.sha256(data).hexdigest()
    with HttpServer(shared.host.path, GATEWAY, WEB_PORT, data):
        shared.alpha.check(f"wget -q -O /var/www/large http://{GATEWAY}:{WEB_PORT}/", seconds=30)
    assert shared.alpha.check("sha256sum /var/www/large").split()[0] == digest
    shared.printer.check(f"wget -q -O /tmp/large http://{shared.alpha_lease['address']}/large", seconds=30)
    assert shared.printer.check("sha256sum /tmp/large").split()[0] == digest
    got = fetch(shared.host.path, shared.alpha_lease["address"], 80, path="/large")
    assert hashlib.sha256(got).hexdigest() == digest
    shared.alpha.check("rm /var/www/large")
    shared.printer.check("rm /tmp/large")


def test_guests_reach_each_other(shared: Shared) -> None:
    assert pings(shared.alpha, RESERVED)
    assert pings(shared.printer, shared.alpha_lease["address"])
    assert fetch_in_guest(shared.alpha, f"http://{RESERVED}/") == "hello from the guest\n"
    # By the switch itself, not by way of the host: the neighbour is the other guest's own card.
    assert mac(2) in shared.alpha.check(f"ip neigh show {RESERVED}")


def test_nat_to_the_world(shared: Shared) -> None:
    shared.world.web4.clients.clear()
    assert fetch_in_guest(shared.alpha, shared.world.url4) == PAGE.decode()
    assert shared.world.web4.clients == [World.HOST4], "the world sees the host's address"
    assert pings(shared.alpha, World.WORLD4)


def test_static_address_above_the_range(shared: Shared) -> None:
    guest = shared.alpha
    guest.check(f"ip address add {STATIC}/24 dev eth0")
    try:
        assert guest.run(f"ping -c 2 -i 0.2 -W 2 -I {STATIC} {GATEWAY}").status == 0
        assert shared.host.succeeds("ping", "-c", "1", "-W", "2", STATIC)
        assert pings(shared.printer, STATIC)
        assert fetch(shared.host.path, STATIC, 80) == b"hello from the guest\n"
        assert guest.run(f"ping -c 1 -W 2 -I {STATIC} {World.WORLD4}").status == 0
    finally:
        guest.check(f"ip address del {STATIC}/24 dev eth0")


def test_ipv6_by_router_advertisement(shared: Shared) -> None:
    address = wait_for_address6(shared.alpha, PREFIX6.rstrip(":"))
    assert shared.alpha.run(f"ping -6 -c 2 -i 0.2 -W 2 {HOST6}").status == 0
    assert shared.host.succeeds("ping", "-c", "2", "-i", "0.2", "-W", "2", address)
    assert fetch(shared.host.path, address, 80) == b"hello from the guest\n"
    other = wait_for_address6(shared.printer, PREFIX6.rstrip(":"))
    assert shared.alpha.run(f"ping -6 -c 1 -W 2 {other}").status == 0


def test_nat66_to_the_world(shared: Shared) -> None:
    wait_for_address6(shared.alpha, PREFIX6.rstrip(":"))
    shared.world.web6.clients.clear()
    assert fetch_in_guest(shared.alpha, shared.world.url6) == PAGE.decode()
    assert shared.world.web6.clients == [World.HOST6]
