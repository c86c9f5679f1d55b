"""Checksum offload and virtio-net headers of the simulated framework, frame by frame."""

from __future__ import annotations

import socket
import struct
import subprocess
import sys

import pytest

from tests.support.netns import Namespace
from tests.support.vmnet_driver import HOST, SUCCESS, Driver, frame, ours
from tests.support.vmnet_sim import Fabric

pytestmark = pytest.mark.root

PORT = 4242
RECEIVE = f"""
import socket
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listening:
    listening.bind(("192.168.128.1", {PORT}))
    listening.settimeout(10)
    print("ready", flush=True)
    print(listening.recv(100).decode(), flush=True)
"""
#: struct virtio_net_hdr_mrg_rxbuf with nothing in it.
NO_OFFLOAD = "00" * 10 + "0000"


def checksum(data: bytes) -> int:
    """RFC 1071."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def datagram(payload: bytes, to: str, *, broken: bool) -> str:
    """A UDP datagram to the host as hex, with the right checksum or another one. `payload` is even."""
    source, destination = socket.inet_aton("192.168.128.50"), socket.inet_aton("192.168.128.1")
    ip = struct.pack("!2B3H2B", 0x45, 0, 28 + len(payload), 1, 0, 64, socket.IPPROTO_UDP)
    ip += struct.pack("!H", checksum(ip + source + destination)) + source + destination
    udp = struct.pack("!3H", 4000, PORT, 8 + len(payload))
    right = checksum(source + destination + struct.pack("!2H", 17, 8 + len(payload)) + udp + payload)
    udp += struct.pack("!H", right ^ 0x5555 if broken else right)
    return (bytes.fromhex(to.replace(":", "") + "020000000005" + "0800") + ip + udp + payload).hex()


def test_checksums_are_made_when_written_and_checked_when_read(mac: Namespace, fabric: Fabric) -> None:
    with Driver(mac, fabric) as offloading, Driver(mac, fabric) as plain:
        assert offloading.start(HOST, give={"enable_checksum_offload": "true"}) == SUCCESS
        assert offloading.facts["max_packet_size"] == "1514"
        assert plain.start(HOST) == SUCCESS
        gateway = mac.run("cat", "/sys/class/net/bridge100/address").strip()
        with subprocess.Popen(
            mac.command(sys.executable, "-c", RECEIVE), stdout=subprocess.PIPE, text=True
        ) as receiving:
            assert receiving.stdout is not None and receiving.stdout.readline() == "ready\n"
            plain.write(datagram(b"dropped.", gateway, broken=True))
            offloading.write(datagram(b"repaired", gateway, broken=True))
            assert receiving.stdout.readline() == "repaired\n"
        everybody = "ff:ff:ff:ff:ff:ff"
        plain.write(
            datagram(b"dropped.", everybody, broken=True), datagram(b"received", everybody, broken=False)
        )
        plain.write(frame())
        offloading.ask("callback on")
        seen: list[str] = []
        while not ours(" ".join(["", "", *seen])):
            offloading.ask("events 1 1000")
            seen += offloading.ask("read 200").split()[2:]
        assert any(b"received".hex() in one for one in seen)
        assert not any(b"dropped.".hex() in one for one in seen)
        offloading.stop(), plain.stop()


def test_virtio_headers_are_before_every_frame_both_ways(mac: Namespace, fabric: Fabric) -> None:
    with Driver(mac, fabric) as virtio, Driver(mac, fabric) as plain:
        assert virtio.start(HOST, give={"enable_virtio_header": "true"}) == SUCCESS
        assert virtio.facts["max_packet_size"] == "1526"
        assert plain.start(HOST) == SUCCESS
        virtio.write(NO_OFFLOAD + frame("01"))
        assert plain.read_ours(1) == [frame("01")]
        assert virtio.ask(f"write 1 1 0 {frame()[:50]}").startswith("1003"), "a header and half a frame"
        plain.write(frame("02"))
        virtio.ask("callback on")
        found: list[str] = []
        while not found:
            virtio.ask("events 1 1000")
            found = [one for one in virtio.ask("read 200").split()[2:] if one.endswith(frame("02"))]
        assert len(found[0]) == 24 + len(frame("02")), "twelve octets"
        virtio.stop(), plain.stop()
