"""Captures, read back by the programs that people read them with: scapy, and tcpdump."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet
from scapy.utils import rdpcap

from tests.engine.plug import BROADCAST, Plug, eventually, frame, mac, open_descriptors
from vde_vmnet._engine import Engine, EngineError

#: tcpdump arp
_ARP = [(0x28, 0, 0, 12), (0x15, 0, 1, 0x0806), (0x06, 0, 0, 262_144), (0x06, 0, 0, 0)]


class Reader:
    """A capture and who reads it, into a file."""

    def __init__(self, engine: Engine, path: Path, **options: Any) -> None:
        self._engine = engine
        self.path = path
        read, write = os.pipe()
        self.capture = engine.start_capture(fd=write, **options)
        self._thread = threading.Thread(target=self._read, args=(read,))
        self._thread.start()

    def _read(self, fd: int) -> None:
        with open(fd, "rb") as source, self.path.open("wb") as target:
            shutil.copyfileobj(source, target)

    def stop(self) -> None:
        self._engine.stop_capture(capture=self.capture)
        self._thread.join()

    def packets(self) -> list[Packet]:
        return rdpcap(str(self.path)).res


def tcpdump(path: Path, *arguments: str) -> list[str]:
    command = ["tcpdump", "-n", "-e", "-r", str(path), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()


def test_scapy_and_tcpdump_read_what_was_sent(engine: Engine, tmp_path: Path) -> None:
    one_mac, two_mac = "52:54:00:00:00:01", "52:54:00:00:00:02"
    asks = Ether(src=one_mac, dst="ff:ff:ff:ff:ff:ff") / ARP(hwsrc=one_mac, psrc="10.0.0.1", pdst="10.0.0.2")
    says = Ether(src=two_mac, dst=one_mac) / IP(src="10.0.0.2", dst="10.0.0.1") / UDP(dport=7) / b"hello"
    with Plug(engine, 1) as one, Plug(engine, 2) as two:
        reader = Reader(engine, tmp_path / "all.pcapng")
        arps = Reader(engine, tmp_path / "arp.pcapng", program=_ARP)
        before = time.time()
        one.send(bytes(asks))
        two.receive()
        two.send(bytes(says))
        one.receive()
        after = time.time()
        assert engine.captures() == {
            reader.capture: {"frames": 2, "dropped": 0},
            arps.capture: {"frames": 1, "dropped": 0},
        }
        reader.stop()
        arps.stop()
    first, second = reader.packets()
    assert [bytes(first), bytes(second)] == [bytes(asks), bytes(says)]
    assert before - 0.001 <= first.time <= second.time <= after + 0.001
    assert [bytes(packet) for packet in arps.packets()] == [bytes(asks)]
    assert (first.sniffed_on, second.sniffed_on) == ("plug 1", "plug 2")
    assert first.direction == second.direction == 1
    lines = tcpdump(reader.path)
    assert "who-has 10.0.0.2 tell 10.0.0.1" in lines[0]
    assert "10.0.0.2.53 > 10.0.0.1.7" in lines[1]
    assert len(tcpdump(reader.path, "udp")) == 1


def test_with_ports_both_ways_and_cut(engine: Engine, tmp_path: Path) -> None:
    with Plug(engine, 1) as one, Plug(engine, 2) as two, Plug(engine, 3) as three:
        reader = Reader(engine, tmp_path / "cut.pcapng", ports=[2], snaplen=64)
        one.send(frame(BROADCAST, mac(1), length=1514))
        two.receive(), three.receive()
        two.send(frame(mac(1), mac(2)))
        one.receive()
        one.send(frame(mac(3), mac(1)), frame(mac(2), mac(1)))
        two.receive(2)
        reader.stop()
    packets = reader.packets()
    assert [(packet.direction, len(packet), packet.wirelen) for packet in packets] == [
        (2, 64, 1514),
        (1, 60, 60),
        (2, 60, 60),
        (2, 60, 60),
    ]
    assert {packet.sniffed_on for packet in packets} == {"plug 2"}


def test_a_port_that_is_down_is_given_nothing(engine: Engine, tmp_path: Path) -> None:
    with Plug(engine, 1) as one, Plug(engine, 2) as two:
        reader = Reader(engine, tmp_path / "down.pcapng", ports=[2])
        engine.set_port(port=2, up=False)
        one.send(frame(BROADCAST, mac(1)))
        eventually(lambda: two.drops() == {"port_down": 1})
        two.send(frame(BROADCAST, mac(2)))
        eventually(lambda: two.drops() == {"port_down": 2})
        reader.stop()
    assert [packet.direction for packet in reader.packets()] == [1], "what it sends is seen, and goes nowhere"


def test_what_is_wrong_is_refused_and_the_descriptor_stays_the_callers(engine: Engine) -> None:
    before = open_descriptors()
    near, far = socket.socketpair()
    with near, far:
        refused: list[dict[str, Any]] = [
            {"snaplen": 0},
            {"buffer": 1},
            {"buffer": 1 << 40},
            {"limit": 0},
            {"program": []},
            {"program": [(0x05, 0, 0, 9)]},
        ]
        for wrong in refused:
            with pytest.raises(ValueError, match=r"must be|filter"):
                engine.start_capture(fd=near.fileno(), **wrong)
        with pytest.raises(OverflowError):
            engine.start_capture(fd=near.fileno(), ports=[65536])
        near.getsockname()
    with pytest.raises(OSError, match="Bad file descriptor"):
        engine.start_capture(fd=9_999)
    assert engine.stop_capture(capture=1) is None
    assert open_descriptors() == before
    engine.close()
    near, far = socket.socketpair()
    with near, far, pytest.raises(EngineError):
        engine.start_capture(fd=near.fileno())


def test_captures_leave_nothing_behind(engine: Engine, tmp_path: Path) -> None:
    before = open_descriptors()
    with Plug(engine, 1) as one:
        for number in range(20):
            reader = Reader(engine, tmp_path / f"{number}.pcapng")
            one.send(frame(BROADCAST, mac(1)))
            reader.stop()
        one.detach()

    def rests() -> bool:
        engine.captures()  # it lets go of the threads that have ended
        return open_descriptors() == before

    eventually(rests)
    names = [(task / "comm").read_text() for task in Path("/proc/self/task").iterdir()]
    assert "vde-capture\n" not in names
    ended = [event for event in engine.take_events() if event["kind"] == "capture_ended"]
    assert [event["capture"] for event in ended] == list(range(1, 21))
    assert {event["reason"] for event in ended} == {"stopped"}
