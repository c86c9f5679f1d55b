"""The demo's network for a caller without root: the daemon's user-mode uplink, and this host as it is.

Nothing is made but one switch directory and some sockets on 127.0.0.1, of which the guest may reach what this
process serves there.
"""

from __future__ import annotations

import shutil
import socket
from contextlib import ExitStack
from ipaddress import IPv4Network
from pathlib import Path

from vde_vmnet.demo.checks import Scene
from vde_vmnet.demo.daemon_process import DaemonProcess
from vde_vmnet.demo.guest import Guest, GuestConfig, vde_network
from vde_vmnet.demo.guest_image import GuestImage
from vde_vmnet.demo.interrupts import Interrupts
from vde_vmnet.demo.screen import Screen

__all__ = ["PROGRAMS", "build"]

PROGRAMS = {"setpriv": "util-linux"}

_GATEWAY = "192.168.105.1"
_NETWORK = IPv4Network("192.168.105.0/24")
_GUEST_MAC = "52:54:00:12:34:56"
_LOCAL = "127.0.0.1"


def build(
    screen: Screen, interrupts: Interrupts, image: GuestImage, place: Path, proof: Path, network: ExitStack
) -> Scene:
    """Daemon and guest, each ended by ``network``. Raises UplinkError, GuestError, UnavailableError."""
    directory = place / "vde.ctl"
    http_port, forwarded_port = _free_ports(2)
    with screen.step(f"Starting the daemon on {directory}, without root"):
        with interrupts.held():
            daemon = network.enter_context(
                DaemonProcess(
                    directory,
                    (
                        "--backend=user",
                        f"--vmnet-gateway={_GATEWAY}",
                        f"--allow={_LOCAL}",
                        f"--forward={forwarded_port}:{_GUEST_MAC}:80",
                    ),
                    pidfile=place / "pid",
                    log=proof / "daemon.log",
                    prefix=(shutil.which("setpriv") or "setpriv", "--pdeathsig=TERM", "--"),
                )
            )
        daemon.wait_ready()
    with screen.step("Booting a guest under QEMU"):
        with interrupts.held():
            guest = network.enter_context(Guest(GuestConfig(image, proof, vde_network(directory, _GUEST_MAC))))
        guest.wait_ready()
    return Scene(
        guest,
        _GATEWAY,
        _NETWORK,
        "host.vmnet.internal",
        host_path="",
        listens=_LOCAL,
        http_port=http_port,
        forwarded=(_LOCAL, forwarded_port),
        seen_as=_LOCAL,
    )


def _free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody has now."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server((_LOCAL, 0))) for _ in range(count)]
        return [one.getsockname()[1] for one in sockets]
