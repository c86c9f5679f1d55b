"""Plugging into an existing switch: Debian's vde_switch and our own; restarts, refusals, who is the switch."""

import asyncio
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.support.bridge import Bridge, with_bridge
from tests.support.daemon import Daemon
from tests.support.netns import Namespace
from tests.support.vde_peer import VdePeer
from tests.support.vde_switch import VdeSwitch
from vde_vmnet.demo.daemon_process import DaemonProcess
from vde_vmnet.errors import ConflictError, UnavailableError
from vde_vmnet.opened import MakeListener
from vde_vmnet.ports.base import SEGMENT_PORTS
from vde_vmnet.ports.vde_plug import VdePlugListener, back_off
from vde_vmnet.vde_client import PlugTarget, VdeClient

BROADCAST = -1


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory that other users may enter."""
    return tmp_path


def plugged(target: PlugTarget) -> MakeListener:
    return partial(VdePlugListener, VdeClient.plug_in(target), port=SEGMENT_PORTS[0])


def names(directory: Path) -> list[str]:
    return sorted(entry.name for entry in directory.iterdir())


def test_frames_pass_both_ways_and_no_name_is_left(place: Path) -> None:
    with VdeSwitch(place / "sw") as switch, VdePeer(switch.directory) as guest:

        async def scenario(bridge: Bridge) -> None:
            await bridge.attached()
            await bridge.exchange(guest)
            assert not [name for name in names(switch.directory) if name.startswith(".")]

        with_bridge(plugged(PlugTarget(switch.directory)), scenario)


@pytest.mark.parametrize("port", [0, 3, 31])
def test_the_port_that_was_asked_for(place: Path, port: int) -> None:
    with VdeSwitch(place / "sw") as switch:
        client = VdeClient.plug_in(PlugTarget(switch.directory, port=port))
        try:
            assert any(name.startswith(f"{port:03d}.") for name in names(switch.directory))
        finally:
            client.close()


@pytest.mark.parametrize("end", [VdeSwitch.stop, VdeSwitch.kill])
def test_it_plugs_in_again_when_the_switch_restarts(place: Path, end: Callable[[VdeSwitch], None]) -> None:
    with VdeSwitch(place / "sw") as switch:

        async def scenario(bridge: Bridge) -> None:
            await bridge.attached()
            for _ in range(2):
                with VdePeer(switch.directory) as guest:
                    await bridge.exchange(guest)
                end(switch)
                await bridge.detached()
                await asyncio.to_thread(switch.start_again)
                await bridge.attached()

        with_bridge(plugged(PlugTarget(switch.directory, port=5)), scenario)


def test_our_own_daemon_as_the_switch(place: Path) -> None:
    options = ("--backend=none", f"--vde-group={os.getegid()}")
    with DaemonProcess(place / "sw", options, pidfile=place / "pid", log=place / "log") as daemon:
        daemon.wait_ready()

        async def scenario(bridge: Bridge) -> None:
            await bridge.attached()
            with VdePeer(daemon.directory) as guest:
                await bridge.exchange(guest)

        with_bridge(plugged(PlugTarget(daemon.directory, port=7)), scenario)


def test_refusals_have_a_type_and_a_reason(place: Path) -> None:
    with pytest.raises(UnavailableError, match="No VDE switch answers at"):
        VdeClient.plug_in(PlugTarget(place / "nothing"))
    with VdeSwitch(place / "sw") as switch:
        # vde_switch 2.3.2 says nothing when a port is too high.
        with pytest.raises(ConflictError, match=r"sw\[9999\]\" does not answer"):
            VdeClient.plug_in(PlugTarget(switch.directory, port=9999), timeout=0.3)
        assert not [name for name in names(switch.directory) if name.startswith(".")]
    options = ("--backend=none", f"--vde-group={os.getegid()}")
    with DaemonProcess(place / "ours", options, pidfile=place / "pid", log=place / "log") as daemon:
        daemon.wait_ready()
        with pytest.raises(ConflictError, match="refused the plug"):
            VdeClient.plug_in(PlugTarget(daemon.directory, port=9999))


def test_back_off_grows_and_stays_bounded() -> None:
    delays = [delay for delay, _ in zip(back_off(), range(20), strict=False)]
    assert delays[0] == 0.1 and delays[-1] == 5.0 and delays == sorted(delays)


# -- the daemon's choice ------------------------------------------------------------------------------------


def run(*argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "vde_vmnet", *argv], capture_output=True, text=True, timeout=20
    )


def test_insisting_where_it_cannot_be(place: Path) -> None:
    none = run("--backend=none", "--vde-switch=plug", str(place / "sw"))
    assert none.returncode == 3 and "No VDE switch answers at" in none.stderr
    with VdeSwitch(place / "sw") as switch:
        serve = run("--backend=none", "--vde-switch=serve", str(switch.directory))
        assert serve.returncode == 5 and "in use by a running switch" in serve.stderr
        isolated = run("--backend=none", str(switch.directory))
        assert isolated.returncode == 5 and "no uplink to plug in" in isolated.stderr


@pytest.mark.root
def test_a_switch_that_the_service_user_may_not_use(place: Path) -> None:
    # Root plugs in where only root can change the directory; everybody may change this one's parent's entries.
    place.chmod(0o777)
    with VdeSwitch(place / "sw") as switch:
        done = run("--backend=none", "--vde-switch=plug", str(switch.directory))
    assert done.returncode == 4 and 'does not let "nobody"' in done.stderr and "--user=" in done.stderr


class TapGuest:
    """A namespace whose ``tap0`` is plugged into a switch by Debian's ``vde_plug2tap``."""

    def __init__(self, namespace: Namespace) -> None:
        self.namespace = namespace
        namespace.run("ip", "tuntap", "add", "tap0", "mode", "tap")
        namespace.run("ip", "address", "add", "192.168.105.77/24", "dev", "tap0")
        namespace.run("ip", "link", "set", "tap0", "up")

    def reaches_gateway(self, directory: Path) -> bool:
        with subprocess.Popen(
            self.namespace.command("vde_plug2tap", "-s", str(directory), "tap0"), stdin=subprocess.PIPE
        ) as plug:
            try:
                return self.namespace.succeeds("ping", "-c", "1", "-w", "10", "192.168.105.1")
            finally:
                plug.terminate()


@pytest.mark.root
@pytest.mark.timeout(120)
def test_the_linux_uplink_through_debian_s_switch(host: Namespace, place: Path) -> None:
    """Plugged in before the drop, and again after it when the switch was killed; the switch stays alive."""
    with VdeSwitch(place / "sw", "-m", "666", prefix=host.command()) as switch, Namespace("guest") as far:
        guest = TapGuest(far)
        log = place / "log"
        with DaemonProcess(
            switch.directory,
            ("--vmnet-gateway=192.168.105.1", "--vde-switch=auto"),
            pidfile=place / "pid",
            log=log,
            prefix=host.command(),
        ) as daemon:
            daemon.wait_ready()
            assert "Plugged into the VDE switch" in log.read_text()
            assert guest.reaches_gateway(switch.directory)
            switch.kill()
            switch.start_again()
            while log.read_text().count("Plugged into the VDE switch") < 2:
                far.run("true")
            assert guest.reaches_gateway(switch.directory)
        assert daemon.process.returncode == 0
        assert switch.process.poll() is None and (switch.directory / "ctl").exists()


@pytest.mark.root
def test_a_private_switch_is_joined_once_and_the_consequence_is_said(host: Namespace) -> None:
    """vde_switch's default mode lets only root in: root plugs in, and says what a restart will mean."""
    with tempfile.TemporaryDirectory(prefix="vde-", dir="/run") as name:
        place = Path(name)
        with (
            VdeSwitch(place / "sw", prefix=host.command()) as switch,
            DaemonProcess(
                switch.directory,
                ("--vmnet-gateway=192.168.105.1", "--vde-switch=plug"),
                pidfile=place / "pid",
                log=place / "log",
                prefix=host.command(),
            ) as daemon,
        ):
            daemon.wait_ready()
            said = daemon.log.read_text()
            assert "plugging in again will be refused" in said and "Plugged into the VDE switch" in said
        assert daemon.process.returncode == 0


@pytest.mark.root
def test_a_second_network_does_not_slip_into_the_first(host: Namespace) -> None:
    with Daemon(host, "--vmnet-gateway=192.168.105.1") as first:
        again = host.run(
            sys.executable,
            "-m",
            "vde_vmnet",
            "--vmnet-gateway=192.168.106.1",
            str(first.directory),
            check=False,
        )
        assert re.search("in use by a running switch, and it is a vde_vmnet .*--vde-switch=plug", again)
