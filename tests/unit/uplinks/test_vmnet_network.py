"""Networks of macOS 26: what is configured, what is read back, and what is given back."""

from __future__ import annotations

import threading
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from typing import Any

import pytest

from tests.unit.uplinks.vmnet_double import Double, fill
from vde_vmnet.addresses import Forward, Ipv4Plan, Reservation
from vde_vmnet.config.model import Mode, UplinkConfig
from vde_vmnet.errors import ConfigurationError, ConflictError, PrivilegeError, UplinkError
from vde_vmnet.uplinks.vmnet import network
from vde_vmnet.uplinks.vmnet.failures import Situation
from vde_vmnet.uplinks.vmnet.patience import Patience

MAKING = Situation("make the network", Mode.SHARED, root=True, network_api=True)
PLAN = Ipv4Plan.build(IPv4Address("192.168.105.1"), "255.255.255.0", None)
CONFIGURATION, NETWORK = 51, 61
_PREFIX = "vmnet_network_configuration_"


def framework(answers: dict[str, Any] | None = None, *, subnet: str = "192.168.105.1") -> Double:
    def ipv4(_: int, address: Any, mask: Any) -> None:
        fill(address, IPv4Address(subnet).packed)
        fill(mask, b"\xff\xff\xff\x00")

    def ipv6(_: int, prefix: Any, length: Any) -> None:
        fill(prefix, IPv6Address("fd12::").packed)
        length._obj.value = 64

    nothing = dict.fromkeys((f"{_PREFIX}disable_dhcp", "CFRelease"))
    known = {
        f"{_PREFIX}create": CONFIGURATION,
        "vmnet_network_create": NETWORK,
        "vmnet_network_get_ipv4_subnet": ipv4,
        "vmnet_network_get_ipv6_prefix": ipv6,
    }
    return Double(**{**nothing, **known, **(answers or {})})


def test_everything_is_configured_and_the_configuration_given_back() -> None:
    binding = framework()
    config = UplinkConfig(
        ipv4=PLAN,
        nat66_prefix=IPv6Network("fd12::/64"),
        dhcp=False,
        mtu=9000,
        reservations=(Reservation.parse("52:54:00:0a:0b:0c=192.168.105.21,web"),),
        forwards=(Forward.parse("8080:192.168.105.21:80"), Forward.parse("udp:53:192.168.105.21:5353")),
    )
    made = network.make(binding, config, MAKING, Patience(0.05))
    guest = b"\xc0\xa8\x69\x15"
    settings = [
        (name.removeprefix(_PREFIX), arguments[1:])
        for name, arguments in binding.calls
        if name.startswith(_PREFIX) and name != f"{_PREFIX}create"
    ]
    assert settings == [
        ("set_ipv4_subnet", (b"\xc0\xa8\x69\x01", b"\xff\xff\xff\x00")),
        ("set_ipv6_prefix", (IPv6Address("fd12::").packed, 64)),
        ("set_mtu", (9000,)),
        ("disable_dhcp", ()),
        ("add_dhcp_reservation", (b"\x52\x54\x00\x0a\x0b\x0c", guest)),
        ("add_port_forwarding_rule", (6, 2, 80, 8080, guest)),  # internal before external
        ("add_port_forwarding_rule", (17, 2, 5353, 53, guest)),
    ]
    assert binding.called("CFRelease") == [(CONFIGURATION,)]
    assert made.handle == NETWORK
    assert made.report() == {
        "net_ipv4_subnet": "192.168.105.1",
        "net_ipv4_mask": "255.255.255.0",
        "net_ipv6_prefix": "fd12::",
        "net_ipv6_prefix_len": 64,
    }


def test_another_subnet_than_the_one_asked_for_is_refused() -> None:
    binding = framework(subnet="192.168.66.1")
    with pytest.raises(ConflictError, match=r"made the network 192\.168\.66\.0/24 instead of 192\.168\.105"):
        network.make(binding, UplinkConfig(ipv4=PLAN), MAKING, Patience(0.05))
    assert binding.called("CFRelease") == [(CONFIGURATION,), (NETWORK,)]


def test_a_refused_setting_names_its_option() -> None:
    binding = framework({f"{_PREFIX}add_dhcp_reservation": 1003})
    config = UplinkConfig(ipv4=PLAN, reservations=(Reservation.parse("52:54:00:0a:0b:0c=192.168.105.21"),))
    with pytest.raises(ConfigurationError, match=r"^--reserve 52:54:00:0a:0b:0c=192\.168\.105\.21: vmnet"):
        network.make(binding, config, MAKING, Patience(0.05))
    assert binding.called("CFRelease") == [(CONFIGURATION,)]
    assert binding.called("vmnet_network_create") == []


@pytest.mark.parametrize("where", [f"{_PREFIX}create", "vmnet_network_create"])
def test_a_status_comes_out_of_either_call(where: str) -> None:
    def refuse(_: object, status: Any) -> None:
        status._obj.value = 1002

    user = Situation("make the network", Mode.SHARED, root=False, network_api=True)
    with pytest.raises(PrivilegeError, match=r"out of memory \(1002\).*virtualization"):
        network.make(framework({where: refuse}), UplinkConfig(), user, Patience(0.05))


def test_a_call_that_never_returns() -> None:
    release = threading.Event()
    binding = framework({"vmnet_network_create": lambda *_: release.wait(20)})
    try:
        with pytest.raises(UplinkError, match=r"did not make the network within 0\.05 s"):
            network.make(binding, UplinkConfig(), MAKING, Patience(0.05))
    finally:
        release.set()
