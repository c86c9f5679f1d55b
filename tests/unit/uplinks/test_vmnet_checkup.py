"""What doctor makes of a Mac's answers; and of a host that is none."""

from __future__ import annotations

import plistlib
from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest

from vde_vmnet.errors import ConflictError
from vde_vmnet.uplinks.check import Level
from vde_vmnet.uplinks.vmnet import paths
from vde_vmnet.uplinks.vmnet.checkup import (
    bootpd_check,
    bootpd_job_check,
    internet_sharing_check,
    routed,
    vpn_check,
)

ON = "Firewall is enabled. (State = 1)\n"


@pytest.mark.parametrize(
    ("state", "about", "said", "blamed"),
    [
        ("", "", "cannot be asked", False),
        ("Firewall is disabled. (State = 0)\n", "", "off", False),
        (ON, "Incoming connection to the application is permitted \n", "lets the DHCP server", False),
        (ON, "The application is not part of the firewall\n", "lets the DHCP server", False),
        (ON, "Incoming connections to the application are blocked \n", "blocks", True),
        ("Firewall is blocking all (State = 2)\n", "Incoming ... blocked", "blocks", True),
    ],
)
def test_the_application_firewall(state: str, about: str, said: str, blamed: bool) -> None:
    check = bootpd_check(lambda option, *_: state if option == "--getglobalstate" else about)
    assert said in check.said
    assert (check.blame is ConflictError) == blamed
    if blamed:
        for action in ("--remove", "--add", "--unblock"):
            assert f"socketfilterfw {action} /usr/libexec/bootpd" in check.next_step
        assert check.why == "guests get no IPv4 address"


@pytest.mark.parametrize(
    ("disabled", "level"),
    [
        ('disabled services = {\n\t"com.apple.bootpd" => disabled\n}\n', Level.FAILURE),
        ('disabled services = {\n\t"com.apple.bootpd" => true\n}\n', Level.FAILURE),
        ('disabled services = {\n\t"com.apple.bootpd" => enabled\n}\n', Level.OK),
        ('disabled services = {\n\t"com.apple.ftpd" => disabled\n}\n', Level.OK),
        ("", Level.UNSEEN),
    ],
)
def test_whether_launchd_may_start_the_dhcp_server(disabled: str, level: Level) -> None:
    assert bootpd_job_check(disabled).level is level


@pytest.mark.parametrize(
    ("settings", "level"),
    [
        ({"NAT": {"Enabled": 1}}, Level.FAILURE),
        ({"NAT": {"Enabled": 0}}, Level.OK),
        ({}, Level.OK),
        (None, Level.OK),
        (["not", "what", "is", "expected"], Level.OK),
    ],
)
def test_internet_sharing(settings: Any, level: Level, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "com.apple.nat.plist"
    if settings is not None:
        place.write_bytes(plistlib.dumps(settings))
    monkeypatch.setattr(paths, "MACOS", replace(paths.MACOS, internet_sharing=place))
    found = internet_sharing_check()
    assert found.level is level
    if level is Level.FAILURE:
        assert "sharing service busy" in found.why and "--vmnet-mode=bridged" in found.next_step


def test_a_way_out_through_a_vpn() -> None:
    lines = [
        "Destination Gateway Flags Netif Expire",
        "default 192.168.1.1 UGScg en0",
        "10.8/14 10.8.0.1 UGSc utun3",
    ]
    assert vpn_check(lines).level is Level.OK
    for way in ("default link#20 UCS utun4", "0/1 10.8.0.1 UGSc utun4", "128.0/1 10.8.0.1 UGSc ppp0"):
        assert vpn_check([*lines, way]).level is Level.WARNING


def test_routes_as_netstat_abbreviates_them() -> None:
    lines = """Routing tables

Internet:
Destination        Gateway            Flags               Netif Expire
default            192.168.1.1        UGScg                 en0
127                127.0.0.1          UCS                   lo0
169.254            link#12            UCS                   en0      !
192.168.1          link#12            UCS                   en0      !
192.168.1.1/32     link#12            UCS                   en0      !
192.168.64         link#20            UC              bridge100      !
10.8/14            10.8.0.1           UGSc                utun3
224.0.0/4          link#12            UmCS                  en0      !
garbage/99         x y z
""".splitlines()
    assert list(routed(lines)) == [
        (IPv4Network("169.254.0.0/16"), "en0"),
        (IPv4Network("192.168.1.0/24"), "en0"),
        (IPv4Network("192.168.64.0/24"), "bridge100"),
        (IPv4Network("10.8.0.0/14"), "utun3"),
    ]
