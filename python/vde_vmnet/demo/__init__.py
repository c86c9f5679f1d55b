"""``vde_vmnet demo``: a network and a rootless guest on it, in namespaces of their own, and what they reach.

The host's own network is not touched: the daemon runs in one namespace, and what lies beyond the NAT is
another. Everything ends with this process, also when it is interrupted.
"""

from __future__ import annotations

import argparse
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path
from typing import NoReturn

from vde_vmnet.config.arguments import GnuHelp
from vde_vmnet.demo import unprivileged
from vde_vmnet.demo.accounts import Account, unprivileged_account
from vde_vmnet.demo.checks import CHECKS, USER_CHECKS, Row, Scene, Surroundings, run_check
from vde_vmnet.demo.daemon_process import DaemonProcess
from vde_vmnet.demo.guest import Guest, GuestConfig, vde_network
from vde_vmnet.demo.guest_image import GuestImage, build_image, unavailable_reason
from vde_vmnet.demo.interrupts import Interrupts
from vde_vmnet.demo.netns import Namespace, connect
from vde_vmnet.demo.screen import Screen
from vde_vmnet.errors import ConfigurationError, UnavailableError

__all__ = ["build_parser", "main"]

_GATEWAY = "192.168.105.1"
_NETWORK = IPv4Network("192.168.105.0/24")
_HOST_NAME = "host.vmnet.internal"
_GUEST_MAC = "52:54:00:12:34:56"
# TEST-NET-3, RFC 5737: addresses for documentation, which no real host has.
_OUTSIDE, _BEYOND = "203.0.113.1", "203.0.113.10"

_PROGRAMS = {"dnsmasq": "dnsmasq-base", "nft": "nftables", "ip": "iproute2", "setpriv": "util-linux"}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigurationError(f"vde_vmnet demo: {message}", next_step="See vde_vmnet demo --help")


def build_parser() -> argparse.ArgumentParser:
    """What ``demo`` knows."""
    parser = _Parser(
        prog="vde_vmnet demo",
        usage="vde_vmnet demo [OPTION]...",
        formatter_class=GnuHelp,
        description="Start a network, boot a small Linux guest on it under QEMU as an unprivileged user, and"
        " show what guest and host reach of each other. Without root it is the user-mode network; as root it is"
        " the kernel's, in namespaces with a world around it. The host's own network is not touched.",
        epilog="Exit status: 0 if everything in the table held, 1 if something did not, 130 if interrupted.",
    )
    parser.add_argument(
        "--evidence",
        metavar="DIR",
        type=Path,
        help="keep the guest's console, the daemon's log and QEMU's command line in DIR (without it they are"
        " kept only when something failed)",
    )
    return parser


def main(argv: Sequence[str]) -> int:
    """Run the demo; 0 when every row of its table held, 1 when one did not, 130 when interrupted.

    Raises VdeVmnetError when it could not be carried out at all.
    """
    options = build_parser().parse_args(argv)
    _require()
    screen = Screen(sys.stdout)
    with Interrupts() as interrupts, ExitStack() as closing:
        try:
            return _run(screen, interrupts, options.evidence, closing)
        except KeyboardInterrupt:
            screen.say("\nInterrupted; taking everything down.")
            return 130


def _require() -> None:
    """Raises UnavailableError when this cannot work here."""
    if sys.platform != "linux":
        raise UnavailableError("vde_vmnet demo works on Linux only: its guest is made of this machine's kernel")
    reason = unavailable_reason()
    if reason is not None:
        raise UnavailableError(reason.rstrip("."))
    needed = _PROGRAMS if os.geteuid() == 0 else unprivileged.PROGRAMS
    missing = [package for program, package in needed.items() if shutil.which(program) is None]
    if missing:
        raise UnavailableError(
            f"Programs of {', '.join(missing)} are missing",
            next_step=f"Run: apt-get install {' '.join(missing)}",
        )


def _run(screen: Screen, interrupts: Interrupts, evidence: Path | None, closing: ExitStack) -> int:
    root = os.geteuid() == 0
    with screen.step("Making the guest's image"):
        image = build_image()
    # In /run, since an unprivileged QEMU must reach it and a temporary folder may be root's alone.
    place = Path(tempfile.mkdtemp(prefix="vde_vmnet-demo-", dir="/run" if root else None))
    closing.callback(shutil.rmtree, place, ignore_errors=True)
    place.chmod(0o755)
    proof = evidence or Path(tempfile.mkdtemp(prefix="vde_vmnet-demo-evidence-"))
    proof.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    keep = True
    try:
        with ExitStack() as network:
            if root:
                account = unprivileged_account()
                ready = _readable(image, account, place)
                scene = _build(screen, interrupts, account, ready, place, proof, network)
            else:
                scene = unprivileged.build(screen, interrupts, image, place, proof, network)
            for check in CHECKS if root else USER_CHECKS:
                rows.append(run_check(check, scene))
                screen.row(rows[-1])
        keep = not all(row.held for row in rows)
    except KeyboardInterrupt:
        keep = False
        raise
    finally:
        if rows:
            screen.table(rows)
        if evidence is None and not keep:
            shutil.rmtree(proof, ignore_errors=True)
        else:
            screen.say(f"The guest's console, the daemon's log and QEMU's command line are in {proof}")
    failed = sum(not row.held for row in rows)
    screen.say(
        f"{failed} of {len(rows)} checks failed."
        if failed
        else f"All {len(rows)} checks held: a guest without root is on the network."
    )
    return 1 if failed else 0


def _build(
    screen: Screen,
    interrupts: Interrupts,
    account: Account,
    image: GuestImage,
    place: Path,
    proof: Path,
    network: ExitStack,
) -> Scene:
    """Namespaces, daemon and guest, each ended by ``network``."""
    with screen.step("Making a host and a world, each a network namespace"):
        host = network.enter_context(Namespace())
        world = network.enter_context(Namespace())
        connect(host, "world0", world, "eth0")
        host.run("ip", "address", "add", f"{_OUTSIDE}/24", "dev", "world0")
        world.run("ip", "address", "add", f"{_BEYOND}/24", "dev", "eth0")
    directory = place / "vde.ctl"
    with screen.step(f"Starting the daemon on {directory}"):
        with interrupts.held():
            daemon = network.enter_context(
                DaemonProcess(
                    directory,
                    (f"--vmnet-gateway={_GATEWAY}", f"--vde-group={account.group}"),
                    pidfile=place / "pid",
                    log=proof / "daemon.log",
                    prefix=(*host.prefix(), shutil.which("setpriv") or "setpriv", "--pdeathsig=TERM", "--"),
                )
            )
        daemon.wait_ready()
    with screen.step(f"Booting a guest under QEMU as {account.name}"):
        with interrupts.held():
            guest = network.enter_context(
                Guest(GuestConfig(image, proof, vde_network(directory, _GUEST_MAC), account=account))
            )
        guest.wait_ready()
    around = Surroundings(host, world, _OUTSIDE, _BEYOND)
    return Scene(guest, _GATEWAY, _NETWORK, _HOST_NAME, host.path, _GATEWAY, around=around)


def _readable(image: GuestImage, account: Account, place: Path) -> GuestImage:
    """The image with a kernel that ``account`` can read: some systems keep theirs for root."""
    if image.kernel.stat().st_mode & stat.S_IROTH:
        return image
    copy = place / "kernel"
    shutil.copyfile(image.kernel, copy)
    os.chown(copy, account.uid, account.gid)
    copy.chmod(0o400)
    return replace(image, kernel=copy)
