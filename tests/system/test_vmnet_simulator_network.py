"""The simulated framework's world, seen by guests: DHCP, gateway, NAT, host mode, bridged mode, isolation."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.daemon import wait_until
from tests.support.netns import Namespace, wire
from tests.support.vmnet_client import Relay, program
from tests.support.vmnet_sim import Fabric
from tests.system.linux_uplink import ask_for_lease, picture, processes

pytestmark = pytest.mark.root

FETCH = """
import hashlib, sys, urllib.request
print(hashlib.sha256(urllib.request.urlopen(sys.argv[1], timeout=10).read()).hexdigest())
"""
#: Asks for a name; prints the query's number (0x1234) as it comes back, and how many answers there are.
ASK_DNS = """
import socket, struct, sys
query = struct.pack("!6H", 0x1234, 0x100, 1, 0, 0, 0) + b"\\x04name\\x07example\\0" + struct.pack("!2H", 1, 1)
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
    asking.settimeout(5)
    asking.sendto(query, (sys.argv[1], 53))
    answer = asking.recv(512)
print(struct.unpack("!H", answer[:2])[0], struct.unpack("!H", answer[6:8])[0])
"""
#: Prints the first IPv6 address that begins so, when there is one that may be used.
AWAIT_ADDRESS = """
import subprocess, sys
with subprocess.Popen(["ip", "-6", "monitor", "address"], stdout=subprocess.PIPE, text=True) as watching:
    lines = subprocess.run(["ip", "-6", "address"], capture_output=True, text=True).stdout.splitlines()
    while not (found := [line for line in lines if sys.argv[1] in line and "tentative" not in line]):
        lines = [next(watching.stdout)]
    watching.kill()
print(found[0])
"""


@pytest.fixture
def guest() -> Iterator[Namespace]:
    with Namespace("guest") as namespace:
        yield namespace


def test_a_shared_guest_gets_a_lease_and_reaches_gateway_and_world(
    mac: Namespace, fabric: Fabric, guest: Namespace, tmp_path: Path
) -> None:
    with Namespace("world") as world:
        wire(mac, "en0", world, "eth0")
        mac.run("ip", "address", "add", "203.0.113.1/24", "dev", "en0")
        world.run("ip", "address", "add", "203.0.113.2/24", "dev", "eth0")
        relay = Relay(mac, fabric, guest, operation_mode="shared")
        assert relay.facts["start_address"] == "192.168.64.1"
        lease = ask_for_lease(guest, tmp_path)
        assert lease.startswith("LEASE 192.168.64.") and "router=192.168.64.1 dns=192.168.64.1" in lease
        assert guest.succeeds("ping", "-c", "1", "-W", "2", "192.168.64.1")
        assert guest.succeeds("ping", "-c", "1", "-W", "2", "203.0.113.2")
        relay.close()


def test_leases_are_of_the_range_after_the_gateway(
    mac: Namespace, fabric: Fabric, guest: Namespace, tmp_path: Path
) -> None:
    given = {"start_address": "10.1.2.5", "end_address": "10.1.2.6", "subnet_mask": "255.255.0.0"}
    relay = Relay(mac, fabric, guest, operation_mode="shared", **given)
    assert ask_for_lease(guest, tmp_path).startswith("LEASE 10.1.2.6/16 router=10.1.2.5 ")
    wait_until(lambda: "\tip_address=10.1.2.6\n" in fabric.leases.read_text(), "the lease is written down")
    relay.close()


def test_nothing_is_left_when_the_last_interface_stops_or_its_program_is_killed(
    mac: Namespace, fabric: Fabric, guest: Namespace
) -> None:
    def look() -> dict[str, str]:
        return {what: state for what, state in picture(mac).items() if what != "processes"}

    before = look()
    for end in (Relay.close, Relay.kill):
        relay = Relay(mac, fabric, guest, operation_mode="shared")
        assert look()["links"] != before["links"]
        end(relay)
        fabric.settle()
        assert look()["links"] == before["links"]
        assert look()["rules"] == before["rules"]
    fabric.close()
    assert look() == before
    assert not processes(mac, "dnsmasq") and not processes(mac, "relay")


def test_bridged_guests_are_neighbours_of_the_physical_network_and_the_host_keeps_its_address(
    mac: Namespace, fabric: Fabric, guest: Namespace
) -> None:
    with Namespace("world") as world:
        wire(mac, "en0", world, "eth0")
        mac.run("ip", "address", "add", "203.0.113.1/24", "dev", "en0")
        mac.run("ip", "route", "add", "default", "via", "203.0.113.2")
        world.run("ip", "address", "add", "203.0.113.2/24", "dev", "eth0")
        before = mac.run("ip", "route"), mac.run("ip", "-4", "-br", "address")
        relay = Relay(mac, fabric, guest, operation_mode="bridged", shared_interface_name="en0")
        assert "start_address" not in relay.facts
        guest.run("ip", "address", "add", "203.0.113.9/24", "dev", "eth0")
        for address in ("203.0.113.1", "203.0.113.2"):
            assert guest.succeeds("ping", "-c", "1", "-W", "3", address), address
        assert mac.succeeds("ping", "-c", "1", "-W", "3", "203.0.113.2")
        relay.close()
        assert (mac.run("ip", "route"), mac.run("ip", "-4", "-br", "address")) == before


def test_host_mode_ends_at_the_host(mac: Namespace, fabric: Fabric, guest: Namespace, tmp_path: Path) -> None:
    with Namespace("world") as world:
        wire(mac, "en0", world, "eth0")
        mac.run("ip", "address", "add", "203.0.113.1/24", "dev", "en0")
        world.run("ip", "address", "add", "203.0.113.2/24", "dev", "eth0")
        world.run("ip", "route", "add", "192.168.128.0/24", "via", "203.0.113.1")
        relay = Relay(mac, fabric, guest, operation_mode="host")
        lease = ask_for_lease(guest, tmp_path)
        assert lease.startswith("LEASE 192.168.128.")
        guest.run("ip", "route", "add", "default", "via", "192.168.128.1")
        assert guest.succeeds("ping", "-c", "1", "-W", "2", "192.168.128.1")
        assert not guest.succeeds("ping", "-c", "1", "-W", "1", "203.0.113.2")
        relay.close()


def test_a_network_identifier_is_a_network_without_dhcp(
    mac: Namespace, fabric: Fabric, guest: Namespace, tmp_path: Path
) -> None:
    identifier = {"network_identifier": "6F4E9D3C-0C3B-4B5D-9A1E-0123456789AB", "host_ip_address": "10.9.0.1"}
    relay = Relay(mac, fabric, guest, macos="15", operation_mode="host", **identifier)
    assert relay.facts["start_address"] == "0.0.0.0"
    assert ask_for_lease(guest, tmp_path, "-t", "1") == ""
    guest.run("ip", "address", "add", "10.9.0.2/24", "dev", "eth0")
    assert guest.succeeds("ping", "-c", "1", "-W", "2", "10.9.0.1")
    relay.close()


def test_isolated_members_reach_the_host_and_not_each_other(mac: Namespace, fabric: Fabric) -> None:
    with Namespace("one") as one, Namespace("two") as two, Namespace("open") as third:
        isolated = {"operation_mode": "host", "enable_isolation": "true"}
        relays = [
            Relay(mac, fabric, one, **isolated),
            Relay(mac, fabric, two, **isolated),
            Relay(mac, fabric, third, operation_mode="host"),
        ]
        for number, guest in enumerate((one, two, third)):
            guest.run("ip", "address", "add", f"192.168.128.{10 + number}/24", "dev", "eth0")
            assert guest.succeeds("ping", "-c", "1", "-W", "2", "192.168.128.1")
        assert not one.succeeds("ping", "-c", "1", "-W", "1", "192.168.128.11")
        assert one.succeeds("ping", "-c", "1", "-W", "2", "192.168.128.12")
        for relay in relays:
            relay.close()


def test_dns_router_advertisements_and_nat66(mac: Namespace, fabric: Fabric, guest: Namespace) -> None:
    with Namespace("world") as world:
        wire(mac, "en0", world, "eth0")
        mac.run("ip", "address", "add", "2001:db8::1/64", "dev", "en0", "nodad")
        world.run("ip", "address", "add", "2001:db8::2/64", "dev", "eth0", "nodad")
        for name, value in (("dad_transmits", "0"), ("router_solicitation_delay", "0")):
            guest.run("sysctl", "-q", f"net.ipv6.conf.default.{name}={value}")  # it asks for a router at once
        relay = Relay(mac, fabric, guest, operation_mode="shared", nat66_prefix="fd00:77::")
        assert relay.facts["nat66_prefix"] == "fd00:77::"
        guest.run("ip", "address", "add", "192.168.64.77/24", "dev", "eth0")
        asked = (sys.executable, "-c", ASK_DNS, "192.168.64.1")
        assert guest.run(*asked).split() == ["4660", "0"], "an answer of the proxy: it has no servers to ask"
        monitor = guest.run("timeout", "10", sys.executable, "-c", AWAIT_ADDRESS, "fd00:77:")
        assert "fd00:77:" in monitor
        assert guest.succeeds("ping", "-6", "-c", "1", "-W", "5", "2001:db8::2"), "the world knows no fd00:77::"
        relay.close()


def test_tcp_in_large_frames(mac: Namespace, fabric: Fabric, guest: Namespace, tmp_path: Path) -> None:
    relay = Relay(mac, fabric, guest, operation_mode="host", enable_tso="true")
    assert relay.facts["max_packet_size"] == "65550"
    guest.run("ip", "address", "add", "192.168.128.9/24", "dev", "eth0")
    guest.run("ip", "link", "set", "eth0", "mtu", "65000")  # it sends and takes large frames
    guest.run("ip", "route", "change", "192.168.128.0/24", "dev", "eth0", "advmss", "1460")
    page = "".join(f"{number:09}\n" for number in range(300000))
    (tmp_path / "page").write_text(page)
    for server, client, address in ((mac, guest, "192.168.128.1"), (guest, mac, "192.168.128.9")):
        server.run("busybox", "httpd", "-p", f"{address}:80", "-h", str(tmp_path))
        fetched = client.run(sys.executable, "-c", FETCH, f"http://{address}/page")
        assert fetched.strip() == hashlib.sha256(page.encode()).hexdigest()
    relay.close()


def test_a_program_that_includes_nothing_but_the_frameworks_header(mac: Namespace, fabric: Fabric) -> None:
    mac.run("ip", "link", "add", "en0", "type", "veth", "peer", "en1")
    command = [
        "env",
        *(f"{key}={value}" for key, value in fabric.environment().items()),
        str(program("listing")),
    ]
    assert sorted(mac.run(*command).split()) == ["en0", "en1"]
