"""Debian's own VDE programs plugged into our switch: vde_plug on stdio, vde_plug2tap on a TAP."""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.netns import Namespace
from tests.support.vde_peer import VdePeer, frame
from tests.support.vde_plug import Plugged
from vde_vmnet.demo.daemon_process import DaemonProcess

BROADCAST = -1


@pytest.fixture
def daemon() -> Iterator[DaemonProcess]:
    with tempfile.TemporaryDirectory(prefix="vde-") as name:
        place = Path(name)
        place.chmod(0o755)
        options = ("--backend=none", f"--vde-group={os.getegid()}")
        with DaemonProcess(place / "sw", options, pidfile=place / "pid", log=place / "log") as process:
            process.wait_ready()
            yield process


def test_vde_plug_to_vde_plug(daemon: DaemonProcess) -> None:
    with VdePeer(daemon.directory, timeout=10) as witness:
        one, two = Plugged(daemon.directory), Plugged(daemon.directory)
        try:
            # Plugging in takes them a moment: the witness calls until each has heard it through the switch.
            for plugged in (one, two):
                while not plugged.has_a_frame():
                    witness.send(frame(BROADCAST, 3, b"are you there?"))
            one.send(frame(2, 1, b"to two"))
            two.send(frame(1, 2, b"to one"))
            two.receive_until(frame(2, 1, b"to two"))
            one.receive_until(frame(1, 2, b"to one"))
        finally:
            one.close()
            two.close()
        assert one.process.returncode == two.process.returncode == 0


def test_vde_plug_ends_with_the_switch(daemon: DaemonProcess) -> None:
    plugged = Plugged(daemon.directory)
    with VdePeer(daemon.directory, timeout=10) as witness:
        while not plugged.has_a_frame():
            witness.send(frame(BROADCAST, 3))
    assert daemon.stop() == 0
    assert plugged.process.wait(10) is not None
    plugged.close()


@pytest.mark.root
def test_two_hosts_on_vde_plug2tap_ping_each_other(daemon: DaemonProcess) -> None:
    with Namespace("a") as a, Namespace("b") as b:
        plugs = []
        for number, host in enumerate((a, b), 1):
            host.run("ip", "tuntap", "add", "tap0", "mode", "tap")
            host.run("ip", "address", "add", f"10.9.8.{number}/24", "dev", "tap0")
            host.run("ip", "link", "set", "tap0", "up")
            plugs.append(
                subprocess.Popen(
                    host.command("vde_plug2tap", "-s", str(daemon.directory), "tap0"), stdin=subprocess.PIPE
                )
            )
        try:
            assert "0% packet loss" in a.run("ping", "-c", "3", "-i", "0.2", "-w", "15", "10.9.8.2")
            assert "0% packet loss" in b.run(
                "ping", "-c", "1", "-s", "1472", "-M", "do", "-w", "15", "10.9.8.1"
            )
        finally:
            for plug in plugs:
                plug.terminate()
                plug.wait(10)
                assert plug.stdin is not None
                plug.stdin.close()
