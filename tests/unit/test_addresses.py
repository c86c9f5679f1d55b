"""Values that check themselves."""

from ipaddress import IPv4Address

import pytest

from vde_vmnet.addresses import Ipv4Plan, MacAddress, Reservation


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("52:54:00:12:34:56", "52:54:00:12:34:56"),
        ("DE:AD:BE:EF:00:01", "de:ad:be:ef:00:01"),
        ("de-ad-be-ef-00-01", "de:ad:be:ef:00:01"),
    ],
)
def test_mac_is_made_canonical(text: str, canonical: str) -> None:
    assert str(MacAddress.parse(text)) == canonical


@pytest.mark.parametrize(
    "text", ["", "52:54:00:12:34", "52:54:00:12:34:5g", "01:00:5e:00:00:01", "00:00:00:00:00:00"]
)
def test_mac_refused(text: str) -> None:
    with pytest.raises(ValueError, match=f'"{text}"'):
        MacAddress.parse(text)


def test_reservation_with_and_without_name() -> None:
    assert Reservation.parse("52:54:00:00:00:01=192.168.105.9").name is None
    named = Reservation.parse("52:54:00:00:00:01=192.168.105.9,Web-1")
    assert (str(named.address), named.name) == ("192.168.105.9", "web-1")


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("52:54:00:00:00:01", "MAC=IP"),
        ("52:54=192.168.105.9", "MAC address"),
        ("52:54:00:00:00:01=192.168.105", "IPv4 address"),
        ("52:54:00:00:00:01=192.168.105.9,", "host name"),
        ("52:54:00:00:00:01=192.168.105.9,-x", "host name"),
        ("52:54:00:00:00:01=192.168.105.9,a b", "host name"),
    ],
)
def test_reservation_refused_by_part(text: str, part: str) -> None:
    with pytest.raises(ValueError, match=part):
        Reservation.parse(text)


@pytest.mark.parametrize(
    ("gateway", "mask", "end", "expected_range"),
    [
        ("192.168.105.1", "255.255.255.0", None, ("192.168.105.2", "192.168.105.254")),
        ("192.168.105.1", "255.255.255.0", "192.168.105.100", ("192.168.105.2", "192.168.105.100")),
        ("192.168.105.100", "255.255.255.0", None, ("192.168.105.101", "192.168.105.254")),
        ("10.0.0.1", "255.255.0.0", "10.0.3.255", ("10.0.0.2", "10.0.3.255")),
        ("10.0.0.1", "255.255.255.240", None, ("10.0.0.2", "10.0.0.14")),
        ("10.0.0.1", "255.255.255.252", None, ("10.0.0.2", "10.0.0.2")),
    ],
)
def test_plan(gateway: str, mask: str, end: str | None, expected_range: tuple[str, str]) -> None:
    plan = Ipv4Plan.build(IPv4Address(gateway), mask, IPv4Address(end) if end else None)
    assert (str(plan.dhcp_start), str(plan.dhcp_end)) == expected_range


@pytest.mark.parametrize(
    ("gateway", "mask", "end", "message"),
    [
        ("192.168.105.1", "255.255.255.0", "192.168.106.9", "--vmnet-dhcp-end 192.168.106.9 is outside"),
        ("192.168.105.9", "255.255.255.0", "192.168.105.5", "below the first DHCP address 192.168.105.10"),
        ("192.168.105.9", "255.255.255.0", "192.168.105.9", "is the gateway itself"),
        ("192.168.105.9", "255.255.255.0", "192.168.105.255", "broadcast"),
        ("192.168.105.254", "255.255.255.0", None, "--vmnet-gateway 192.168.105.254 leaves no addresses"),
        ("192.168.105.0", "255.255.255.0", None, "--vmnet-gateway 192.168.105.0 is not a host address"),
        ("192.168.105.255", "255.255.255.0", None, "--vmnet-gateway 192.168.105.255 is not a host address"),
        ("127.0.0.1", "255.255.255.0", None, "--vmnet-gateway 127.0.0.1 is not usable"),
        ("224.0.0.1", "255.255.255.0", None, "--vmnet-gateway 224.0.0.1 is not usable"),
        ("192.168.105.1", "255.255.255.255", None, "--vmnet-mask .* no room"),
        ("192.168.105.1", "254.0.0.0", None, "--vmnet-mask .* too wide"),
        ("192.168.105.1", "0.0.0.255", None, "--vmnet-mask .* not a subnet mask"),
        ("192.168.105.1", "255.0.255.0", None, "--vmnet-mask .* not a subnet mask"),
        ("192.168.105.1", "24", None, "--vmnet-mask .* not a subnet mask"),
    ],
)
def test_plan_refused_names_the_option(gateway: str, mask: str, end: str | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Ipv4Plan.build(IPv4Address(gateway), mask, IPv4Address(end) if end else None)
