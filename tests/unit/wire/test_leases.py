"""Lease files of both systems, as they are written and as a guest would like them to be misread."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from vde_vmnet.wire.leases import Lease, parse_dhcpd, parse_dnsmasq

DHCPD = """{
	name=web
	ip_address=192.168.105.2
	hw_address=1,52:54:0:12:34:56
	identifier=1,52:54:0:12:34:56
	lease=0x65f1a2b3
}
{
	ip_address=192.168.105.3
	hw_address=ff,f1:f5:dd:7f:0:2:0:0:ab:11
	identifier=ff,f1:f5:dd:7f:0:2:0:0:ab:11
	lease=0x65f1a2b4
}
"""


def test_bootpd_s_file() -> None:
    assert parse_dhcpd(DHCPD) == [
        Lease(ip_address("192.168.105.2"), "52:54:00:12:34:56", "web", 0x65F1A2B3),
        Lease(ip_address("192.168.105.3"), None, None, 0x65F1A2B4),
    ]


@pytest.mark.parametrize(
    "text",
    ["", "{", "}{", "{}", "{\n}\n", "{\nip_address=x\n}", "{\nname=a\n", "ip_address=192.168.1.1", "{{{}}}"],
)
def test_nothing_where_nothing_is(text: str) -> None:
    assert parse_dhcpd(text) == []


def test_a_name_is_data() -> None:
    (lease,) = parse_dhcpd("{\nname=a\x1b[31m b\nip_address=10.0.0.2\nhw_address=1,zz\nlease=soon\n}")
    assert lease == Lease(ip_address("10.0.0.2"), None, "a?[31m?b", None)


def test_dnsmasq_s_file() -> None:
    text = (
        "1763841600 52:54:00:76:64:01 192.168.105.2 guest1 01:52:54:00:76:64:01\n"
        "0 52:54:00:76:64:02 192.168.105.3 * *\n"
        "nonsense\n"
        "duid 00:01:00:01\n"
        "1763841600 7601 fd12::2 * 00:01\n"
    )
    assert parse_dnsmasq(text) == [
        Lease(ip_address("192.168.105.2"), "52:54:00:76:64:01", "guest1", 1763841600),
        Lease(ip_address("192.168.105.3"), "52:54:00:76:64:02", None, None),
        Lease(ip_address("fd12::2"), None, None, 1763841600),
    ]
