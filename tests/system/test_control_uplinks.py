"""What the control socket shows of a network with an uplink, and changes: leases, reservations, forwards."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.support.daemon import Daemon
from tests.support.netns import Namespace
from tests.support.station import Station
from tests.system.user_uplink import UserNetwork
from vde_vmnet.control.client import Client
from vde_vmnet.control.models import Forward
from vde_vmnet.control.paths import beside
from vde_vmnet.demo.netns import entered
from vde_vmnet.errors import ConfigurationError, ConflictError, PrivilegeError, UnavailableError

pytestmark = pytest.mark.root

GATEWAY = "192.168.105.1"
Observed = tuple[Client, Station, str, Namespace]


@pytest.fixture(scope="module", params=["user", "linux"])
def observed(request: pytest.FixtureRequest) -> Iterator[Observed]:
    """A network with one guest on it, and a client of its control socket."""
    given = ("--reserve=02:00:00:00:00:77=192.168.105.77",)
    with ExitStack() as stack:
        if request.param == "user":
            network = stack.enter_context(UserNetwork(*given))
            host, directory = network.host, network.place / "ctl"
        else:
            host = stack.enter_context(Namespace("host"))
            daemon = stack.enter_context(Daemon(host, f"--vmnet-gateway={GATEWAY}", *given))
            directory = daemon.directory
        client = stack.enter_context(Client(beside(directory)))
        station = stack.enter_context(Station(directory, 1, name="alpha"))
        station.request_lease()
        yield client, station, request.param, host


def test_leases_lead_to_names_and_addresses(observed: Observed) -> None:
    client, station, kind, _ = observed
    info = client.network()
    assert info.uplink.kind == kind and info.uplink.gateway == GATEWAY and info.uplink.mode == "shared"
    (lease,) = client.leases()
    assert (lease.address, lease.mac, lease.name) == (station.address, station.mac, "alpha")
    assert lease.expires is not None and abs(lease.expires - info.started - 3600) < 120 and not lease.reserved
    (port,) = [port for port in client.ports() if port.kind == "vde"]
    assert (port.name, port.addresses, port.macs) == ("alpha", [station.address], [station.mac])
    assert lease.port == port.number
    (entry,) = [entry for entry in client.fdb() if entry.mac == station.mac]
    assert (entry.name, entry.addresses) == ("alpha", [station.address])
    event = next(event for event in client.events(since=0) if event.kind == "lease")
    assert (event.mac, event.address, event.name) == (station.mac, station.address, "alpha")
    assert any(port.kind == "uplink" and port.addresses == [] for port in client.ports())
    assert "vde_vmnet_leases 1\n" in client.metrics()


def test_an_address_is_kept_from_the_next_lease_on(observed: Observed) -> None:
    client, station, _, _ = observed
    assert [one.address for one in client.reservations()] == ["192.168.105.77"]
    said = client.add_reservation(station.mac.upper(), "192.168.105.99", "birch")
    assert said == f"192.168.105.99 is kept for {station.mac}"
    station.request_lease()
    assert station.address == "192.168.105.99"
    assert "192.168.105.99" in station.resolve("birch.vmnet.internal")
    (lease,) = [one for one in client.leases() if one.address == station.address]
    assert lease.reserved and lease.name == "birch"
    for mac, address, name, error in (
        ("02:00:00:00:00:77", "192.168.105.98", None, ConflictError),
        ("02:00:00:00:00:78", "192.168.105.99", None, ConflictError),
        ("02:00:00:00:00:78", "192.168.105.98", "birch", ConflictError),
        ("02:00:00:00:00:78", "10.0.0.1", None, ConfigurationError),
        ("02:00:00:00:00:78", GATEWAY, None, ConfigurationError),
    ):
        with pytest.raises(error):
            client.add_reservation(mac, address, name)
    assert len(client.reservations()) == 2
    with pytest.raises(ConflictError, match="given by --reserve"):
        client.remove_reservation("02:00:00:00:00:77")
    client.remove_reservation(station.mac)
    station.request_lease()
    assert station.address == "192.168.105.99", "a guest goes on with the lease it has"
    assert not any(lease.reserved for lease in client.leases())
    client.add_reservation(station.mac, "192.168.105.98")
    station.request_lease()
    assert station.address == "192.168.105.98"
    client.remove_reservation(station.mac)
    assert "name servers again" in client.reload()[0]


def reaches(host: Namespace, station: Station, way: Forward, *, to: str = "127.0.0.1") -> bool:
    """Whether a connection to the host's port arrives at the guest."""
    with entered(station.namespace.path):
        listening = socket.create_server((station.address, way.guest_port))
    with listening:
        listening.settimeout(5)
        try:
            with entered(host.path):
                caller = socket.create_connection((to, way.host_port), 5)
        except OSError:
            return False
        with caller, listening.accept()[0] as called:
            called.sendall(b"hello")
            return caller.recv(5) == b"hello"


def test_ways_in_are_opened_and_closed(observed: Observed) -> None:
    client, station, kind, host = observed
    way = Forward(host_port=2222, guest=station.address, guest_port=7)
    assert not reaches(host, station, way)
    assert client.add_forward(way) == f"Forwarding tcp:2222:{station.address}:7"
    assert reaches(host, station, way)
    with pytest.raises(ConflictError, match="there already"):
        client.add_forward(way)
    with pytest.raises(ConflictError):
        client.add_forward(Forward(host_port=2222, guest=station.address, guest_port=8))
    with pytest.raises(ConfigurationError, match="outside"):
        client.add_forward(Forward(host_port=2223, guest="10.9.9.9", guest_port=8))
    here = Forward(host="127.0.0.1", host_port=2224, guest=station.address, guest_port=8)
    client.add_forward(here)
    assert reaches(host, station, here)
    named = Forward(protocol="udp", host_port=5353, guest="alpha", guest_port=53)
    if kind == "user":
        client.add_forward(named)
        with pytest.raises(PrivilegeError):
            client.add_forward(Forward(host_port=22, guest=station.address, guest_port=8))
        assert client.forwards() == [way, here, named]
        client.remove_forward(named)
    else:
        with pytest.raises(UnavailableError, match="no guest of that name"):
            client.add_forward(Forward(host_port=5353, guest="nobody", guest_port=53))
        datagrams = Forward(protocol="udp", host_port=5353, guest=station.address, guest_port=53)
        client.add_forward(datagrams)
        assert client.forwards() == [way, here, datagrams]
        client.remove_forward(datagrams)
    client.remove_forward(here)
    client.remove_forward(way)
    assert client.forwards() == []
    assert not reaches(host, station, way)
    client.add_forward(way)  # the port is free again
    assert reaches(host, station, way)
    client.remove_forward(way)


def test_a_way_in_that_is_added_follows_its_guest(observed: Observed) -> None:
    client, station, _, host = observed
    ways = [
        Forward(host_port=2226, guest=station.mac, guest_port=9),
        Forward(host_port=2227, guest="oak", guest_port=10),
    ]
    client.add_reservation(station.mac, "192.168.105.96", "oak")
    station.request_lease()
    for way in ways:
        client.add_forward(way)
        assert reaches(host, station, way)
    client.remove_reservation(station.mac)
    client.add_reservation(station.mac, "192.168.105.95", "oak")
    station.request_lease()
    assert station.address == "192.168.105.95"
    assert [reaches(host, station, way) for way in ways] == [True, True]
    assert client.forwards() == ways
    for way in ways:
        client.remove_forward(way)
        assert not reaches(host, station, way)
    client.remove_reservation(station.mac)


def test_ways_in_beside_those_of_the_command_line() -> None:
    options = (
        f"--vmnet-gateway={GATEWAY}",
        "--forward=8081:192.168.105.9:80",
        "--vmnet-dhcp-end=192.168.105.9",
    )
    with ExitStack() as stack:
        host = stack.enter_context(Namespace("host"))
        daemon = stack.enter_context(Daemon(host, *options))
        client = stack.enter_context(Client(beside(daemon.directory)))
        station = stack.enter_context(Station(daemon.directory, 1))
        station.request_lease()
        for port in (8081, 8082):
            way = Forward(host_port=port, guest=station.address, guest_port=7)
            if port == 8081:
                with pytest.raises(ConflictError, match="has that port"):
                    client.add_forward(way)
            else:
                client.add_forward(way)
                assert reaches(host, station, way)
        assert [one.host_port for one in client.forwards()] == [8081, 8082]
        given = client.forwards()[0]
        with pytest.raises(ConflictError, match="given by --forward"):
            client.remove_forward(given)


def test_in_host_mode_nothing_leads_to_guests() -> None:
    options = (f"--vmnet-gateway={GATEWAY}", "--vmnet-mode=host")
    with (
        Namespace("host") as host,
        Daemon(host, *options) as daemon,
        Client(beside(daemon.directory)) as client,
        pytest.raises(UnavailableError, match="in host mode") as refused,
    ):
        client.add_forward(Forward(host_port=2222, guest="192.168.105.2", guest_port=7))
    assert refused.value.next_step == "Use --vmnet-mode=shared"
