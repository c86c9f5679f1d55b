"""Bridged mode in namespaces: a Linux bridge, and macvtaps on a plain interface."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.netns import Namespace, wire
from tests.system.linux_uplink import RefusedError, UplinkProcess, ask_for_lease, picture

pytestmark = pytest.mark.root

MAC = "52:54:00:aa:bb:01"


@pytest.fixture
def lan() -> Iterator[Namespace]:
    """A machine on the local network that hands out addresses."""
    with Namespace("lan") as namespace:
        yield namespace


@pytest.fixture
def host(lan: Namespace) -> Iterator[Namespace]:
    """A host with the interface up0 in the local network."""
    with Namespace("host") as namespace:
        for one in (namespace, lan):
            one.run("sysctl", "-qw", "net.ipv6.conf.default.accept_dad=0")
        wire(namespace, "up0", lan, "eth0")
        lan.run("ip", "address", "add", "10.1.2.1/24", "dev", "eth0")
        lan.run(
            "dnsmasq", "--conf-file=/dev/null", "--interface=eth0", "--bind-interfaces", "--pid-file=",
            "--dhcp-range=10.1.2.50,10.1.2.60", "--dhcp-leasefile=/dev/null", "--no-ping",
        )  # fmt: skip
        yield namespace


@pytest.fixture
def guest() -> Iterator[Namespace]:
    with Namespace("guest") as namespace:
        yield namespace


def pings(one: Namespace, address: str) -> bool:
    return one.succeeds("busybox", "ping", "-c", "1", "-W", "1", address)


def make_bridge(host: Namespace) -> None:
    """br0 with up0 in it; a new port of it would wait 15 s before it forwards."""
    host.run("sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1", "net.ipv6.conf.up0.disable_ipv6=1")
    host.run("ip", "link", "add", "br0", "type", "bridge", "forward_delay", "1500")
    host.run("ip", "link", "set", "up0", "master", "br0")
    host.run("ip", "link", "set", "br0", "up")
    host.run("bridge", "link", "set", "dev", "up0", "state", "3")
    settled = "until ip -br link show br0 | grep -q ' UP '; do busybox usleep 10000; done"
    host.run("timeout", "5", "sh", "-c", settled)


def test_a_bridge_gets_one_more_port(
    host: Namespace, lan: Namespace, guest: Namespace, state: Path, tmp_path: Path
) -> None:
    make_bridge(host)
    host.run("ip", "link", "set", "up0", "mtu", "1400")
    before = picture(host)
    bridge_mac = host.run("cat", "/sys/class/net/br0/address")
    uplink = UplinkProcess(host, state, guest=guest, mode="bridged", interface="br0")
    assert uplink.opened["facts"]["joined as"] == f"port {uplink.device} of bridge br0"
    assert host.run("cat", "/sys/class/net/br0/address") == bridge_mac
    assert host.run("cat", "/sys/class/net/br0/mtu").strip() == "1400"
    assert ask_for_lease(guest, tmp_path).startswith("LEASE 10.1.2.")
    assert pings(guest, "10.1.2.1")
    assert uplink.stop()
    assert picture(host) == before


def test_a_plain_interface_gets_macvtaps(
    host: Namespace, lan: Namespace, guest: Namespace, state: Path, tmp_path: Path
) -> None:
    before = picture(host)
    nodes = {path.name for path in Path("/dev").iterdir()}
    uplink = UplinkProcess(host, state, guest=guest, mode="bridged", interface="up0")
    assert uplink.opened["per_guest_mac"]
    guest.run("ip", "link", "set", "eth0", "address", MAC)
    assert uplink.open_guest_mac(MAC) == f"macvtap vmg-{uplink.id}-00"
    assert ask_for_lease(guest, tmp_path).startswith("LEASE 10.1.2.")
    assert pings(guest, "10.1.2.1")
    lan.run("ip", "neigh", "flush", "all")
    assert pings(
        lan, guest.run("sh", "-c", "ip -4 -o address show eth0 | grep -o '10[.0-9]*' | head -1").strip()
    )
    assert uplink.stop()
    assert picture(host) == before
    assert not any(
        "vmnet" in name or "vmg-" in name for name in {p.name for p in Path("/dev").iterdir()} - nodes
    )


def test_macvtaps_are_bounded_and_foreign_addresses_refused(host: Namespace, state: Path) -> None:
    before = picture(host)
    uplink = UplinkProcess(host, state, mode="bridged", interface="up0")
    host.run(
        "ip",
        "link",
        "add",
        "link",
        "up0",
        "name",
        "theirs",
        "address",
        MAC,
        "type",
        "macvlan",
        "mode",
        "bridge",
    )
    host.run("ip", "link", "set", "theirs", "up")
    with pytest.raises(RefusedError, match=f"{MAC} is already in use on up0") as refused:
        uplink.open_guest_mac(MAC)
    assert refused.value.kind == "ConflictError"
    host.run("ip", "link", "del", "theirs")
    for number in range(64):
        uplink.open_guest_mac(f"52:54:00:00:01:{number:02x}")
    with pytest.raises(RefusedError, match="is not a MAC address"):
        uplink.open_guest_mac("up0;link")
    with pytest.raises(RefusedError, match="64 guest addresses"):
        uplink.open_guest_mac("52:54:00:00:02:00")
    assert uplink.stop()
    assert picture(host) == before


def test_macvtaps_of_a_killed_network_are_removed(host: Namespace, state: Path) -> None:
    before = picture(host)
    uplink = UplinkProcess(host, state, mode="bridged", interface="up0")
    uplink.open_guest_mac(MAC)
    uplink.kill()
    assert host.succeeds("ip", "link", "show", f"vmg-{uplink.id}-00")
    for record in state.glob("*.json"):
        record.unlink()
    # Without the record they are known by name; with it, the sweep has removed them before.
    again = UplinkProcess(host, state, id=uplink.id, mode="bridged", interface="up0")
    assert again.open_guest_mac(MAC)
    again.kill()
    last = UplinkProcess(host, state, mode="bridged", interface="up0")
    assert last.opened["swept"] == [uplink.id]
    assert last.stop()
    assert picture(host) == before


@pytest.mark.parametrize(
    ("interface", "says"),
    [
        ("eth7", '--vmnet-interface "eth7" does not exist. This host has: .*up0.*br0'),
        ("up0", '--vmnet-interface "up0" belongs to br0 already. Use --vmnet-interface=br0'),
        ("lo", "carries no Ethernet frames"),
        ("down0", '--vmnet-interface "down0" is down'),
    ],
)
def test_what_cannot_be_joined(host: Namespace, state: Path, interface: str, says: str) -> None:
    make_bridge(host)
    host.run("ip", "link", "add", "down0", "type", "bridge")
    before = picture(host)
    with pytest.raises(RefusedError, match=says) as refused:
        UplinkProcess(host, state, mode="bridged", interface=interface)
    assert refused.value.kind == "ConfigurationError"
    assert picture(host) == before
