"""Shared and host mode in namespaces: addresses, names, NAT, what is blocked, and that nothing is left."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.netns import Namespace, wire
from tests.system.linux_uplink import (
    RefusedError,
    UplinkProcess,
    ask_for_lease,
    picture,
    processes,
)

pytestmark = pytest.mark.root

WORLD = "198.51.100.2"
WORLD6 = "2001:db8:1::2"

#: A thousand guests ask for an address: BOOTP header, magic cookie, option 53 = DISCOVER (RFC 2131, 2132).
DISCOVER_1000_TIMES = """
import socket, struct
client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
client.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
client.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0")
client.bind(("0.0.0.0", 68))
client.settimeout(0.02)
for number in range(1000):
    header = struct.pack(">BBBBIHH16x", 1, 1, 6, 0, number, 0, 0x8000)
    mac = struct.pack(">HI10x192x", 0x5254, number)
    client.sendto(header + mac + bytes.fromhex("63825363 350101 ff"), ("255.255.255.255", 67))
    try:
        client.recv(1500)
    except TimeoutError:
        continue
"""


@pytest.fixture
def world() -> Iterator[Namespace]:
    """A machine beyond the host."""
    with Namespace("world") as namespace:
        yield namespace


@pytest.fixture
def host(world: Namespace) -> Iterator[Namespace]:
    """A host with an address of its own and a way to the world, which knows no way back to guests."""
    with Namespace("host") as namespace:
        for one in (namespace, world):
            one.run("sysctl", "-qw", "net.ipv6.conf.default.accept_dad=0")
        wire(namespace, "up0", world, "eth0")
        namespace.run("ip", "address", "add", "198.51.100.1/24", "dev", "up0")
        world.run("ip", "address", "add", f"{WORLD}/24", "dev", "eth0")
        namespace.run("ip", "address", "add", "2001:db8:1::1/64", "dev", "up0", "nodad")
        world.run("ip", "address", "add", f"{WORLD6}/64", "dev", "eth0", "nodad")
        yield namespace


@pytest.fixture
def guest() -> Iterator[Namespace]:
    with Namespace("guest") as namespace:
        yield namespace


def pings(one: Namespace, address: str) -> bool:
    return one.succeeds("busybox", "ping", "-c", "1", "-W", "1", address)


def resolves(guest: Namespace, name: str, server: str) -> str:
    """The address of a name, or ""."""
    said = guest.run("busybox", "nslookup", "-type=a", name, server, check=False)
    found = re.findall(r"Address(?: 1)?: (\S+)", said.partition("\n\n")[2] or said.partition(name)[2])
    return found[0] if found else ""


def test_shared_mode_gives_addresses_names_and_the_world(
    host: Namespace, guest: Namespace, world: Namespace, state: Path, tmp_path: Path
) -> None:
    before = picture(host)
    uplink = UplinkProcess(host, state, guest=guest)
    assert uplink.opened["seconds"] < 0.5
    assert uplink.opened["facts"]["gateway"] == "192.168.105.1/24"
    lease = ask_for_lease(guest, tmp_path, "-x", "hostname:larch")
    address = re.fullmatch(
        r"LEASE (192\.168\.105\.\d+)/24 router=192\.168\.105\.1 dns=192\.168\.105\.1 domain=vmnet\.internal"
        r" hostname=larch lease=3600",
        lease,
    )
    assert address, lease
    assert pings(guest, "192.168.105.1")
    assert pings(host, address[1])
    assert pings(guest, WORLD)
    # The world has no route to the subnet: it answered the host's address.
    assert not pings(world, address[1])
    assert resolves(guest, "host.vmnet.internal", "192.168.105.1") == "192.168.105.1"
    assert resolves(guest, "larch.vmnet.internal", "192.168.105.1") == address[1]
    assert uplink.stop()
    assert "DHCPACK(" in uplink.log
    assert picture(host) == before
    assert {path.name for path in state.iterdir()} <= {".lock", ".opening"}


def test_host_mode_reaches_the_host_and_nothing_else(
    host: Namespace, guest: Namespace, world: Namespace, state: Path, tmp_path: Path
) -> None:
    host.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
    before = picture(host)
    uplink = UplinkProcess(host, state, guest=guest, mode="host", gateway="192.168.77.1")
    lease = ask_for_lease(guest, tmp_path)
    assert re.match(r"LEASE 192\.168\.77\.\d+/24 router= dns=192\.168\.77\.1 ", lease), lease
    assert pings(guest, "192.168.77.1")
    # A guest that sets the route itself gets no further, though the host forwards.
    guest.run("ip", "route", "add", "default", "via", "192.168.77.1")
    world.run("ip", "route", "add", "192.168.77.0/24", "via", "198.51.100.1")
    assert not pings(guest, WORLD)
    assert not pings(world, lease.split()[1].partition("/")[0])
    assert resolves(guest, "host.vmnet.internal", "192.168.77.1") == "192.168.77.1"
    assert uplink.stop()
    assert picture(host) == before


def test_world_begins_no_connection_and_guest_speaks_for_itself_only(
    host: Namespace, guest: Namespace, world: Namespace, state: Path, tmp_path: Path
) -> None:
    uplink = UplinkProcess(host, state, guest=guest, gateway="192.168.77.1")
    address = ask_for_lease(guest, tmp_path).split()[1].partition("/")[0]
    world.run("ip", "route", "add", "192.168.77.0/24", "via", "198.51.100.1")
    assert not pings(world, address)
    guest.run("ip", "address", "add", "203.0.113.9/32", "dev", "eth0")
    host.run("ip", "route", "add", "203.0.113.9/32", "dev", uplink.device)
    world.run("ip", "route", "add", "203.0.113.9/32", "via", "198.51.100.1")
    assert not guest.succeeds("ping", "-c", "1", "-W", "1", "-I", "203.0.113.9", WORLD)
    assert not guest.succeeds("ping", "-c", "1", "-W", "1", "-I", "203.0.113.9", "192.168.77.1")
    assert pings(guest, WORLD)
    assert uplink.stop()


def test_reservations_hold_and_resolve_before_a_lease(
    host: Namespace, guest: Namespace, state: Path, tmp_path: Path
) -> None:
    mac = "52:54:00:aa:bb:01"
    uplink = UplinkProcess(
        host,
        state,
        guest=guest,
        reserve=[f"{mac}=192.168.105.77,birch", "52:54:00:aa:bb:02=192.168.105.78,elm"],
    )
    guest.run("ip", "address", "add", "192.168.105.200/24", "dev", "eth0")
    for name in ("birch", "birch.vmnet.internal"):
        assert resolves(guest, name, "192.168.105.1") == "192.168.105.77"
    guest.run("ip", "link", "set", "eth0", "address", mac)
    assert ask_for_lease(guest, tmp_path).startswith("LEASE 192.168.105.77/24 ")
    assert resolves(guest, "birch", "192.168.105.1") == "192.168.105.77"
    assert resolves(guest, "elm", "192.168.105.1") == "192.168.105.78"
    assert uplink.stop()


def test_disabled_dhcp_leaves_names(host: Namespace, guest: Namespace, state: Path, tmp_path: Path) -> None:
    uplink = UplinkProcess(
        host, state, guest=guest, dhcp=False, reserve=["52:54:00:aa:bb:01=192.168.105.77,birch"]
    )
    assert ask_for_lease(guest, tmp_path) == ""
    guest.run("ip", "address", "add", "192.168.105.9/24", "dev", "eth0")
    assert pings(guest, "192.168.105.1")
    assert resolves(guest, "birch", "192.168.105.1") == "192.168.105.77"
    assert uplink.stop()


@pytest.mark.parametrize("mode", ["shared", "host"])
def test_ipv6_by_router_advertisement(
    host: Namespace, guest: Namespace, world: Namespace, state: Path, mode: str
) -> None:
    guest.run("sysctl", "-qw", "net.ipv6.conf.default.accept_dad=0")
    before = picture(host)
    uplink = UplinkProcess(host, state, guest=guest, mode=mode, prefix="fd12:3456:789a::/64")
    guest.run(
        "timeout",
        "10",
        "sh",
        "-c",
        "until ip -6 address show dev eth0 | grep -q 'inet6 fd12'; do busybox usleep 50000; done",
    )
    assert pings(guest, "fd12:3456:789a::1")
    has_default = "default via fe80:" in guest.run("ip", "-6", "route")
    assert has_default == (mode == "shared")
    if not has_default:
        guest.run("ip", "-6", "route", "add", "default", "via", "fd12:3456:789a::1")
    assert pings(guest, WORLD6) == (mode == "shared")
    assert host.run("sysctl", "-n", "net.ipv6.conf.up0.accept_ra").strip() == ("2" if mode == "shared" else "1")
    assert uplink.stop()
    assert picture(host) == before


def test_a_guest_cannot_configure_the_host_by_router_advertisement(
    host: Namespace, guest: Namespace, state: Path
) -> None:
    uplink = UplinkProcess(host, state, guest=guest, mode="host", prefix="fd12:3456:789a::/64")
    for name in ("accept_ra", "autoconf", "accept_redirects"):
        assert host.run("sysctl", "-n", f"net.ipv6.conf.{uplink.device}.{name}").strip() == "0"
    assert uplink.stop()
    uplink = UplinkProcess(host, state, mode="host")
    assert host.run("sysctl", "-n", f"net.ipv6.conf.{uplink.device}.disable_ipv6").strip() == "1"
    assert uplink.stop()


def test_services_run_as_an_ordinary_user_with_three_capabilities(host: Namespace, state: Path) -> None:
    uplink = UplinkProcess(host, state)
    (server,) = processes(host, "dnsmasq")
    status = Path(f"/proc/{server}/status").read_text()
    assert not re.search(r"^(Uid|Gid):.*\b0\b", status, re.MULTILINE)
    assert re.search(r"^Groups:\s*$", status, re.MULTILINE)
    assert re.search(r"^CapEff:\s+0000000000003400$", status, re.MULTILINE)
    assert re.search(r"^CapBnd|^NoNewPrivs:\s+1$", status, re.MULTILINE)
    assert uplink.stop()


def test_the_gateway_keeps_its_mac_address(host: Namespace, state: Path) -> None:
    seen = []
    for interface_id in (None, None, "8e1ee2e6-9a8d-4a4c-9e1b-6a2c3c1f0a11"):
        uplink = UplinkProcess(host, state, id="aaaa0001", interface_id=interface_id)
        seen.append(host.run("cat", f"/sys/class/net/{uplink.device}/address"))
        assert uplink.stop()
    assert seen[0] == seen[1] != seen[2]


def test_a_taken_subnet_is_refused_or_avoided(host: Namespace, state: Path) -> None:
    host.run("ip", "address", "add", "192.168.105.9/24", "dev", "up0")
    host.run("ip", "route", "add", "192.168.106.0/23", "via", WORLD)
    before = picture(host)
    with pytest.raises(
        RefusedError, match=r"--vmnet-gateway asks for 192\.168\.105\.0/24.*192\.168\.105\.0/24 on up0"
    ) as r:
        UplinkProcess(host, state, gateway="192.168.105.1")
    assert r.value.kind == "ConflictError"
    with pytest.raises(RefusedError, match=r"the route 192\.168\.106\.0/23 on up0"):
        UplinkProcess(host, state, gateway="192.168.107.1")
    assert picture(host) == before
    uplink = UplinkProcess(host, state)
    assert uplink.opened["facts"]["gateway"] == "192.168.108.1/24"
    assert uplink.stop()


def test_a_taken_port_is_refused_and_nothing_is_left(host: Namespace, state: Path) -> None:
    blocker = host.run(
        "sh", "-c", "dnsmasq --conf-file=/dev/null --port=53 --pid-file= --no-resolv --no-hosts --user=root"
        " --listen-address=0.0.0.0 --bind-interfaces; true",
    )  # fmt: skip
    assert blocker == ""
    before = picture(host)
    with pytest.raises(RefusedError, match="Another program holds the DNS or DHCP port") as refused:
        UplinkProcess(host, state)
    assert refused.value.kind == "ConflictError"
    assert picture(host) == before
    assert {path.name for path in state.iterdir()} <= {".lock", ".opening"}


def test_impossible_reservations_are_refused(host: Namespace, state: Path) -> None:
    for text in ("52:54:00:aa:bb:01=10.1.2.3", "52:54:00:aa:bb:01=192.168.105.1"):
        with pytest.raises(RefusedError, match=r"--reserve 52:54:00:aa:bb:01=") as refused:
            UplinkProcess(host, state, reserve=[text])
        assert refused.value.kind == "ConfigurationError"


def test_a_log_that_nobody_reads_does_not_stop_the_services(
    host: Namespace, guest: Namespace, state: Path
) -> None:
    uplink = UplinkProcess(host, state, guest=guest, read_log=False)
    guest.run("ip", "address", "add", "192.168.105.250/24", "dev", "eth0")
    # Each makes two lines; the pipe holds some eight hundred.
    guest.run(sys.executable, "-c", DISCOVER_1000_TIMES)
    assert resolves(guest, "host.vmnet.internal", "192.168.105.1") == "192.168.105.1"
    assert uplink.stop()
