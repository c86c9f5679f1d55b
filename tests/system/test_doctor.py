"""``doctor`` on hosts made in namespaces: real firewall rules, routes and settings, a running network and
who may plug in there, and what a ``kill -9`` leaves."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support import as_user
from tests.support.daemon import GATEWAY, Daemon
from tests.support.netns import Namespace
from vde_vmnet.demo.accounts import unprivileged_account

pytestmark = pytest.mark.root

Findings = list[dict[str, Any]]


def doctor(host: Namespace, *argv: str, program: tuple[str, ...] = ("-m", "vde_vmnet")) -> tuple[int, Findings]:
    done = subprocess.run(
        host.command(sys.executable, *program, "doctor", "--json", *argv),
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.stderr == ""
    said = json.loads(done.stdout)
    assert said["status"] == done.returncode
    return done.returncode, said["findings"]


def about(what: str, findings: Findings) -> Findings:
    return [one for one in findings if one["what"] == what]


def rules(host: Namespace, text: str) -> None:
    subprocess.run(host.command("nft", "-f", "-"), input=text, text=True, check=True)


@pytest.fixture(scope="module")
def network() -> Iterator[Daemon]:
    with Namespace("host") as host, Daemon(host, f"--vmnet-gateway={GATEWAY}") as running:
        yield running


def test_a_host_with_nothing_in_the_way(host: Namespace) -> None:
    status, found = doctor(host, "--vmnet-gateway=192.168.222.1")
    assert status == 0
    assert {one["level"] for one in found} <= {"ok", "note"}
    (subnet,) = about("subnet 192.168.222.0/24", found)
    assert subnet["said"] == "free"
    for tool in ("ip", "nft", "dnsmasq"):
        (one,) = about(tool, found)
        assert one["said"].startswith("/") and one["said"].split()[-1][0].isdigit(), one


def test_in_words(host: Namespace) -> None:
    rules(host, "table inet f { chain i { type filter hook input priority 0; policy drop; }; }")
    done = subprocess.run(
        host.command(sys.executable, "-m", "vde_vmnet", "doctor"), capture_output=True, text=True, check=False
    )
    assert done.returncode == 5
    at = done.stdout.index("FAIL  firewall: nftables drops the guests' DHCP requests")
    assert done.stdout[at:].splitlines()[1:3] == [
        "      guests get no address",
        "      sudo nft insert rule inet f i iifname 'vmnet-*' accept",
    ]


def test_wrong_usage(host: Namespace) -> None:
    done = subprocess.run(
        host.command(sys.executable, "-m", "vde_vmnet", "doctor", "--vmnet-gateway=nonsense"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1 and "nonsense" in done.stderr


def test_a_firewall_in_the_way_and_what_was_advised(network: Daemon) -> None:
    host = network.host
    assert [one["level"] for one in about("firewall", doctor(host)[1])] == ["ok"]
    rules(
        host,
        "table inet strict {\n"
        " chain input { type filter hook input priority 0; policy drop; iifname lo accept; }\n"
        " chain forward { type filter hook forward priority 0; policy drop; ct state established accept; }\n"
        "}",
    )
    try:
        status, found = doctor(host)
        assert status == 5
        blocked = about("firewall", found)
        assert [one["why"] for one in blocked] == [
            "guests get no address",  # nor names, which is the same policy's doing
            "guests have an address and reach nothing beyond this host",
        ]
        for step in {one["next_step"] for one in blocked}:
            host.run("sh", "-ec", step.replace("sudo ", ""))
        status, found = doctor(host)
        assert status == 0, found
    finally:
        host.run("nft", "delete", "table", "inet", "strict")


def test_a_subnet_that_is_taken(network: Daemon) -> None:
    status, found = doctor(network.host, f"--vmnet-gateway={GATEWAY}")
    assert status == 5
    (subnet,) = about("subnet 192.168.105.0/24", found)
    assert subnet["level"] == "fail" and network.device in subnet["said"]


def test_a_vpn_that_takes_the_guests_away(network: Daemon) -> None:
    host = network.host
    host.run("ip", "tuntap", "add", "tun9", "mode", "tun")
    try:
        host.run("ip", "link", "set", "tun9", "up")
        host.run("ip", "route", "add", "192.168.105.128/25", "dev", "tun9")
        status, found = doctor(host)
        assert status == 5
        (taken,) = about("subnet 192.168.105.0/24", found)
        assert "routed to tun9 (tun) too, as 192.168.105.128/25" in taken["said"]
    finally:
        host.run("ip", "link", "delete", "tun9")
    assert about("VPN", doctor(host)[1])[0]["said"] == "none"


def test_forwarding_that_somebody_turned_off(network: Daemon) -> None:
    host = network.host
    host.run("sysctl", "-w", "net.ipv4.ip_forward=0")
    try:
        (found,) = about("IP forwarding", doctor(host)[1])
        assert found["level"] == "warn" and network.device in found["said"]
    finally:
        host.run("sysctl", "-w", "net.ipv4.ip_forward=1")


def test_who_may_plug_in(network: Daemon) -> None:
    path = str(network.directory)
    (mine,) = about(f"access to {path}/ctl", doctor(network.host, path)[1])
    assert mine["said"] == '"root" can plug in'
    # Debian's daemon user is in no group of the daemon's.
    assert unprivileged_account().group not in ("daemon", "1")
    status, found = doctor(network.host, path, program=as_user.program("daemon"))
    (theirs,) = about(f"access to {path}/ctl", found)
    assert status == 4 and theirs["level"] == "fail"
    assert f"sudo usermod -aG {unprivileged_account().group} daemon" in theirs["next_step"]


def test_without_privilege_it_says_what_it_could_not_look_at(network: Daemon) -> None:
    rules(network.host, "table ip docker-like { }")
    status, found = doctor(network.host, program=as_user.program("nobody"))
    network.host.run("nft", "delete", "table", "ip", "docker-like")
    assert status == 0, found
    (privilege,) = about("privilege", found)
    assert privilege["level"] == "note" and "user-mode network" in privilege["said"]
    (firewall,) = about("firewall", found)
    assert (firewall["level"], firewall["next_step"]) == ("unseen", "Run with sudo")
    (records,) = about("leftovers", found)
    assert records["level"] == "unseen"


def test_what_a_killed_daemon_left(host: Namespace) -> None:
    with Daemon(host, f"--vmnet-gateway={GATEWAY}") as daemon:
        daemon.kill(daemon.keeper, daemon.worker)
        status, found = doctor(host, str(daemon.directory))
        left = about("leftovers", found)
        assert status == 5 and [one["level"] for one in left] == ["warn", "warn"]
        assert daemon.device.removeprefix("vmnet-") in left[0]["said"]
        assert str(daemon.directory / "ctl") in left[1]["said"]
        assert "nobody listens" in about(f"access to {daemon.directory}/ctl", found)[0]["said"]
        daemon.restart()
        assert [one["said"] for one in about("leftovers", doctor(host, str(daemon.directory))[1])] == ["none"]
