"""The service as systemd really runs it, hardening included: started, restarted, upgraded, refused, removed."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.systemd import Machine, unavailable_reason

PROGRAM = Path(sys.executable).with_name("vde_vmnet")

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(unavailable_reason() is not None, reason=str(unavailable_reason())),
]


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    with Machine() as booted:
        yield booted


@pytest.fixture(autouse=True)
def as_before(machine: Machine) -> Iterator[None]:
    """Whatever a test installs, it removes; and nothing of it is left."""
    before = picture(machine)
    yield
    assert picture(machine) == before


def picture(machine: Machine) -> str:
    script = (
        "find /opt /etc/systemd/system | sort; ip -br link; nft list ruleset; sysctl net.ipv4.ip_forward;"
        " ls -d /run/*.ctl 2>/dev/null; systemctl list-units --all --no-legend --plain 'vde_vmnet*';"
        " ps -e -o comm | grep -e vde_vmnet -e dnsmasq -e nft"
    )
    return machine.run("sh", "-c", script, status=None).stdout


def installed(machine: Machine, *options: str) -> str:
    return machine.run(PROGRAM, "install", *options).stdout


def removed(machine: Machine) -> None:
    machine.run("/opt/vde/bin/vde_vmnet", "uninstall")


def shown(machine: Machine, unit: str, key: str) -> str:
    return machine.run("systemctl", "show", "-P", key, unit).stdout.strip()


def test_a_network_is_ready_when_install_returns_and_gone_when_uninstall_does(machine: Machine) -> None:
    assert "Guests plug into /var/run/vde.ctl" in installed(machine)
    assert "192.168.105.1/24" in machine.run("ip", "-br", "address").stdout
    assert machine.run("stat", "-c", "%U:%G %a", "/var/run/vde.ctl").stdout == "nobody:staff 2770\n"
    assert machine.run("systemctl", "is-enabled", "vde_vmnet").stdout == "enabled\n"
    keeper = shown(machine, "vde_vmnet", "MainPID")
    status = machine.run("cat", f"/proc/{keeper}/status").stdout
    assert "NoNewPrivs:\t1" in status and "Seccomp:\t2" in status, "the hardening is in force"
    log = machine.run("journalctl", "-u", "vde_vmnet", "--no-pager").stdout
    assert "192.168.105.2 - 192.168.105.254" in log, "dnsmasq serves"
    assert "]: INFO  | Uplink: linux" in log, "the journal has times of its own"
    # Found by itself, and served by the service user under all of the hardening.
    shown_json = json.loads(machine.run("/opt/vde/bin/vde_vmnet", "status", "--json").stdout)
    assert (
        shown_json["network"]["name"] == "/run/vde.ctl" and shown_json["network"]["uplink"]["kind"] == "linux"
    )
    machine.run("/opt/vde/bin/vde_vmnet", "reserve", "add", "52:54:00:00:00:09=192.168.105.9")
    removed(machine)


def test_a_killed_process_is_a_restart(machine: Machine) -> None:
    installed(machine)
    victims = ("$(systemctl show -P MainPID vde_vmnet)", "$(pgrep -u nobody -f '[v]de_vmnet --vmnet')")
    for number, pid in enumerate((*victims, "$(pidof dnsmasq)"), start=1):
        keeper = shown(machine, "vde_vmnet", "MainPID")
        machine.run("sh", "-c", f"kill -9 {pid}")
        ready = f"[ $(systemctl show -P NRestarts vde_vmnet) = {number} ] && systemctl -q is-active vde_vmnet"
        machine.run("timeout", "20", "sh", "-c", f"until {ready}; do sleep 0.1; done")
        assert shown(machine, "vde_vmnet", "MainPID") != keeper
        assert machine.run("ip", "-br", "link").stdout.count("vmnet-") == 1
    removed(machine)


def test_bridged_to_a_bridge_and_to_a_nic(machine: Machine) -> None:
    machine.run(
        "sh", "-c", "ip link add nic9 type veth peer name peer9; ip link set nic9 up; ip link set peer9 up"
    )
    machine.run("sh", "-c", "ip link add br-lan type bridge; ip link set br-lan up")
    try:
        said = installed(machine, "--bridged=nic9", "--bridged=br-lan")
        for interface, joined in (("nic9", "macvtap"), ("br-lan", "port")):
            assert f"/var/run/vde.bridged.{interface}.ctl" in said
            log = machine.run("journalctl", "-u", f"vde_vmnet@{interface}", "--no-pager").stdout
            assert f"joined as: {joined}" in log, log
            assert shown(machine, f"vde_vmnet@{interface}", "NRestarts") == "0"
        removed(machine)
    finally:
        machine.run("sh", "-c", "ip link del nic9; ip link del br-lan")


def test_a_network_that_cannot_start_is_not_installed(machine: Machine) -> None:
    done = machine.run(PROGRAM, "install", "--bridged=absent9", status=7)
    assert "vde_vmnet@absent9.service" in done.stderr and "journalctl" in done.stderr


def test_an_upgrade_that_fails_leaves_the_former_one_running(machine: Machine) -> None:
    installed(machine, "--gateway=10.77.0.1")
    before = picture(machine)
    machine.run(PROGRAM, "install", "--gateway=10.78.0.1", "--bridged=absent9", status=7)
    assert picture(machine) == before
    assert "10.77.0.1/24" in machine.run("ip", "-br", "address").stdout
    removed(machine)
