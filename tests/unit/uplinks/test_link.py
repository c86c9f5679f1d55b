"""Names, MAC addresses, what `ip` tells of interfaces, and which of them can be joined."""

from __future__ import annotations

from uuid import UUID

import pytest

from vde_vmnet.addresses import MacAddress
from vde_vmnet.errors import ConfigurationError
from vde_vmnet.uplinks.linux.bridged import target
from vde_vmnet.uplinks.linux.link import Link, stable_mac, tap_name
from vde_vmnet.uplinks.linux.macvtap import MacvtapGroup

UUIDS = [UUID(int=number) for number in (1, 2)]


def test_interface_names_fit_the_kernel() -> None:
    device = tap_name("1a2b3c4d")
    assert device == "vmnet-1a2b3c4d"
    assert len(f"{MacvtapGroup('eth0', device)._guest_prefix}-63") == 15


def test_mac_addresses_are_stable_local_and_of_one_machine() -> None:
    macs = [stable_mac("1a2b3c4d", None), stable_mac("1a2b3c4e", None)]
    macs += [stable_mac("1a2b3c4d", uuid) for uuid in UUIDS]
    assert len(set(macs)) == 4
    for mac in macs:
        assert MacAddress.parse(mac).text == mac
        assert int(mac[:2], 16) & 3 == 2
    assert stable_mac("1a2b3c4d", UUIDS[0]) == stable_mac("another", UUIDS[0])


def test_reading_links() -> None:
    plain = {
        "ifname": "br0",
        "flags": ["BROADCAST", "UP"],
        "mtu": 9000,
        "link_type": "ether",
        "linkinfo": {"info_kind": "bridge", "info_data": {"stp_state": 1}},
    }
    assert Link.from_ip(plain) == Link("br0", "bridge", "ether", None, up=True, mtu=9000, spanning_tree=True)
    bare = {"ifname": "lo", "flags": [], "link_type": "loopback", "master": "x"}
    assert Link.from_ip(bare) == Link("lo", "", "loopback", "x", up=False, mtu=1500)


LINKS = [
    Link("lo", "", "loopback", None, up=True, mtu=65536),
    Link("eth0", "", "ether", None, up=True, mtu=1500),
    Link("eth1", "", "ether", "br0", up=True, mtu=1500),
    Link("eth2", "", "ether", None, up=False, mtu=1500),
    Link("br0", "bridge", "ether", None, up=True, mtu=1500),
    Link("vmnet-1", "tun", "ether", None, up=True, mtu=1500),
    Link("wg0", "wireguard", "none", None, up=True, mtu=1420),
]


@pytest.mark.parametrize("name", ["eth0", "br0"])
def test_what_can_be_joined(name: str) -> None:
    assert target(name, LINKS).name == name


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("eth9", r'"eth9" does not exist. This host has: eth0, eth1, eth2, br0$'),
        (None, "does not exist"),
        ("lo", "carries no Ethernet frames"),
        ("wg0", "carries no Ethernet frames"),
        ("eth1", r"belongs to br0 already. Use --vmnet-interface=br0$"),
        ("eth2", r"is down. Bring it up with: ip link set eth2 up$"),
    ],
)
def test_what_cannot_be_joined(name: str | None, says: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"^--vmnet-interface .*{says}"):
        target(name, LINKS)
