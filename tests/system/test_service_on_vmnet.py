"""The command lines of the property lists, on a simulated Mac: the network they make is the original's."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest

from tests.support import vmnet_launcher
from tests.support.daemon import wait_until
from tests.support.netns import Namespace, wire
from tests.support.vmnet_sim import Fabric, build
from vde_vmnet.service.launchd import property_lists
from vde_vmnet.service.networks import ServiceNetwork


@pytest.fixture
def var_run() -> Iterator[Path]:
    """In the place of /var/run; on macOS it belongs to root and the group daemon too."""
    with tempfile.TemporaryDirectory(prefix="vdet-", dir="/run") as name:
        os.chown(name, 0, 1)
        Path(name).chmod(0o775)
        yield Path(name)


@pytest.mark.root
@pytest.mark.parametrize("macos", ["13", "26"])
@pytest.mark.parametrize("interface", [None, "en0"])
def test_what_launchd_starts(host: Namespace, var_run: Path, macos: str, interface: str | None) -> None:
    with Namespace("lan") as lan, Fabric(host) as fabric:
        wire(lan, "lan0", host, "en0")
        network = ServiceNetwork(interface)
        (service,) = property_lists(network, PurePosixPath("/opt/vde"))
        arguments = [text.replace("/var/run", str(var_run)) for text in service.properties["ProgramArguments"]]
        ready = var_run / "ready"
        daemon = subprocess.Popen(
            host.command(*vmnet_launcher.command(build(macos), *arguments[1:], f"--pidfile={ready}")),
            cwd="/",
            env={"PATH": os.environ["PATH"], **fabric.environment(macos)},  # no SUDO_UID: launchd is not sudo
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            wait_until(lambda: ready.exists() or daemon.poll() is not None, "it is ready", 20)
            directory = var_run / PurePosixPath(network.switch).name
            assert daemon.poll() is None and oct(directory.stat().st_mode & 0o777) == "0o770"
            assert (directory.owner(), directory.group()) == ("nobody", "staff")
            if interface is None:
                assert "192.168.105.1/24" in host.run("ip", "-br", "address")
        finally:
            daemon.terminate()
            _, log = daemon.communicate(timeout=20)
        assert daemon.returncode == 0, log
        assert "* vmnet_mac_address: " in log and fabric.report() == ""
        assert not list(var_run.iterdir())
