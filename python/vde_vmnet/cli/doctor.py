"""``vde_vmnet doctor``: what is in the way of a network on this host, and what to do about it."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import vde_vmnet
from vde_vmnet import recovery
from vde_vmnet.addresses import Ipv4Plan
from vde_vmnet.cli.run import DEFAULT_NETWORK
from vde_vmnet.config.arguments import GnuHelp, Parser
from vde_vmnet.control import paths
from vde_vmnet.doctor import leftovers, looking, reach, tools
from vde_vmnet.errors import ConfigurationError, PrivilegeError
from vde_vmnet.uplinks.check import Check, Level
from vde_vmnet.uplinks.user import checkup as user_checkup
from vde_vmnet.uplinks.vmnet import library

__all__ = ["build_parser", "main"]

_DESCRIPTION = """\
Look at what a network on this host needs, and at what keeps its guests from working: privilege, programs,
the subnet, firewall rules, routes of VPNs, whether you can plug in, and what killed daemons left. Changes
nothing. As an ordinary user it says what it could not look at.
"""
_EPILOG = """\
A finding is ok, note (good to know), warn (something may not work), FAIL (in the way), or ---- (this user
could not look). Exit status: 0 when nothing FAILs, else that of what is in the way: 3 something is missing on
this machine, 4 not permitted, 5 something else holds it or stops it; 1 wrong usage.
"""


def build_parser() -> argparse.ArgumentParser:
    """What ``doctor`` knows."""
    parser = Parser(
        prog="vde_vmnet doctor",
        usage="vde_vmnet doctor [OPTION]... [VDESWITCH]",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=GnuHelp,
        add_help=False,
    )
    add = parser.add_argument
    add("--vmnet-gateway", metavar="IP", help="look whether this network is free, too")
    add("--vmnet-mask", metavar="MASK", default="255.255.255.0", help="(default: %(default)s)")
    add("--json", action="store_true", help="as one line of JSON")
    add("-h", "--help", action="store_true", help="display this help and exit")
    add(
        "vdeswitch",
        metavar="VDESWITCH",
        nargs="?",
        type=Path,
        help=f"the switch directory or socket to reach (default: those of all networks that run, and"
        f" {DEFAULT_NETWORK}, if there is one)",
    )
    return parser


def main(argv: Sequence[str]) -> int:
    """0 when nothing is in the way, else the status of what is. Raises ConfigurationError."""
    parser = build_parser()
    options = parser.parse_args(argv)
    if options.help:
        parser.print_help()
        return 0
    found = list(_checks(_wanted(options), options.vdeswitch))
    status = _status(found)
    if options.json:
        findings = [one.to_plain() for one in found]
        plain = {"version": vde_vmnet.__version__, "status": status, "findings": findings}
        sys.stdout.write(f"{json.dumps(plain)}\n")
    else:
        sys.stdout.write("".join(_lines(check) for check in found))
    return status


def _status(found: Sequence[Check]) -> int:
    blamed = [check.blame for check in found if check.blame is not None]
    # What a user can change with one word comes last: without it nothing else can be told apart.
    first = next((blame for blame in blamed if blame is not PrivilegeError), next(iter(blamed), None))
    return first.exit_code if first is not None else 0


def _checks(wanted: IPv4Network | None, vdeswitch: Path | None) -> Iterator[Check]:
    yield Check("vde_vmnet", f"{vde_vmnet.__version__}, Python {sys.version.split()[0]}")
    if library.is_macos():
        from vde_vmnet.uplinks.vmnet import checkup

        yield from checkup.checks(wanted)
    else:
        from vde_vmnet.uplinks.linux import checkup as linux_checkup

        yield from linux_checkup.checks(wanted)
    yield from user_checkup.checks()
    yield tools.qemu_check(looking.qemu())
    places = _known() if vdeswitch is None else [vdeswitch]
    for place in places:
        yield _reach(place)
    yield from leftovers.checks(
        looking.records(recovery.STATE_DIRECTORY),
        [path for place in places for path in looking.stale_sockets(place)],
        list(looking.pidfiles()),
        recovery.STATE_DIRECTORY,
    )


def _known() -> list[Path]:
    """Where networks run, as far as they have a control socket, and where one usually is."""
    running = [Path(str(control).removesuffix(paths.SUFFIX)) for control in paths.find()]
    return [place for place in dict.fromkeys((DEFAULT_NETWORK, *running)) if os.path.lexists(place)]


def _reach(vdeswitch: Path) -> Check:
    who = looking.person(os.environ)
    way = looking.places(looking.socket_of(vdeswitch), who)
    return reach.judge(who, way, looking.group_names(way))


def _wanted(options: argparse.Namespace) -> IPv4Network | None:
    if options.vmnet_gateway is None:
        return None
    try:
        return Ipv4Plan.build(IPv4Address(options.vmnet_gateway), options.vmnet_mask, None).network
    except ValueError as error:
        raise ConfigurationError(str(error)) from None


def _lines(check: Check) -> str:
    line = f"{check.level.value:4}  {check.what}: {check.said}\n"
    if check.level is Level.OK:
        return line
    return line + "".join(f"      {text}\n" for text in (check.why, check.next_step) if text)
