"""The user-mode uplink: an ordinary user's daemon, and guests that reach the world through it."""

from __future__ import annotations

import json
import resource
import selectors
import socket
import statistics
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager

import pytest

from tests.e2e.world import PAGE, World
from tests.support.netns import Namespace
from tests.support.station import Station
from tests.system.user_uplink import GATEWAY, UserNetwork, wait_for_address6
from vde_vmnet.demo.accounts import credentials_of
from vde_vmnet.demo.netns import entered
from vde_vmnet.demo.traffic import HttpServer, ThroughputServer, fetch
from vde_vmnet.errors import UplinkError
from vde_vmnet.plug import Plug

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

RESERVED = "192.168.105.77"
PREFIX6 = "fd12:3456:789a:1::"


@pytest.fixture(scope="module")
def network() -> Iterator[UserNetwork]:
    """One network for the tests that only look."""
    with UserNetwork(
        "--reserve=52:54:00:76:65:02=192.168.105.77,printer",
        "--forward=8081:alpha:80",
        "--forward=0.0.0.0:8082:52:54:00:76:65:01:80",
        "--forward=udp:0.0.0.0:8083:printer:7",
        f"--vmnet-nat66-prefix={PREFIX6}",
        "--deny=203.0.113.128/25",
    ) as opened:
        yield opened


@pytest.fixture(scope="module")
def stations(network: UserNetwork) -> Iterator[tuple[Station, Station]]:
    with network.station(1, name="alpha") as alpha, network.station(2, name="beta") as beta:
        alpha.request_lease()
        beta.request_lease()
        yield alpha, beta


def test_nobody_has_privilege(network: UserNetwork) -> None:
    assert credentials_of(network.daemon.process.pid).rootless
    assert "Uplink: user, since" in network.log()


def test_leases_and_reservations(stations: tuple[Station, Station]) -> None:
    alpha, beta = stations
    assert alpha.address.startswith("192.168.105.") and alpha.address != RESERVED
    assert alpha.lease["router"] == GATEWAY
    assert beta.address == RESERVED


def test_names(stations: tuple[Station, Station]) -> None:
    alpha, beta = stations
    assert GATEWAY in alpha.resolve("host.vmnet.internal")
    assert RESERVED in alpha.resolve("printer.vmnet.internal")
    assert alpha.address in beta.resolve("alpha.vmnet.internal")
    assert World.WORLD4 in alpha.resolve(World.NAME)


def test_tcp_out(network: UserNetwork, stations: tuple[Station, Station]) -> None:
    network.world.web4.clients.clear()
    assert fetch(stations[0].namespace.path, World.WORLD4, World.PORT) == PAGE
    # The world sees a connection of the host's user.
    assert network.world.web4.clients == [World.HOST4]


def test_ipv6_out(network: UserNetwork, stations: tuple[Station, Station]) -> None:
    alpha, _ = stations
    wait_for_address6(alpha, PREFIX6)
    network.world.web6.clients.clear()
    assert fetch(alpha.namespace.path, World.WORLD6, World.PORT) == PAGE
    assert network.world.web6.clients == [World.HOST6]


def test_udp_out(network: UserNetwork, stations: tuple[Station, Station]) -> None:
    with entered(network.world.namespace.path):
        server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        server.bind((World.WORLD4, 7))
    with entered(stations[0].namespace.path):
        client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with closing(server), closing(client):
        server.settimeout(5)
        client.settimeout(5)
        # The large ones come in pieces.
        for size in (1, 1400, 4000, 20_000):
            client.sendto(bytes(size), (World.WORLD4, 7))
            data, source = server.recvfrom(65536)
            assert (len(data), source[0]) == (size, World.HOST4)
            server.sendto(data, source)
            assert client.recvfrom(65536) == (data, (World.WORLD4, 7))


def test_guests_see_each_other(stations: tuple[Station, Station]) -> None:
    alpha, beta = stations
    assert alpha.pings(RESERVED) and beta.pings(alpha.address)
    assert alpha.pings(GATEWAY)


def test_forwards_lead_in(network: UserNetwork, stations: tuple[Station, Station]) -> None:
    alpha, beta = stations
    with HttpServer(alpha.namespace.path, alpha.address, 80, b"alpha\n") as server:
        assert fetch(network.host.path, "127.0.0.1", 8081) == b"alpha\n"
        assert fetch(network.host.path, World.HOST4, 8082) == b"alpha\n"
        assert fetch(network.world.namespace.path, World.HOST4, 8082) == b"alpha\n"
        assert set(server.clients) == {GATEWAY, World.HOST4, World.WORLD4}
    # Without an address it is for the host itself alone.
    with pytest.raises(ConnectionRefusedError):
        fetch(network.world.namespace.path, World.HOST4, 8081)
    with entered(beta.namespace.path):
        echo = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        echo.bind(("", 7))
    with entered(network.world.namespace.path):
        client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with closing(echo), closing(client):
        for one in (echo, client):
            one.settimeout(5)
        client.sendto(b"hello", (World.HOST4, 8083))
        data, source = echo.recvfrom(100)
        echo.sendto(data.upper(), source)
        assert client.recvfrom(100) == (b"HELLO", (World.HOST4, 8083))


def test_forwards_follow_the_lease(network: UserNetwork, stations: tuple[Station, Station]) -> None:
    alpha, _ = stations
    former = alpha.address
    # Another card, and so another address; the name is the same.
    alpha.namespace.run("ip", "link", "set", "eth0", "address", "52:54:00:76:65:09")
    alpha.request_lease()
    assert alpha.address != former
    with HttpServer(alpha.namespace.path, alpha.address, 80, b"moved\n"):
        assert fetch(network.host.path, "127.0.0.1", 8081) == b"moved\n"


def test_what_is_denied_is_not_reached(network: UserNetwork, stations: tuple[Station, Station]) -> None:
    network.world.namespace.run("ip", "address", "add", "203.0.113.200/24", "dev", "eth0")
    with HttpServer(network.world.namespace.path, "203.0.113.200", 80, PAGE):
        assert fetch(network.host.path, "203.0.113.200", 80) == PAGE
        with pytest.raises(OSError):
            fetch(stations[0].namespace.path, "203.0.113.200", 80, seconds=1)


def test_the_hosts_loopback_is_out_of_reach_by_default(
    network: UserNetwork, stations: tuple[Station, Station]
) -> None:
    path = stations[0].namespace.path
    with HttpServer(network.host.path, "127.0.0.1", 8000, PAGE) as server:
        with pytest.raises(OSError):
            fetch(path, GATEWAY, 8000, seconds=1)
        # The kernel of a station refuses to send this; a hostile one would not.
        assert server.clients == []
    assert "guests may not reach it" in network.log()


def test_many_connections_at_once(network: UserNetwork, stations: tuple[Station, Station]) -> None:
    before = network.descriptors()
    with echo_server(network.world.namespace.path) as port, ExitStack() as clients:
        with entered(stations[0].namespace.path):
            sockets = [
                clients.enter_context(socket.create_connection((World.WORLD4, port), 20)) for _ in range(500)
            ]
        for number, one in enumerate(sockets):
            one.sendall(str(number).encode().ljust(8))
        for number, one in enumerate(sockets):
            assert one.recv(8) == str(number).encode().ljust(8)
        assert network.descriptors() >= before + 500
    wait_for_descriptors(network, before + 5)


def test_no_descriptor_is_lost(network: UserNetwork, stations: tuple[Station, Station]) -> None:
    before = network.descriptors()
    with echo_server(network.world.namespace.path) as port:
        for _ in range(100):
            with entered(stations[0].namespace.path):
                hundred = [socket.create_connection((World.WORLD4, port), 20) for _ in range(100)]
            for one in hundred:
                with closing(one):
                    one.sendall(b"12345678")
                    assert one.recv(8) == b"12345678"
    wait_for_descriptors(network, before + 5)


def test_a_guest_that_connects_without_end_costs_only_itself(
    network: UserNetwork, stations: tuple[Station, Station]
) -> None:
    alpha, beta = stations
    before = network.descriptors()
    _raise_limit()
    with echo_server(network.world.namespace.path) as port, ExitStack() as greedy:
        with entered(alpha.namespace.path):
            for _ in range(3_000):
                one = greedy.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
                one.setblocking(False)
                one.connect_ex((World.WORLD4, port))
        # The other one is served as if nothing had happened, and so is the switch.
        assert fetch(beta.namespace.path, World.WORLD4, World.PORT, seconds=5) == PAGE
        assert beta.pings(alpha.address)
        assert network.descriptors() < before + 2_500
    wait_for_descriptors(network, before + 20)
    assert network.daemon.process.poll() is None


def test_a_saturated_uplink_does_not_stall_the_switch(
    network: UserNetwork, stations: tuple[Station, Station]
) -> None:
    station = stations[0].namespace
    with Plug(network.place / "ctl") as one, Plug(network.place / "ctl") as other:
        alone = round_trips(one, other)
        with ThroughputServer(network.world.namespace.path, World.WORLD4, seconds=60, sending=True) as server:
            reader = subprocess.Popen(
                station.command("busybox", "nc", World.WORLD4, str(server.port)),
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
            )
            try:
                wait_for_octets(station, 10_000_000)
                busy = round_trips(one, other)
                # It was busy all the time, and went on.
                wait_for_octets(station, 10_000_000)
            finally:
                reader.kill()
                reader.communicate()
    # A turn of the stack is a fraction of a millisecond; the rest is that machines have few processors.
    assert statistics.median(busy) < 10 * statistics.median(alone) + 0.002
    assert sorted(busy)[-len(busy) // 10] < 0.05


def round_trips(one: Plug, other: Plug) -> list[float]:
    """Seconds that a frame takes there and back, five hundred times."""
    macs = bytes.fromhex("525400766551"), bytes.fromhex("525400766552")
    there, back = (target + source + b"\x88\xb5" + bytes(46) for target, source in (macs[::-1], macs))
    took = []
    for _ in range(500):
        before = time.monotonic()
        for sender, receiver, frame in ((one, other, there), (other, one, back)):
            sender.send(frame)
            while receiver.receive(5) != frame:
                pass
        took.append(time.monotonic() - before)
    return took


def wait_for_octets(station: Namespace, count: int) -> None:
    """Until its card has received that many more; the test's timeout is the limit."""

    def octets() -> int:
        (card,) = json.loads(station.run("ip", "-s", "-j", "link", "show", "eth0"))
        return int(card["stats64"]["rx"]["bytes"])

    before = octets()
    while octets() < before + count:
        pass


def test_the_world_goes_and_comes_back(network: UserNetwork, stations: tuple[Station, Station]) -> None:
    path = stations[0].namespace.path
    network.host.run("ip", "link", "set", "up0", "down")
    try:
        with pytest.raises(OSError):
            fetch(path, World.WORLD4, World.PORT, seconds=2)
        assert stations[0].pings(RESERVED)
    finally:
        network.host.run("ip", "link", "set", "up0", "up")
    assert fetch(path, World.WORLD4, World.PORT) == PAGE


def test_the_loopback_can_be_allowed() -> None:
    with UserNetwork("--allow=127.0.0.1") as network, network.station(1) as station:
        station.request_lease()
        with HttpServer(network.host.path, "127.0.0.1", 8000, PAGE) as server:
            assert fetch(station.namespace.path, GATEWAY, 8000) == PAGE
            assert server.clients == ["127.0.0.1"]


def test_host_mode_leads_nowhere() -> None:
    with UserNetwork("--vmnet-mode=host") as network, network.station(1) as one, network.station(2) as other:
        assert one.request_lease()["router"] == ""
        other.request_lease()
        assert one.pings(other.address)
        one.namespace.run("ip", "route", "add", "default", "via", GATEWAY)
        with pytest.raises(OSError):
            fetch(one.namespace.path, World.WORLD4, World.PORT, seconds=1)
        assert "NXDOMAIN" in one.resolve(World.NAME) or "REFUSED" in one.resolve(World.NAME)


def test_an_mtu_is_told_and_used() -> None:
    with UserNetwork("--vmnet-mtu=9000") as network, network.station(1) as station:
        assert station.request_lease()["mtu"] == "9000"
        assert fetch(station.namespace.path, World.WORLD4, World.PORT) == PAGE


def test_without_dhcp_addresses_are_the_guests_own() -> None:
    with UserNetwork("--vmnet-disable-dhcp") as network, network.station(1) as station:
        station.namespace.run("ip", "address", "add", "192.168.105.9/24", "dev", "eth0")
        station.namespace.run("ip", "route", "add", "default", "via", GATEWAY)
        assert fetch(station.namespace.path, World.WORLD4, World.PORT) == PAGE


def test_without_dnsmasq_the_stack_hands_out_addresses_itself() -> None:
    without = ("unshare", "--mount", "sh", "-c", 'mount --bind /dev/null /usr/sbin/dnsmasq && exec "$@"', "sh")
    with UserNetwork(prefix=without) as network, network.station(1) as station:
        assert "No dnsmasq: dnsmasq is not installed" in network.log()
        lease = station.request_lease()
        assert lease["address"] == "192.168.105.2"
        assert World.WORLD4 in station.resolve(World.NAME)
        assert fetch(station.namespace.path, World.WORLD4, World.PORT) == PAGE


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--forward=8080:192.168.105.9:80",), "port 8080 of 127.0.0.1 is taken by another program"),
        (("--forward=8080:web:80",), "port 8080 of 127.0.0.1 is taken by another program"),
        (("--forward=8.8.8.8:1234:192.168.105.9:80",), "is not an address of this host"),
        (("--forward=1234:10.0.0.9:80",), "10.0.0.9 is outside 192.168.105.0/24"),
    ],
)
def test_a_forward_that_cannot_be_is_said(options: tuple[str, ...], message: str) -> None:
    with pytest.raises(UplinkError, match=message):
        UserNetwork(*options, taken=8080)


@contextmanager
def echo_server(namespace: str) -> Iterator[int]:
    """Echoes 8 bytes at a time on the world's address; gives the port."""
    _raise_limit()
    with entered(namespace):
        listener = socket.create_server((World.WORLD4, 0), backlog=4096)
    ours, theirs = socket.socketpair()

    def serve() -> None:
        with selectors.DefaultSelector() as selector, ExitStack() as opened:
            selector.register(listener, selectors.EVENT_READ)
            selector.register(theirs, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select():
                    one = key.fileobj
                    assert isinstance(one, socket.socket)
                    if one is theirs:
                        return
                    if one is listener:
                        client = opened.enter_context(listener.accept()[0])
                        selector.register(client, selectors.EVENT_READ)
                        continue
                    try:
                        data = one.recv(8)
                    except OSError:
                        data = b""
                    if data:
                        one.sendall(data)
                    else:
                        selector.unregister(one)
                        one.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        ours.close()
        thread.join()
        theirs.close()
        listener.close()


def wait_for_descriptors(network: UserNetwork, most: int) -> None:
    """Until the daemon has no more than that; the test's timeout is the limit."""
    waiter = threading.Event()
    while network.descriptors() > most:
        waiter.wait(0.05)


def _raise_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
