"""The simulated network API of macOS 26, and port forwarding, from a C program."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.support.daemon import wait_until
from tests.support.netns import Namespace, wire
from tests.support.vmnet_client import Relay
from tests.support.vmnet_driver import SUCCESS, Driver
from tests.support.vmnet_sim import Fabric
from tests.system.linux_uplink import ask_for_lease

pytestmark = pytest.mark.root

FAILURE, INVALID = "1001", "1003"
TCP, INET, INET6 = "6", "2", "30"
FETCH = "import sys, urllib.request as request; print(request.urlopen(sys.argv[1], timeout=5).read())"


def client(mac: Namespace, fabric: Fabric, faults: str = "") -> Driver:
    return Driver(mac, fabric, faults=faults, example="networks")


def test_configurations_are_checked(mac: Namespace, fabric: Fabric) -> None:
    with client(mac, fabric) as one:
        assert one.ask("configure bridged") == INVALID
        assert one.ask("configure host") == SUCCESS and one.ask("external en0") == INVALID
        assert one.ask("configure shared") == SUCCESS
        for command, status in {
            "subnet 192.168.105.1 255.255.255.0": SUCCESS,
            "subnet 192.168.105.0 255.255.255.0": SUCCESS,
            "subnet 192.168.105.1 255.0.255.0": INVALID,
            "subnet 192.168.105.1 255.255.255.254": INVALID,
            "prefix fd12:3456:: 64": SUCCESS,
            "prefix 2001:db8:: 64": INVALID,
            "prefix fd12:: 48": INVALID,
            "mtu 9000": SUCCESS,
            "mtu 100": INVALID,
            "external en0": SUCCESS,
            "reserve 02:00:00:00:00:01 192.168.105.7": SUCCESS,
            "preset 6 80 8080 192.168.105.7": SUCCESS,
            "preset 1 80 8080 192.168.105.7": INVALID,
            "preset 6 0 8080 192.168.105.7": INVALID,
        }.items():
            assert one.ask(command) == status, command


def test_a_network_reserves_its_subnet_for_the_life_of_the_reference(mac: Namespace, fabric: Fabric) -> None:
    with client(mac, fabric) as one, client(mac, fabric) as other, client(mac, fabric) as third:
        for each in (one, other, third):
            each.ask("configure shared")
        assert one.ask("create").startswith("1000 192.168.65.1 255.255.255.0 fd")
        assert other.ask("create").startswith("1000 192.168.66.1 ")
        third.ask("subnet 192.168.65.1 255.255.255.0")
        assert third.ask("create") == FAILURE
        assert one.ask("release") == "ok" and third.ask("create").startswith(SUCCESS)
        third.kill()
        one.ask("subnet 192.168.65.0 255.255.255.0")
        assert one.ask("create").startswith("1000 192.168.65.1 255.255.255.0 "), (
            "a killed program holds nothing"
        )
        assert one.ask("copy").startswith("1000 192.168.65.1 "), "by way of its serialization"
        assert one.ask("start").startswith(SUCCESS)
        assert one.ask("release") == "ok"
        assert "bridge100" in mac.run("ip", "link"), "the interface holds it"
        assert one.ask("stop") == SUCCESS
        assert "bridge100" not in mac.run("ip", "link")
        other.ask("release")


@pytest.mark.parametrize(
    ("faults", "subnet", "created", "started"),
    [
        ("network_status=1002", "192.168.105.1", "1002", ""),
        ("", "8.8.8.1", FAILURE, ""),
        ("subnet_zero_fails", "192.168.105.0", SUCCESS, "1001 -"),
        ("subnet_zero_fails", "192.168.105.1", SUCCESS, SUCCESS),
    ],
)
def test_networks_that_fail(
    mac: Namespace, fabric: Fabric, faults: str, subnet: str, created: str, started: str
) -> None:
    with client(mac, fabric, faults) as one:
        one.ask("configure shared")
        one.ask(f"subnet {subnet} 255.255.255.0")
        assert one.ask("create").split()[0] == created
        if started:
            assert one.ask("start").startswith(started)
            if started == SUCCESS:
                one.ask("stop")
            one.ask("release")


def test_an_orphaned_network_keeps_its_subnet(mac: Namespace, fabric: Fabric) -> None:
    with client(mac, fabric, "orphan_network") as one, client(mac, fabric) as other:
        for each in (one, other):
            each.ask("configure shared")
            each.ask("subnet 192.168.105.1 255.255.255.0")
        assert one.ask("create").startswith(SUCCESS)
        one.kill()
        assert other.ask("create") == FAILURE


def test_reservations_and_switches_are_those_of_the_services(
    mac: Namespace, fabric: Fabric, tmp_path: Path
) -> None:
    given = {"start_address": "192.168.105.1", "end_address": "192.168.105.99", "subnet_mask": "255.255.255.0"}
    fabric.bootptab.write_text("# hosts\n%%\nguest 1 2:0:0:0:0:5 192.168.105.55\nbroken\n")
    with Namespace("guest") as guest:
        relay = Relay(mac, fabric, guest, operation_mode="shared", **given)
        guest.run("ip", "link", "set", "eth0", "address", "02:00:00:00:00:05")
        assert ask_for_lease(guest, tmp_path).startswith("LEASE 192.168.105.55/24")
        lease = "\tip_address=192.168.105.55\n\thw_address=1,2:0:0:0:0:5\n"
        wait_until(lambda: lease in fabric.leases.read_text(), "the lease is written down")
        fabric.bootptab.write_text("%%\nguest 1 02:00:00:00:00:06 192.168.105.56\n")
        mac.run(*fabric.restart_bootpd)
        guest.run("ip", "link", "set", "eth0", "address", "02:00:00:00:00:06")
        assert ask_for_lease(guest, tmp_path).startswith("LEASE 192.168.105.56/24")
        relay.close()


def test_forwards_are_added_listed_used_and_removed(mac: Namespace, fabric: Fabric, tmp_path: Path) -> None:
    with Namespace("guest") as guest, Namespace("world") as world, client(mac, fabric) as one:
        wire(mac, "en0", world, "eth0")
        mac.run("ip", "address", "add", "203.0.113.1/24", "dev", "en0")
        world.run("ip", "address", "add", "203.0.113.2/24", "dev", "eth0")
        relay = Relay(mac, fabric, guest, operation_mode="shared")
        assert one.ask("classic").startswith(SUCCESS)
        lease = ask_for_lease(guest, tmp_path)
        address = lease.split()[1].partition("/")[0]
        assert one.ask(f"rules {INET}") == "1000 NULL"
        assert one.ask(f"forward {TCP} 8080 {address} 80") == "1000 1000"
        assert one.ask(f"forward {TCP} 8080 {address} 81") == "1000 1001", "it is taken"
        assert one.ask(f"forward 1 8080 {address} 81") == "1003 LOST"
        assert one.ask(f"rules {INET}") == f"1000 6/8080/{address}/80"
        assert one.ask(f"rules {INET6}") == "1000 NULL"
        (tmp_path / "page").write_text("hello\n")
        guest.run("busybox", "httpd", "-p", "80", "-h", str(tmp_path))  # ends with the namespace
        fetch = (sys.executable, "-c", FETCH, "http://203.0.113.1:8080/page")
        assert "hello" in world.run(*fetch)
        assert one.ask(f"unforward {TCP} 8080 {INET}") == "1000 1000"
        assert one.ask(f"unforward {TCP} 8080 {INET}") == "1000 1001", "there is none"
        assert not world.succeeds(*fetch)
        one.ask("stop")
        relay.close()


def test_forwards_and_reservations_of_a_network_end_with_its_run(mac: Namespace, fabric: Fabric) -> None:
    with client(mac, fabric) as one:
        one.ask("configure shared")
        one.ask("reserve 02:00:00:00:00:07 192.168.65.70")
        one.ask("preset 6 22 2222 192.168.65.70")
        one.ask("create")
        assert one.ask("start").startswith(SUCCESS)
        assert one.ask(f"rules {INET}") == "1000 6/2222/192.168.65.70/22"
        assert "192.168.65.70:22" in mac.run("nft", "list", "ruleset")
        one.ask("stop")
        assert one.ask("start").startswith(SUCCESS)
        assert one.ask(f"rules {INET}") == "1000 NULL"
        one.ask("stop")
        one.ask("release")


def test_handlers_of_forwards_that_are_lost_and_the_refusal_of_macos_27(mac: Namespace, fabric: Fabric) -> None:
    with client(mac, fabric, "forward_lost") as one:
        one.ask("classic")
        assert one.ask(f"forward {TCP} 8080 192.168.64.9 80") == "1000 LOST"
        one.ask("stop")
    with client(mac, fabric, "forward_refused_on_networks") as one:
        one.ask("classic")
        assert one.ask(f"forward {TCP} 8080 192.168.64.9 80") == "1000 1000"
        one.ask("stop")
        one.ask("configure shared")
        one.ask("create")
        one.ask("start")
        assert one.ask(f"forward {TCP} 8080 192.168.65.9 80") == "1001 LOST"
        assert one.ask(f"rules {INET}") == "1001 LOST"
        one.ask("stop")
        one.ask("release")
