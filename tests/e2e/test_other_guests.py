"""Guests that are not Linux under QEMU: a boot ROM, and User-mode Linux with its own VDE transport."""

from __future__ import annotations

import os
import select
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from tests.e2e.world import PAGE
from tests.support.daemon import GATEWAY, Daemon
from tests.support.guest import boot, image, mac
from vde_vmnet.demo.accounts import credentials_of, unprivileged_account
from vde_vmnet.demo.console import CommandChannel
from vde_vmnet.demo.traffic import HttpServer

pytestmark = [pytest.mark.root, pytest.mark.guest]

IPXE = Path("/usr/lib/ipxe/ipxe.lkrn")
# Only DHCP: by itself it would also wait 15 s for an IPv6 router, which this network has not.
IPXE_SCRIPT = """#!ipxe
ifconf -c dhcp net0
echo LEASE ${net0/ip} ${net0/netmask} ${net0/gateway} ${net0/dns}
imgfetch http://192.168.105.1:8080/
echo FETCHED
"""


@contextmanager
def unprivileged(
    command: list[str], log: Path, *fds: int, **environment: str
) -> Iterator[subprocess.Popen[bytes]]:
    """A process of the guest's user with all its children, which are killed at the end."""
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [*unprivileged_account().command_prefix(), *command],
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            pass_fds=fds,
            start_new_session=True,
            env={**os.environ, **environment},
        )
    try:
        yield process
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_for_line(log: Path, word: str, seconds: float) -> str:
    """The first finished line of a growing file that contains ``word``."""
    deadline = time.monotonic() + seconds
    while True:
        for line in log.read_text(errors="replace").splitlines(keepends=True):
            if word in line and line.endswith("\n"):
                return line
        assert time.monotonic() < deadline, (
            f"no {word} after {seconds} s: {log.read_text(errors='replace')[-400:]}"
        )
        select.poll().poll(50)  # a file gives no event that poll could wait for


def test_ipxe_gets_its_lease_and_fetches_by_http(daemon: Daemon) -> None:
    if not IPXE.exists():
        pytest.skip("ipxe is not installed")
    script = daemon.place / "script.ipxe"
    script.write_text(IPXE_SCRIPT)
    log = daemon.evidence / "ipxe-console.log"
    command = [
        *("qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-serial", "stdio"),
        # The firmware's own serial console, since this iPXE writes to the BIOS.
        *("-machine", "pc,graphics=off", "-accel", "tcg", "-m", "256"),
        *("-kernel", str(IPXE), "-initrd", str(script)),
        *("-netdev", f"vde,id=net0,sock={daemon.directory}"),
        *("-device", f"virtio-net-pci,netdev=net0,mac={mac(9)},romfile="),
    ]
    with HttpServer(daemon.host.path, GATEWAY, 8080, PAGE) as server, unprivileged(command, log):
        lease = wait_for_line(log, "LEASE ", 30).split()
        address = lease[lease.index("LEASE") + 1]
        assert IPv4Address("192.168.105.2") <= IPv4Address(address) <= IPv4Address("192.168.105.254")
        assert lease[-3:] == ["255.255.255.0", GATEWAY, GATEWAY]
        wait_for_line(log, "FETCHED", 20)
    assert server.clients == [address]
    assert mac(9) in daemon.log()


def test_user_mode_linux_plugs_in_and_talks_to_qemu(daemon: Daemon) -> None:
    program = shutil.which("linux.uml")
    if program is None:
        pytest.skip("user-mode-linux is not installed")
    ours, theirs = socket.socketpair()
    home = daemon.place / "uml"
    home.mkdir()
    home.chmod(0o777)
    command = [
        *(program, "mem=96M", "quiet", "root=/dev/ram0", f"uml_dir={home}", f"initrd={image().initramfs}"),
        f"eth0=vde,{daemon.directory},{mac(7)}",
        # Its second serial line is the command channel, as with QEMU.
        *(f"ssl1=fd:{theirs.fileno()},fd:{theirs.fileno()}", "con0=null,fd:1", "con=null", "ssl0=null"),
    ]
    log = daemon.evidence / "uml-console.log"
    with unprivileged(command, log, theirs.fileno(), TMPDIR=str(home)) as process, boot(daemon, 1) as qemu:
        theirs.close()
        assert credentials_of(process.pid).rootless
        lease = qemu.request_lease()
        assert lease is not None
        channel = CommandChannel(ours)
        channel.wait_ready(30)
        asked = channel.run("udhcpc -i eth0 -q -n -f -t 10 -T 1 -x hostname:uml -s /etc/udhcpc.script")
        assert asked.status == 0, asked.output
        for address in (GATEWAY, lease["address"]):
            said = channel.run(f"ping -c 2 -i 0.2 -W 2 {address}")
            assert said.status == 0, said.output
        assert qemu.run("ping -c 1 -W 2 uml").status == 0
        channel.close()
    assert "UML" in daemon.log()
