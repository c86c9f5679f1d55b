"""--forward, --allow and --deny on the kernel's uplink, with a station on a real network."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.e2e.world import PAGE, World
from tests.support.daemon import GATEWAY, Daemon
from tests.support.netns import Namespace
from tests.support.station import Station
from vde_vmnet.demo.netns import entered
from vde_vmnet.demo.traffic import HttpServer, fetch
from vde_vmnet.errors import UplinkError

pytestmark = pytest.mark.root

ADDRESS = "192.168.105.9"


@pytest.fixture(scope="module")
def scene() -> Iterator[tuple[Namespace, World, Station]]:
    with ExitStack() as stack:
        host = stack.enter_context(Namespace("host"))
        world = stack.enter_context(World(host))
        daemon = stack.enter_context(
            Daemon(
                host,
                f"--vmnet-gateway={GATEWAY}",
                f"--reserve=52:54:00:76:65:01={ADDRESS},web",
                "--forward=8080:web:80",
                f"--forward=127.0.0.1:8081:{ADDRESS}:80",
                "--forward=8082:mobile:80",
                "--forward=8083:52:54:00:76:65:03:80",
                "--deny=203.0.113.0/24",
                "--allow=203.0.113.10",
            )
        )
        station = stack.enter_context(Station(daemon.directory, 1))
        assert station.request_lease()["address"] == ADDRESS
        stack.enter_context(HttpServer(station.namespace.path, ADDRESS, 80, b"guest\n"))
        yield host, world, station


def test_the_host_and_the_world_come_in(scene: tuple[Namespace, World, Station]) -> None:
    host, world, _ = scene
    for path, address in (
        (world.namespace.path, World.HOST4),
        (host.path, World.HOST4),
        (host.path, GATEWAY),
        (host.path, "127.0.0.1"),
    ):
        assert fetch(path, address, 8080) == b"guest\n", address


def test_one_of_the_loopback_is_the_hosts_alone(scene: tuple[Namespace, World, Station]) -> None:
    host, world, _ = scene
    assert fetch(host.path, "127.0.0.1", 8081) == b"guest\n"
    with pytest.raises(OSError):
        fetch(world.namespace.path, World.HOST4, 8081, seconds=1)


def test_guests_do_not_reach_the_hosts_loopback_by_it(scene: tuple[Namespace, World, Station]) -> None:
    host, _, station = scene
    station.namespace.run("sysctl", "-w", "net.ipv4.conf.all.route_localnet=1")
    station.namespace.run("ip", "route", "add", "127.0.0.7", "via", GATEWAY, "dev", "eth0", "table", "7")
    station.namespace.run("ip", "rule", "add", "to", "127.0.0.7", "lookup", "7", "pref", "0")
    station.namespace.run("ip", "rule", "add", "lookup", "local", "pref", "1")
    station.namespace.run("ip", "rule", "del", "pref", "0", "lookup", "local")
    with HttpServer(host.path, "127.0.0.7", 8000, PAGE) as server:
        with pytest.raises(OSError):
            fetch(station.namespace.path, "127.0.0.7", 8000, seconds=1)
        assert server.clients == []


def test_forwards_follow_the_lease(scene: tuple[Namespace, World, Station]) -> None:
    host, world, first = scene
    with Station(first.directory, 2, name="mobile") as mobile:
        with pytest.raises(ConnectionRefusedError):
            fetch(host.path, "127.0.0.1", 8082)
        former = ""
        # Another card, and so another address; the name is the same.
        for mac in (mobile.mac, "52:54:00:76:65:03"):
            mobile.namespace.run("ip", "link", "set", "eth0", "address", mac)
            mobile.request_lease()
            assert mobile.address != former
            former = mobile.address
            # The guest hears of its lease before the daemon does.
            while f"8082 : {former} . 80" not in host.run("nft", "list", "ruleset"):
                pass
            with HttpServer(mobile.namespace.path, mobile.address, 80, b"mobile\n"):
                assert fetch(host.path, "127.0.0.1", 8082) == b"mobile\n"
                assert fetch(world.namespace.path, World.HOST4, 8082) == b"mobile\n"
        with HttpServer(mobile.namespace.path, mobile.address, 80, b"mobile\n"):
            assert fetch(host.path, "127.0.0.1", 8083) == b"mobile\n"


def test_what_is_denied(scene: tuple[Namespace, World, Station]) -> None:
    host, world, station = scene
    world.namespace.run("ip", "address", "add", "203.0.113.11/24", "dev", "eth0")
    with (
        HttpServer(world.namespace.path, "203.0.113.11", 80, PAGE),
        HttpServer(host.path, World.HOST4, 80, PAGE),
    ):
        assert fetch(station.namespace.path, World.WORLD4, World.PORT) == PAGE
        for address in ("203.0.113.11", World.HOST4):
            with pytest.raises(OSError):
                fetch(station.namespace.path, address, 80, seconds=1)
    assert station.pings(GATEWAY)


def test_a_taken_port_is_said(host: Namespace) -> None:
    with (
        entered(host.path),
        socket.create_server(("127.0.0.1", 8080)),
        pytest.raises(UplinkError, match=r"tcp port 8080 of 0\.0\.0\.0 is taken by another program"),
    ):
        Daemon(host, f"--vmnet-gateway={GATEWAY}", f"--forward=8080:{ADDRESS}:80")
