"""What is asked of vmnet for each mode and option, and what is refused before anything is asked."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv6Network
from typing import Any
from uuid import UUID

import pytest

from vde_vmnet.addresses import Forward, Ipv4Plan, Reservation
from vde_vmnet.config.model import Mode, UplinkConfig
from vde_vmnet.errors import ConfigurationError, UnavailableError
from vde_vmnet.uplinks.vmnet import request
from vde_vmnet.uplinks.vmnet.xpc import Entry

PLAN = Ipv4Plan.build(IPv4Address("192.168.105.1"), "255.255.255.0", None)
ID = UUID("deadbeef-0000-4000-8000-000000000001")
RESERVED = (Reservation.parse("52:54:00:00:00:01=192.168.105.21,web"),)
FORWARDED = (Forward.parse("8080:192.168.105.21:80"),)


def asked(config: UplinkConfig) -> dict[str, Any]:
    return {
        entry.symbol.removeprefix("vmnet_").removesuffix("_key"): entry.value
        for entry in request.classic(config, "1a2b3c4d")
    }


def test_shared_with_everything() -> None:
    config = UplinkConfig(
        ipv4=PLAN, interface_id=ID, nat66_prefix=IPv6Network("fd12::/64"), mtu=9000, isolation=True
    )
    assert asked(config) == {
        "operation_mode": 1001,
        "interface_id": ID,
        "start_address": "192.168.105.1",
        "end_address": "192.168.105.254",
        "subnet_mask": "255.255.255.0",
        "nat66_prefix": "fd12::",
        "mtu": 9000,
        "enable_isolation": True,
    }


def test_bridged_has_the_interface_and_no_addresses() -> None:
    assert asked(UplinkConfig(mode=Mode.BRIDGED, interface="en0", interface_id=ID)) == {
        "operation_mode": 1002,
        "interface_id": ID,
        "shared_interface_name": "en0",
    }


def test_host_mode_with_an_identifier_has_an_address_of_its_own_and_no_range() -> None:
    config = UplinkConfig(mode=Mode.HOST, ipv4=PLAN, interface_id=ID, network_identifier=ID, dhcp=False)
    assert asked(config) == {
        "operation_mode": 1000,
        "interface_id": ID,
        "network_identifier": ID,
        "host_ip_address": "192.168.105.1",
        "host_subnet_mask": "255.255.255.0",
    }


def test_host_mode_without_dhcp_gets_an_identifier_that_stays() -> None:
    config = UplinkConfig(mode=Mode.HOST, dhcp=False)
    first, again = asked(config)["network_identifier"], asked(config)["network_identifier"]
    assert first == again and isinstance(first, UUID) and first != asked(config)["interface_id"]


def test_the_interface_id_is_the_network_s_own() -> None:
    one, two = (request.interface_id(UplinkConfig(), name) for name in ("1a2b3c4d", "1a2b3c4e"))
    assert one == request.interface_id(UplinkConfig(), "1a2b3c4d") != two
    assert one.version == 5


@pytest.mark.parametrize(
    ("config", "options"),
    [
        (UplinkConfig(ipv4=PLAN), []),
        (UplinkConfig(reservations=RESERVED), ["--reserve"]),
        (UplinkConfig(forwards=FORWARDED), ["--forward"]),
        (UplinkConfig(dhcp=False), ["--vmnet-disable-dhcp"]),
        (UplinkConfig(mode=Mode.HOST, dhcp=False), ["--vmnet-disable-dhcp"]),
        (UplinkConfig(mode=Mode.HOST, dhcp=False, network_identifier=ID), []),
        (UplinkConfig(mode=Mode.BRIDGED, dhcp=False), []),
    ],
)
def test_the_network_interface_only_where_it_is_needed(config: UplinkConfig, options: list[str]) -> None:
    assert request.network_options(config) == options


def test_what_an_older_macos_cannot_do() -> None:
    with pytest.raises(UnavailableError, match="--vmnet-disable-dhcp in shared mode needs macOS 26"):
        request.too_old(UplinkConfig(dhcp=False))
    request.too_old(UplinkConfig(mode=Mode.HOST, dhcp=False))
    request.too_old(UplinkConfig(reservations=RESERVED, forwards=FORWARDED))


def test_what_gets_lost_in_a_network() -> None:
    config = UplinkConfig(
        ipv4=Ipv4Plan.build(IPv4Address("192.168.105.1"), "255.255.255.0", IPv4Address("192.168.105.99")),
        interface_id=ID,
        reservations=RESERVED,
    )
    assert request.losses(config, ["--reserve"]) == [
        "--vmnet-interface-id has no effect together with --reserve",
        "--vmnet-dhcp-end has no effect together with --reserve",
    ]
    assert request.losses(UplinkConfig(ipv4=PLAN), ["--reserve"]) == []
    assert request.in_network(replace(config, isolation=True)) == [
        Entry("vmnet_enable_isolation_key", True, "--vmnet-enable-isolation")
    ]


def test_a_network_has_its_gateway_first() -> None:
    plan = Ipv4Plan.build(IPv4Address("192.168.105.7"), "255.255.255.0", None)
    with pytest.raises(ConfigurationError, match=r"--vmnet-gateway=192\.168\.105\.1$"):
        request.losses(UplinkConfig(ipv4=plan), ["--reserve"])


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (UplinkConfig(reservations=RESERVED), "--reserve requires --vmnet-gateway"),
        (
            UplinkConfig(ipv4=PLAN, reservations=(Reservation.parse("52:54:00:00:00:01=10.0.0.2"),)),
            "is outside the subnet 192.168.105.0/24",
        ),
        (
            UplinkConfig(ipv4=PLAN, reservations=(Reservation.parse("52:54:00:00:00:01=192.168.105.1"),)),
            "not the address of a guest",
        ),
        (UplinkConfig(ipv4=PLAN, reservations=RESERVED + RESERVED), "repeats"),
        (UplinkConfig(forwards=(Forward.parse("127.0.0.1:1:10.0.0.2:1"),)), "Leave 127.0.0.1 out"),
        (UplinkConfig(ipv4=PLAN, forwards=(Forward.parse("1:10.0.0.2:1"),)), "10.0.0.2 is outside"),
        (
            UplinkConfig(ipv4=Ipv4Plan.build(IPv4Address("8.8.8.1"), "255.255.255.0", None)),
            "only private subnets",
        ),
    ],
)
def test_refused_on_any_macos(config: UplinkConfig, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        request.check(config)


def test_nothing_is_refused_that_works() -> None:
    request.check(UplinkConfig(ipv4=PLAN, reservations=RESERVED, forwards=FORWARDED))
    request.check(UplinkConfig(mode=Mode.BRIDGED, interface="en0"))
