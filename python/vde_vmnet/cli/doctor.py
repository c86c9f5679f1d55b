"""``vde_vmnet doctor``: what is in the way of a network on this host, and what to do about it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network

from vde_vmnet.addresses import Ipv4Plan
from vde_vmnet.config.arguments import Parser
from vde_vmnet.errors import ConfigurationError, PrivilegeError
from vde_vmnet.uplinks.check import Check
from vde_vmnet.uplinks.vmnet import library

__all__ = ["main"]


def main(argv: Sequence[str]) -> int:
    """0 when nothing is in the way, else the exit status with which a start would end.

    Raises ConfigurationError.
    """
    parser = Parser(
        prog="vde_vmnet doctor",
        description="Look at what a network on this host needs. Exit status: 0 when nothing is in the way, else"
        " that of a start (3 something is missing, 4 not permitted, 5 something is in the way).",
    )
    parser.add_argument("--vmnet-gateway", metavar="IP", help="look whether this network is free, too")
    parser.add_argument("--vmnet-mask", metavar="MASK", default="255.255.255.0", help="(default: %(default)s)")
    options = parser.parse_args(argv)
    found = list(_checks(_wanted(options)))
    sys.stdout.write("".join(_lines(check) for check in found))
    blamed = [check.blame for check in found if check.blame is not None]
    # What a user can change with one word comes last: without it nothing else can be told apart.
    first = next((blame for blame in blamed if blame is not PrivilegeError), next(iter(blamed), None))
    return first.exit_code if first is not None else 0


def _checks(wanted: IPv4Network | None) -> Sequence[Check]:
    if library.is_macos():
        from vde_vmnet.uplinks.vmnet import checkup

        return list(checkup.checks(wanted))
    from vde_vmnet.uplinks.linux import checkup as linux_checkup

    return list(linux_checkup.checks(wanted))


def _wanted(options: argparse.Namespace) -> IPv4Network | None:
    if options.vmnet_gateway is None:
        return None
    try:
        return Ipv4Plan.build(IPv4Address(options.vmnet_gateway), options.vmnet_mask, None).network
    except ValueError as error:
        raise ConfigurationError(str(error)) from None


def _lines(check: Check) -> str:
    mark = "ok  " if check.blame is None else "FAIL"
    line = f"{mark}  {check.what}: {check.said}\n"
    return line + (f"      {check.next_step}\n" if check.next_step else "")
