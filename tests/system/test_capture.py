"""Captures through the daemon, by the command and by curl, read back by tcpdump and scapy."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from scapy.packet import Packet
from scapy.utils import rdpcap

from tests.support.vde_peer import VdePeer, frame
from vde_vmnet.control.client import Client
from vde_vmnet.control.models import CaptureRequest
from vde_vmnet.control.paths import beside
from vde_vmnet.demo.daemon_process import DaemonProcess
from vde_vmnet.errors import ConfigurationError, UnavailableError

OPTIONS = ("--backend=none", f"--vde-group={os.getegid()}")
BROADCAST = -1
PATIENCE = 10.0


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[DaemonProcess]:
    process = DaemonProcess(tmp_path / "sw", OPTIONS, pidfile=tmp_path / "pid", log=tmp_path / "log")
    with process:
        process.wait_ready()
        yield process
    assert process.process.returncode == 0, process.words()


@pytest.fixture
def client(daemon: DaemonProcess) -> Iterator[Client]:
    with Client(beside(daemon.directory)) as client:
        yield client


def command(daemon: DaemonProcess, *options: str | Path) -> list[str]:
    return [sys.executable, "-m", "vde_vmnet", "capture", *map(str, options), str(daemon.directory)]


def wait_for(client: Client, frames: int) -> None:
    """Until a capture has so many frames; each question waits for the engine."""
    deadline = time.monotonic() + PATIENCE
    while not any(one.frames >= frames for one in client.captures()):
        assert time.monotonic() < deadline, "they were never captured"


def packets(path: Path) -> list[Packet]:
    return rdpcap(str(path)).res


def test_into_a_file_until_ctrl_c(daemon: DaemonProcess, client: Client, tmp_path: Path) -> None:
    file = tmp_path / "all.pcapng"
    with (
        VdePeer(daemon.directory) as one,
        VdePeer(daemon.directory) as two,
        subprocess.Popen(command(daemon, "-w", file), stderr=subprocess.PIPE, text=True) as running,
    ):
        wait_for(client, 0)
        one.send(frame(BROADCAST, 1, b"hello"))
        two.receive()
        two.send(frame(1, 2, b"answer"))
        one.receive()
        wait_for(client, 2)
        running.send_signal(signal.SIGINT)
        _, said = running.communicate(timeout=PATIENCE)
        assert running.returncode == 0, said
        assert said == "2 frames captured, 0 dropped\n"
    assert [bytes(one) for one in packets(file)] == [frame(BROADCAST, 1, b"hello"), frame(1, 2, b"answer")]
    assert all(one.direction == 1 and one.sniffed_on for one in packets(file))
    shown = subprocess.run(["tcpdump", "-n", "-r", file], check=True, capture_output=True, text=True)
    assert shown.stdout.count("ethertype") == 2
    assert client.captures() == []
    assert "Capture 1 has ended" in daemon.words()


def test_into_tcpdump_with_a_filter_and_a_count(daemon: DaemonProcess, client: Client) -> None:
    with (
        VdePeer(daemon.directory) as one,
        VdePeer(daemon.directory) as two,
        subprocess.Popen(
            command(daemon, "--filter", "ether dst ff:ff:ff:ff:ff:ff", "--count", "2"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as running,
        subprocess.Popen(
            ["tcpdump", "-n", "-e", "-r", "-"], stdin=running.stdout, stdout=subprocess.PIPE, text=True
        ) as reader,
    ):
        wait_for(client, 0)
        two.send(frame(1, 2))
        one.receive()
        one.send(frame(BROADCAST, 1), frame(2, 1), frame(BROADCAST, 1), frame(BROADCAST, 1))
        two.receive(4)
        shown, _ = reader.communicate(timeout=PATIENCE)
        assert shown.count("02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff") == 2 == shown.count("ethertype")
        assert running.wait(PATIENCE) == 0


def test_by_port_in_both_directions(daemon: DaemonProcess, client: Client, tmp_path: Path) -> None:
    file = tmp_path / "port.pcapng"
    with (
        VdePeer(daemon.directory) as one,
        VdePeer(daemon.directory) as two,
        VdePeer(daemon.directory) as three,
        client.capture(CaptureRequest(ports=[2], snap_length=14)) as stream,
    ):
        one.send(frame(BROADCAST, 1))
        two.receive(), three.receive()
        two.send(frame(1, 2))
        one.receive()
        three.send(frame(1, 3))
        one.receive()
        wait_for(client, 2)
        stream.end()
        file.write_bytes(b"".join(stream))
    assert [(one.direction, len(one), one.wirelen) for one in packets(file)] == [(2, 14, 60), (1, 14, 60)]


def test_a_port_that_nobody_has_is_refused(daemon: DaemonProcess) -> None:
    done = subprocess.run(
        [*command(daemon, "--port", "nobody", "-w", "-")],
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )
    assert done.returncode == ConfigurationError.exit_code
    assert '"nobody"' in done.stderr and done.stdout == ""


def test_by_curl(daemon: DaemonProcess, client: Client, tmp_path: Path) -> None:
    file = tmp_path / "curl.pcapng"
    where = ["--unix-socket", str(beside(daemon.directory)), "http://localhost/v1/capture"]
    curl = ["curl", "-sS", "--fail", "-o", str(file), "-d", '{"frames": 1}', *where]
    with (
        VdePeer(daemon.directory) as one,
        VdePeer(daemon.directory) as two,
        subprocess.Popen(curl) as running,
    ):
        wait_for(client, 0)
        one.send(frame(BROADCAST, 1))
        two.receive()
        assert running.wait(PATIENCE) == 0
    assert [bytes(one) for one in packets(file)] == [frame(BROADCAST, 1)]


def test_it_ends_after_its_time_and_on_request(client: Client) -> None:
    with client.capture(CaptureRequest(seconds=0.2)) as stream:
        assert b"".join(stream).startswith(b"\n\r\r\n")
    with client.capture() as stream:
        (going,) = client.captures()
        assert client.end_capture(going.number).startswith("Capture 2 ends")
        assert b"".join(stream).startswith(b"\n\r\r\n")


def test_a_reader_that_is_stuck_or_gone_costs_nobody_anything(daemon: DaemonProcess, client: Client) -> None:
    with VdePeer(daemon.directory) as one, VdePeer(daemon.directory) as two:
        with client.capture():
            for _ in range(8_000):
                one.send(frame(BROADCAST, 1, size=1514))
                two.receive()
            (stuck,) = client.captures()
            assert stuck.dropped > 0
            assert stuck.frames + stuck.dropped == 8_000
        deadline = time.monotonic() + PATIENCE
        while client.captures():
            assert time.monotonic() < deadline, "the capture outlives its reader"
        one.send(frame(BROADCAST, 1))
        two.receive()


def test_what_is_refused(daemon: DaemonProcess, client: Client) -> None:
    with (
        pytest.raises(ConfigurationError, match="jumps behind its end"),
        client.capture(CaptureRequest(program=[(0x05, 0, 0, 9), (0x06, 0, 0, 0)])),
    ):
        pass
    with pytest.raises(ConfigurationError, match="no capture 7"):
        client.end_capture(7)
    streams = [client.capture() for _ in range(8)]
    for stream in streams:
        stream.__enter__()
    with pytest.raises(UnavailableError, match="8 captures already"), client.capture():
        pass
    for stream in streams:
        stream.__exit__(None, None, None)
    # In a terminal it says so, and leaves the terminal alone.
    near, far = pty.openpty()
    try:
        done = subprocess.run(
            command(daemon), stdout=far, stderr=subprocess.PIPE, text=True, check=False, timeout=PATIENCE
        )
        assert done.returncode == ConfigurationError.exit_code
        assert "not written to a terminal" in done.stderr
        assert not select.select([near], [], [], 0)[0]
    finally:
        os.close(near)
        os.close(far)


def test_the_daemons_end_is_the_files_end(daemon: DaemonProcess, client: Client, tmp_path: Path) -> None:
    file = tmp_path / "end.pcapng"
    with (
        VdePeer(daemon.directory) as one,
        VdePeer(daemon.directory) as two,
        subprocess.Popen(command(daemon, "-w", file), stderr=subprocess.PIPE, text=True) as running,
    ):
        wait_for(client, 0)
        one.send(frame(BROADCAST, 1))
        two.receive()
        wait_for(client, 1)
        client.shutdown()
        _, said = running.communicate(timeout=PATIENCE)
        assert (running.returncode, said) == (0, "1 frame captured, 0 dropped\n")
    assert len(packets(file)) == 1
