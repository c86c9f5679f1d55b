"""The daemon on the simulated framework: modes, versions, options, and what it reports."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from scapy.layers.inet import ICMP, IP
from scapy.layers.l2 import Ether

from tests.support.daemon import wait_until
from tests.support.mac import GATEWAY, SimulatedMac, TapGuest
from tests.support.stream_peer import StreamPeer
from tests.support.vde_peer import VdePeer
from tests.support.vmnet_sim import MACOS_VERSIONS, build
from vde_vmnet.demo.daemon_process import DaemonProcess
from vde_vmnet.demo.traffic import HttpServer, fetch

pytestmark = pytest.mark.root

MODES = {
    "shared": (f"--vmnet-gateway={GATEWAY}",),
    "host": ("--vmnet-mode=host", f"--vmnet-gateway={GATEWAY}"),
    "bridged": ("--vmnet-mode=bridged", "--vmnet-interface=en0"),
}


@pytest.fixture(scope="module")
def mac() -> Iterator[SimulatedMac]:
    """One with a cable to 203.0.113.10, on which networks come and go."""
    with SimulatedMac() as simulated:
        assert simulated.lan
        yield simulated


def facts(daemon: DaemonProcess) -> dict[str, str]:
    return dict(re.findall(r"\* (\w+): (.*)", daemon.log.read_text()))


def arp(sender: int, own: str, asked: str) -> bytes:
    """Who has ``asked``? RFC 826."""
    mac = b"\x52\x54\0\0\x01" + bytes([sender])
    ours, theirs = (bytes(map(int, text.split("."))) for text in (own, asked))
    head = b"\xff" * 6 + mac + b"\x08\x06"
    return (head + b"\0\x01\x08\0\x06\x04\0\x01" + mac + ours + b"\0" * 6 + theirs).ljust(60, b"\0")


def answered(peer: VdePeer, sender: int, own: str, asked: str) -> bool:
    """Whether an ARP reply for us comes; other frames are passed over."""
    peer.send(arp(sender, own, asked))
    while True:
        (frame,) = peer.receive()
        if frame[12:14] == b"\x08\x06" and frame[20:22] == b"\0\x02" and frame[5] == sender:
            return frame[28:32] == bytes(map(int, asked.split(".")))


@pytest.mark.parametrize("macos", MACOS_VERSIONS)
@pytest.mark.parametrize("mode", MODES)
def test_each_mode_of_each_macos(mac: SimulatedMac, mode: str, macos: str) -> None:
    own, neighbour = ("203.0.113.77", "203.0.113.10") if mode == "bridged" else ("192.168.105.77", GATEWAY)
    with mac.daemon(*MODES[mode], macos=macos) as daemon, VdePeer(daemon.directory) as peer:
        assert answered(peer, 7, own, neighbour)
        said = facts(daemon)
        assert said["vmnet_mtu"] == "1500"
        # Since 26.2 offloads are a gain, since 26.5 also when bridged.
        offloads = macos == "26" and mode != "bridged"
        assert said["vmnet_max_packet_size"] == ("65550" if offloads else "1514")
        assert ("vmnet_read_max_packets" in said) == (macos in ("15", "15.4", "26"))
        assert ("vmnet_start_address" in said) == (mode != "bridged")
        assert ("vmnet_nat66_prefix" in said) == (mode == "shared")


def test_what_it_says_about_itself(mac: SimulatedMac) -> None:
    with mac.daemon(*MODES["shared"], "--json") as daemon:
        log = daemon.log.read_text()
        (line,) = [line for line in log.splitlines() if line.startswith("{")]
        said = json.loads(line)
        assert said["vmnet_start_address"] == GATEWAY
        assert said["vmnet_end_address"] == "192.168.105.254"
        assert said["vmnet_subnet_mask"] == "255.255.255.0"
        assert said["vmnet_mtu"] == 1500
        assert said["mode"] == "shared"
        shown = facts(daemon)
        assert {key: str(value) for key, value in said.items() if key != "mode"} == shown
        assert "Uplink: vmnet, since this is a Mac" in log


def test_a_restart_keeps_the_address_of_the_interface(mac: SimulatedMac) -> None:
    seen = []
    for _ in range(2):
        with mac.daemon(*MODES["shared"]) as daemon:
            seen.append((facts(daemon)["vmnet_interface_id"], facts(daemon)["vmnet_mac_address"]))
    assert seen[0] == seen[1]
    with mac.daemon(*MODES["shared"], "--vmnet-interface-id=deadbeef-0000-4000-8000-000000000001") as daemon:
        assert facts(daemon)["vmnet_interface_id"] == "DEADBEEF-0000-4000-8000-000000000001"
        assert facts(daemon)["vmnet_mac_address"] != seen[0][1]


def test_thirty_two_guests_on_one_interface(mac: SimulatedMac) -> None:
    with mac.daemon(*MODES["shared"]) as daemon, ExitStack() as stack:
        peers = [stack.enter_context(VdePeer(daemon.directory)) for _ in range(32)]
        for number, peer in enumerate(peers, 1):
            assert answered(peer, number, f"192.168.105.{100 + number}", GATEWAY)


@pytest.mark.parametrize("macos", ["15", "26"])
def test_a_reserved_address_and_its_forward(mac: SimulatedMac, macos: str) -> None:
    lan = mac.lan
    options = ("--reserve=52:54:00:00:00:01=192.168.105.77,web", "--forward=8080:192.168.105.77:80")
    with mac.daemon(*MODES["shared"], *options, macos=macos) as daemon:
        assert mac.fabric.bootptab.exists() == (macos == "15")
        with TapGuest(daemon) as guest:
            assert guest.lease(mac.place).startswith("LEASE 192.168.105.77/24")
            with HttpServer(guest.namespace.path, "192.168.105.77", 80, b"inside"):
                assert fetch(lan.path, "203.0.113.1", 8080) == b"inside"
            listed = mac.run("leases", "--json", macos=macos)
            assert listed.returncode == 0, listed.stderr
            assert ("192.168.105.77", guest.mac) in [
                (lease["address"], lease["mac"]) for lease in json.loads(listed.stdout)
            ]
    assert not mac.fabric.bootptab.exists()


@pytest.mark.parametrize(("macos", "mode"), [("26", "shared"), ("26", "host"), ("15", "host"), ("11", "host")])
def test_without_dhcp_nobody_hands_out_addresses(mac: SimulatedMac, macos: str, mode: str) -> None:
    with mac.daemon(*MODES[mode], "--vmnet-disable-dhcp", macos=macos) as daemon, TapGuest(daemon) as guest:
        assert guest.lease(mac.place, tries=1) == ""
        guest.run("ip", "address", "add", "192.168.105.77/24", "dev", "eth0")
        assert guest.pings(GATEWAY)


def test_an_identified_host_network(mac: SimulatedMac) -> None:
    identifier = "--vmnet-network-identifier=deadbeef-0000-4000-8000-000000000001"
    with mac.daemon(*MODES["host"], identifier, macos="15") as daemon, TapGuest(daemon) as guest:
        assert guest.lease(mac.place, tries=1) == ""
        guest.run("ip", "address", "add", "192.168.105.77/24", "dev", "eth0")
        assert guest.pings(GATEWAY)


@pytest.mark.parametrize(("options", "reached"), [((), True), (("--vmnet-enable-isolation",), False)])
def test_isolation_is_between_interfaces(mac: SimulatedMac, options: tuple[str, ...], reached: bool) -> None:
    with (
        mac.daemon(*MODES["shared"], *options, name="one") as one,
        mac.daemon(*MODES["shared"], *options, name="two") as two,
        TapGuest(one, 1) as first,
        TapGuest(two, 2) as second,
    ):
        for number, guest in enumerate((first, second), 1):
            guest.run("ip", "address", "add", f"192.168.105.7{number}/24", "dev", "eth0")
            assert guest.pings(GATEWAY)
        assert first.pings("192.168.105.72", seconds=1) == reached


@pytest.mark.parametrize("options", [(), ("--vmnet-disable-dhcp",)])
def test_large_packets(mac: SimulatedMac, options: tuple[str, ...]) -> None:
    with (
        mac.daemon(*MODES["shared"], "--vmnet-mtu=4000", *options) as daemon,
        VdePeer(daemon.directory) as peer,
    ):
        assert facts(daemon)["vmnet_mtu"] == "4000"
        assert answered(peer, 7, "192.168.105.77", GATEWAY)
        ours, gateway = (
            "52:54:00:00:01:07",
            mac.namespace.run("cat", "/sys/class/net/bridge100/address").strip(),
        )
        echo = Ether(src=ours, dst=gateway) / IP(src="192.168.105.77", dst=GATEWAY, flags="DF") / ICMP()
        sent = bytes(echo / (b"x" * (4000 - 28)))
        assert len(sent) == 4014
        peer.send(sent)
        while len(reply := peer.receive()[0]) < 4014:
            continue
        assert reply[34] == 0 and reply.endswith(b"x" * 3972), "the whole of it comes back"


def test_ipv6_by_a_prefix_of_one_s_own(mac: SimulatedMac) -> None:
    with mac.daemon(*MODES["shared"], "--vmnet-nat66-prefix=fd12:3456::") as daemon, TapGuest(daemon) as guest:
        assert facts(daemon)["vmnet_nat66_prefix"] == "fd12:3456::"
        wait_until(lambda: "fd12:3456" in guest.run("ip", "-6", "address"), "an address by advertisement")


def test_unprivileged_on_macos_26(mac: SimulatedMac) -> None:
    with mac.daemon("--vmnet-gateway=192.168.105.1", user="nobody") as daemon:
        assert facts(daemon)["vmnet_start_address"] == GATEWAY
        pid = daemon.process.pid
        assert Path(f"/proc/{pid}/task/{pid}/children").read_text() == "", "there is nothing to keep"


def test_interfaces_that_exist_are_listed(mac: SimulatedMac) -> None:
    status, log = mac.refused("--vmnet-mode=bridged", "--vmnet-interface=en7")
    assert status == 1
    assert re.search(r'--vmnet-interface "en7" does not exist .*This Mac has: .*\ben0\b', log)


def test_doctor(mac: SimulatedMac) -> None:
    found = mac.run("doctor", "--vmnet-gateway=192.168.105.1")
    assert found.returncode == 0, found.stdout
    assert "vmnet.framework: there, of macOS 26 or newer" in found.stdout
    assert "privilege: root" in found.stdout
    older = mac.run("doctor", macos="13")
    assert "vmnet.framework: there, of macOS 12 to 14" in older.stdout


#: ``socket_vmnet`` as vmnet_launcher.py runs ``vde_vmnet``.
SOCKET_VMNET = """
import ctypes, sys
from vde_vmnet.cli import socket_vmnet
from vde_vmnet.uplinks.vmnet import library
simulator = ctypes.CDLL(sys.argv[1])
library.load = lambda: library.Library(simulator, simulator)
library.is_macos = lambda: True
sys.exit(socket_vmnet.main(sys.argv[2:]))
"""


def test_as_lima_starts_and_stops_it(mac: SimulatedMac) -> None:
    pidfile, path = mac.place / "shared_socket_vmnet.pid", mac.place / "socket_vmnet.shared"
    options = (
        *(f"--pidfile={pidfile}", "--socket-group=root", "--vmnet-mode=shared"),
        *(f"--vmnet-gateway={GATEWAY}", "--vmnet-dhcp-end=192.168.105.254", "--vmnet-mask=255.255.255.0"),
    )
    with subprocess.Popen(
        mac.namespace.command(sys.executable, "-c", SOCKET_VMNET, str(build("15")), *options, str(path)),
        env={**os.environ, **mac.environment("15")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        wait_until(lambda: pidfile.exists() and pidfile.read_text() == f"{process.pid}\n", "the pidfile")
        with StreamPeer(path) as peer:
            peer.send(arp(7, "192.168.105.77", GATEWAY))
            while peer.receive()[0][12:14] != b"\x08\x06":
                continue
        subprocess.run(["pkill", "-F", str(pidfile)], check=True)
        assert process.wait(10) == 0
    assert not pidfile.exists() and not path.exists()
