"""The pair of property lists with ``vde_switch``: their users, groups and arguments really come together.

The command lines are those of the lists; a folder stands for /var/run, with the owner and mode it has on macOS.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest

from tests.support.daemon import wait_until
from tests.support.netns import Namespace
from tests.support.vde_peer import VdePeer
from vde_vmnet.service.launchd import PropertyList, property_lists
from vde_vmnet.service.networks import ServiceNetwork
from vde_vmnet.sockets import has_live_switch

PROGRAM = Path(sys.executable).with_name("vde_vmnet")
DAEMON_UID = 1  # of the user daemon, on macOS and on Debian


@pytest.fixture
def var_run() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="vdet-", dir="/run") as name:
        os.chown(name, 0, DAEMON_UID)
        Path(name).chmod(0o775)
        yield Path(name)


def command(service: PropertyList, program: str | Path, var_run: Path) -> list[str]:
    arguments = [
        argument.replace("/var/run", str(var_run)) for argument in service.properties["ProgramArguments"][1:]
    ]
    # Debian's is older than this option, which is about the end of standard input.
    return [str(program), *(argument for argument in arguments if argument != "--nostdin")]


@pytest.mark.root
def test_the_daemon_plugs_into_the_switch_and_again_when_that_restarts(host: Namespace, var_run: Path) -> None:
    switch_list, daemon_list = property_lists(ServiceNetwork(), PurePosixPath("/opt/vde"), with_vde_switch=True)
    user, group = switch_list.properties["UserName"], switch_list.properties["GroupName"]
    # launchd gives a service the groups of its user too.
    drop = ["setpriv", f"--reuid={user}", f"--regid={group}", "--groups=daemon"]
    directory, ready = var_run / "vde.ctl", var_run / "ready"

    def start_switch() -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [*drop, *command(switch_list, "vde_switch", var_run)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
        )
        wait_until(lambda: has_live_switch(directory), "the switch serves", 10)
        return process

    def host_is_heard() -> None:
        with VdePeer(directory) as peer:
            host.run("ping", "-c1", "-W1", "192.168.105.77", check=False)  # asks who that is
            while peer.receive()[0][12:14] != b"\x08\x06":
                pass

    switch = start_switch()
    daemon = subprocess.Popen(
        host.command(*command(daemon_list, PROGRAM, var_run), f"--pidfile={ready}"),
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_until(lambda: ready.exists() or daemon.poll() is not None, "it is ready", 20)
        host_is_heard()
        switch.terminate()  # killed, it would leave its pidfile, and this version would not start again
        switch.communicate(timeout=10)
        switch = start_switch()
        wait_until(lambda: any(directory.glob(".*-*")) or any(directory.glob("00*")), "it plugged in again", 20)
        host_is_heard()
    finally:
        for process in (daemon, switch):
            process.terminate()
        _, log = daemon.communicate(timeout=20)
        switch.communicate(timeout=10)
    assert daemon.returncode == 0, log
    assert "gone; plugging in again" in log
