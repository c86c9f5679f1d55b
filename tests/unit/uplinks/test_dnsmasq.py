"""dnsmasq's configuration as text, reservations that cannot be, and its log lines as lease events."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv6Network
from pathlib import Path

import pytest

from vde_vmnet.addresses import Ipv4Plan, Reservation
from vde_vmnet.errors import ConfigurationError, ConflictError, UplinkError
from vde_vmnet.uplinks.linux import dnsmasq
from vde_vmnet.uplinks.linux.dnsmasq import LeaseEvent, Service, check_reservations, lease_event, render

PLAN = Ipv4Plan.build(IPv4Address("192.168.105.1"), "255.255.255.0", IPv4Address("192.168.105.99"))
V6 = IPv6Network("fd12:3456:789a::/64")
RESERVED = (
    Reservation.parse("52:54:00:aa:bb:01=192.168.105.200,birch"),
    Reservation.parse("52:54:00:aa:bb:02=192.168.105.201"),
)
SHARED = Service("vmnet-1a2b3c4d", PLAN, V6, dhcp=True, outside=True, reservations=RESERVED)
LEASES = Path("/run/vde_vmnet/x.leases")

SHARED_TEXT = """\
interface=vmnet-1a2b3c4d
except-interface=lo
bind-interfaces
no-hosts
domain=vmnet.internal
local=/vmnet.internal/
domain-needed
bogus-priv
host-record=host.vmnet.internal,192.168.105.1,fd12:3456:789a::1
host-record=birch,birch.vmnet.internal,192.168.105.200
dhcp-range=192.168.105.2,192.168.105.99,255.255.255.0,1h
dhcp-leasefile=/run/vde_vmnet/x.leases
dhcp-lease-max=100
dhcp-authoritative
dhcp-rapid-commit
no-ping
dhcp-name-match=set:wpad,wpad
dhcp-ignore-names=tag:wpad
dhcp-option=option:dns-server,192.168.105.1
dhcp-option=option:domain-search,vmnet.internal
dhcp-option=option:router,192.168.105.1
dhcp-host=52:54:00:aa:bb:01,192.168.105.200,birch
dhcp-host=52:54:00:aa:bb:02,192.168.105.201
dhcp-range=fd12:3456:789a::,ra-stateless,64,1h
enable-ra
quiet-ra
ra-param=vmnet-1a2b3c4d,60,1800
dhcp-option=option6:dns-server,[fd12:3456:789a::1]
"""


def lines(service: Service) -> list[str]:
    return render(service, LEASES).splitlines()


def test_shared_mode_with_everything() -> None:
    assert render(SHARED, LEASES) == SHARED_TEXT


def test_host_mode_offers_no_way_out_and_asks_nobody() -> None:
    config = lines(replace(SHARED, outside=False))
    assert "dhcp-option=option:router" in config
    assert "no-resolv" in config
    assert "ra-param=vmnet-1a2b3c4d,60,0" in config


def test_without_dhcp_names_remain() -> None:
    config = lines(replace(SHARED, dhcp=False, ipv6=None))
    assert not [line for line in config if line.startswith(("dhcp", "ra-", "enable-ra"))]
    assert "host-record=birch,birch.vmnet.internal,192.168.105.200" in config


def test_without_dhcp_router_advertisements_remain() -> None:
    config = lines(replace(SHARED, dhcp=False))
    assert "dhcp-range=fd12:3456:789a::,ra-only,64,1h" in config
    assert f"dhcp-leasefile={LEASES}" in config


def test_a_wide_subnet_does_not_mean_endless_leases() -> None:
    wide = Ipv4Plan.build(IPv4Address("10.0.0.1"), "255.0.0.0", IPv4Address("10.255.255.254"))
    assert "dhcp-lease-max=4096" in lines(replace(SHARED, ipv4=wide, reservations=()))


@pytest.mark.parametrize(
    ("texts", "says"),
    [
        (["52:54:00:aa:bb:01=10.0.0.1"], "outside the subnet 192.168.105.0/24"),
        (["52:54:00:aa:bb:01=192.168.105.1"], "the gateway's own address"),
        (["52:54:00:aa:bb:01=192.168.105.255"], "not the address of a machine"),
        (["52:54:00:aa:bb:01=192.168.105.0"], "not the address of a machine"),
        (["52:54:00:aa:bb:01=192.168.105.7,host"], "the host's own"),
        (["52:54:00:aa:bb:01=192.168.105.7", "52:54:00:AA:BB:01=192.168.105.8"], "repeats the MAC address"),
        (["52:54:00:aa:bb:01=192.168.105.7", "52:54:00:aa:bb:02=192.168.105.7"], "repeats the address"),
        (["52:54:00:aa:bb:01=192.168.105.7,a", "52:54:00:aa:bb:02=192.168.105.8,A"], "repeats the name"),
    ],
)
def test_reservations_that_cannot_be(texts: list[str], says: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"^--reserve .*{says}"):
        check_reservations(PLAN, [Reservation.parse(text) for text in texts])


def test_reservations_may_lie_outside_the_range() -> None:
    check_reservations(PLAN, RESERVED)


MAC = "52:54:00:aa:bb:01"


@pytest.mark.parametrize(
    ("line", "event"),
    [
        (
            f"dnsmasq-dhcp[123]: DHCPACK(vmnet-1a2b3c4d) 192.168.105.7 {MAC} birch",
            LeaseEvent("ack", MAC, "192.168.105.7", "birch"),
        ),
        (
            f"dnsmasq-dhcp: 3145 DHCPACK(vmnet-1a2b3c4d) 192.168.105.7 {MAC}",
            LeaseEvent("ack", MAC, "192.168.105.7", None),
        ),
        (
            f"dnsmasq-dhcp[123]: DHCPRELEASE(vmnet-1a2b3c4d) 192.168.105.7 {MAC}",
            LeaseEvent("release", MAC, "192.168.105.7", None),
        ),
        (
            f"dnsmasq-dhcp[123]: DHCPNAK(vmnet-1a2b3c4d) 10.0.0.7 {MAC} wrong network",
            LeaseEvent("nak", MAC, "10.0.0.7", None),
        ),
        (
            f"dnsmasq-dhcp[123]: DHCPDECLINE(vmnet-1a2b3c4d) 192.168.105.7 {MAC} ",
            LeaseEvent("decline", MAC, "192.168.105.7", None),
        ),
        (
            f"dnsmasq-dhcp[123]: DHCPDISCOVER(vmnet-1a2b3c4d) {MAC} no address available",
            LeaseEvent("none-left", MAC, "-", None),
        ),
        (f"dnsmasq-dhcp[123]: DHCPDISCOVER(vmnet-1a2b3c4d) {MAC} ", None),
        (f"dnsmasq-dhcp[123]: DHCPOFFER(vmnet-1a2b3c4d) 192.168.105.7 {MAC} ", None),
        (f"dnsmasq-dhcp[123]: DHCPACK(vmnet-1a2b3c4d) 192.168.105.7 {MAC} \x1b[31mred",
            LeaseEvent("ack", MAC, "192.168.105.7", None)),
        ("dnsmasq[123]: started, version 2.90 cachesize 150", None),
        ("", None),
    ],
)  # fmt: skip
def test_lease_events(line: str, event: LeaseEvent | None) -> None:
    assert lease_event(line) == event


def test_a_refusal_tells_a_taken_port_from_the_rest() -> None:
    gateway = PLAN.gateway
    said = "\ndnsmasq: failed to create listening socket for 192.168.105.1: Address already in use\n"
    conflict = dnsmasq._refusal(said, gateway)
    assert isinstance(conflict, ConflictError)
    assert "ss -lunp" in conflict.next_step
    other = dnsmasq._refusal("\ndnsmasq: bad option at line 3\n", gateway)
    assert isinstance(other, UplinkError)
    assert other.message == "dnsmasq did not start: bad option at line 3"
    assert "said nothing" in dnsmasq._refusal("", gateway).message


def test_an_mtu_is_told_to_every_guest() -> None:
    told = lines(replace(SHARED, mtu=9000))
    assert "dhcp-option-force=option:mtu,9000" in told
    assert "ra-param=vmnet-1a2b3c4d,mtu:9000,60,1800" in told
    assert set(lines(SHARED)) - set(told) == {"ra-param=vmnet-1a2b3c4d,60,1800"}
