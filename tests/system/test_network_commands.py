"""On Linux: what the network is like for programs (--json), its MTU, and the command leases."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import as_user
from tests.support.daemon import GATEWAY, Daemon
from tests.support.mac import TapGuest
from tests.support.netns import Namespace

pytestmark = pytest.mark.root

HEAD = ["ADDRESS", "MAC", "NAME", "EXPIRES", "PORT", "RESERVED"]


@pytest.fixture(scope="module")
def network() -> Iterator[Daemon]:
    options = (f"--vmnet-gateway={GATEWAY}", "--vmnet-mtu=4000", "--json")
    with Namespace("host") as host, Daemon(host, *options) as running:
        yield running


def command(
    host: Namespace, *argv: str, program: tuple[str, ...] = ("-m", "vde_vmnet")
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        host.command(sys.executable, *program, *argv),
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


def test_what_it_is_like_as_one_line(network: Daemon) -> None:
    (line,) = [line for line in network.log().splitlines() if line.startswith("{")]
    assert json.loads(line) == {
        "vmnet_start_address": GATEWAY,
        "vmnet_end_address": "192.168.105.254",
        "vmnet_subnet_mask": "255.255.255.0",
        "vmnet_mtu": 4000,
        "mode": "shared",
        "device": network.device,
    }


def test_the_mtu_and_the_lease(network: Daemon, tmp_path: Path) -> None:
    assert "mtu 4000" in network.host.run("ip", "link", "show", network.device)
    assert command(network.host, "leases", str(network.directory)).stdout.splitlines() == ["\t".join(HEAD)]
    script = tmp_path / "script"
    script.write_text('#!/bin/busybox sh\n[ "$1" = bound ] && echo "BOUND $ip $mtu"\n')
    script.chmod(0o755)
    with TapGuest(network.process) as guest:
        said = guest.run("busybox", "udhcpc", "-i", "eth0", "-f", "-n", "-q", "-s", str(script), check=False)
    (bound,) = [line.split() for line in said.splitlines() if line.startswith("BOUND")]
    assert bound[2] == "4000"
    for argv in ((), (str(network.directory),)):
        listed = json.loads(command(network.host, "leases", "--json", *argv).stdout)
        assert (bound[1], guest.mac) in [(one["address"], one["mac"]) for one in listed]
    table = command(network.host, "leases", str(network.directory)).stdout.splitlines()
    assert table[0].split("\t") == HEAD
    assert table[1].split("\t")[:2] == [bound[1], guest.mac]


def test_a_guest_seen_and_changed_by_command(network: Daemon, tmp_path: Path) -> None:
    path = str(network.directory)

    def said(*argv: str) -> str:
        done = command(network.host, *argv, path)
        assert done.returncode == 0, done.stderr
        return done.stdout

    with TapGuest(network.process, 7) as guest:
        said("reserve", "add", f"{guest.mac}=192.168.105.77,web")
        assert said("reserve", "list").splitlines()[1:] == [f"{guest.mac}\t192.168.105.77\tweb"]
        address = guest.lease(tmp_path).split()[1].split("/")[0]
        (row,) = [line.split("\t") for line in said("leases").splitlines() if guest.mac in line]
        assert row[0] == address and row[4].isdecimal(), "it is plugged in"
        (plugged,) = [line.split("\t") for line in said("ports").splitlines() if guest.mac in line]
        assert (plugged[0], plugged[5]) == (row[4], address)
        assert "vde_plug2tap (" in plugged[6], "who is behind it"
        said("forward", "add", "udp:5353:192.168.105.77:53")
        assert "udp\t-\t5353\t192.168.105.77\t53" in said("forward", "list")
        said("forward", "remove", "udp:5353:192.168.105.77:53")
        nobody = command(network.host, "forward", "add", "udp:5353:nobody:53", path)
        assert nobody.returncode == 3 and "reserve an address" in nobody.stderr
        said("forward", "add", "udp:5353:web:53")
        assert "udp\t-\t5353\tweb\t53" in said("forward", "list")
        assert f"5353 : {address} . 53" in network.host.run("nft", "list", "ruleset")
        said("forward", "remove", "udp:5353:web:53")
        assert f"{address} . 53" not in network.host.run("nft", "list", "ruleset")
        assert address in said("fdb")
        assert said("kick", address)
        assert "kicked" in said("logs")
    said("reserve", "remove", guest.mac)
    assert said("forward", "list").count("\n") == said("reserve", "list").count("\n") == 1


def test_leases_of_a_network_that_is_not_there(network: Daemon) -> None:
    missing = command(network.host, "leases", "/nonexistent")
    assert missing.returncode == 3
    assert 'No network with addresses to hand out runs at "/nonexistent"' in missing.stderr


def test_leases_are_not_everybody_s(network: Daemon) -> None:
    # Neither the service user nor one of the socket's group.
    refused = command(network.host, "leases", program=as_user.program("daemon"))
    assert refused.returncode == 4, refused.stderr


def test_a_forward_beyond_the_network_is_refused(network: Daemon) -> None:
    options = ("--vmnet-gateway=192.168.222.1", "--forward=80:192.168.105.2:80")
    refused = command(network.host, *options, "/tmp/never")
    assert refused.returncode == 1
    assert "192.168.105.2 is outside 192.168.222.0/24" in refused.stderr
