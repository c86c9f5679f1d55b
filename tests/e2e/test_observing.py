"""Two guests as the commands show them: leases, an unplugging among the events, their DHCP in a capture."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from scapy.layers.dhcp import DHCP
from scapy.layers.l2 import Ether
from scapy.utils import rdpcap

from tests.support.daemon import Daemon, wait_until
from tests.support.guest import mac, start
from vde_vmnet.control.client import Client
from vde_vmnet.control.paths import beside
from vde_vmnet.demo.accounts import unprivileged_account

pytestmark = [pytest.mark.root, pytest.mark.guest]

DISCOVER, OFFER, REQUEST, ACK = 1, 2, 3, 5


def words(daemon: Daemon, *argv: str) -> list[str]:
    """A command about the network, in its namespace."""
    return daemon.host.command(sys.executable, "-m", "vde_vmnet", *argv, str(daemon.directory))


def said(daemon: Daemon, *argv: str) -> str:
    return subprocess.run(words(daemon, *argv), capture_output=True, text=True, check=True, timeout=30).stdout


@contextmanager
def capturing(daemon: Daemon, file: Path) -> Iterator[None]:
    """``vde_vmnet capture`` of what is DHCP, complete when this ends."""
    argv = ("capture", "--filter", "udp and (port 67 or port 68)", "-w", str(file))
    with Client(beside(daemon.directory)) as client:
        process = subprocess.Popen(words(daemon, *argv), stderr=subprocess.PIPE, text=True)
        try:
            wait_until(lambda: client.captures() != [], "the capture has begun")
            yield
            process.send_signal(signal.SIGINT)
            _, summary = process.communicate(timeout=20)
            assert process.returncode == 0, summary
        finally:
            process.kill()
            process.wait()


def test_two_guests_are_seen_named_unplugged_and_captured(daemon: Daemon, tmp_path: Path) -> None:
    file = tmp_path / "dhcp.pcapng"
    with ExitStack() as guests, capturing(daemon, file):
        alpha, beta = (
            guests.enter_context(start(daemon, number, name=name))
            for number, name in ((1, "alpha"), (2, "beta"))
        )
        given = {}
        for guest in (alpha, beta):
            guest.wait_ready()
            lease = guest.request_lease()
            assert lease is not None
            given[guest.config.name] = lease["address"]

        leases = json.loads(said(daemon, "leases", "--json"))
        assert {one["name"]: one["address"] for one in leases} == given
        assert {one["name"]: one["mac"] for one in leases} == {"alpha": mac(1), "beta": mac(2)}
        ports = {
            one["name"]: one for one in json.loads(said(daemon, "ports", "--json")) if one["kind"] == "vde"
        }
        assert {name: one["addresses"] for name, one in ports.items()} == {
            name: [address] for name, address in given.items()
        }
        peer = ports["beta"]["endpoints"][0]["peer"]
        assert (peer["user"], "qemu" in peer["command"]) == (unprivileged_account().name, True)
        shown = said(daemon, "status")
        for word in (*given, *given.values()):
            assert word in shown

        beta.close()
        number = ports["beta"]["number"]
        with Client(beside(daemon.directory)) as client:
            gone = next(one for one in client.events(since=0) if (one.kind, one.port) == ("port_down", number))
        assert gone.pid == peer["pid"]
        assert "alpha" in said(daemon, "ports")
        assert "beta" not in said(daemon, "ports")

    kinds = {
        (station, message)
        for packet in rdpcap(str(file))
        for station in (mac(1), mac(2))
        if DHCP in packet and station in (packet[Ether].src, packet[Ether].dst)
        for key, message in (option for option in packet[DHCP].options if len(option) == 2)
        if key == "message-type"
    }
    assert kinds >= {(mac(number), kind) for number in (1, 2) for kind in (DISCOVER, OFFER, REQUEST, ACK)}
    listed = subprocess.run(
        ["tcpdump", "-nr", str(file), "port", "67"], capture_output=True, text=True, check=True
    ).stdout
    assert "BOOTP/DHCP, Request from " + mac(1) in listed
