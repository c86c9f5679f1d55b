"""``vde_vmnet sudoers``: print the rules with which ordinary users, or Lima, may run the daemon as root."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence

from vde_vmnet.config.arguments import GnuHelp, Parser
from vde_vmnet.errors import ConfigurationError
from vde_vmnet.service.networks import ServiceNetwork, check_plain
from vde_vmnet.service.sudoers import GROUP, VAR_RUN, daemon_sudoers, lima_sudoers

__all__ = ["build_parser", "main"]

#: Where Lima looks first.
_USUAL_PLACE = "/opt/socket_vmnet/bin/socket_vmnet"
#: The original's.
_DAEMON_GROUP = "staff"


def build_parser() -> argparse.ArgumentParser:
    """What ``sudoers`` knows."""
    parser = Parser(
        prog="vde_vmnet sudoers",
        usage="vde_vmnet sudoers [OPTION]...",
        formatter_class=GnuHelp,
        description="Print sudoers rules; install them as root, mode 0440, in /etc/sudoers.d.",
    )
    parser.add_argument("--lima", action="store_true", help="for Lima with its default networks")
    parser.add_argument(
        "--program",
        metavar="PATH",
        default="/opt/vde/bin/vde_vmnet",
        help="without --lima: the program that may be run (default: %(default)s)",
    )
    parser.add_argument(
        "--bridged",
        metavar="IF",
        action="append",
        default=[],
        help="without --lima: a bridged network too; can be repeated",
    )
    parser.add_argument(
        "--socket-vmnet",
        metavar="PATH",
        help="what Lima's paths.socketVMNet says (default: where it is found, else"
        f" {_USUAL_PLACE}); root must own it and all above it",
    )
    parser.add_argument(
        "--group",
        metavar="GROUP",
        help=f'who may, and with Lima who may plug in (default: "{_DAEMON_GROUP}"; with --lima "{GROUP}")',
    )
    parser.add_argument(
        "--var-run", metavar="DIR", default=VAR_RUN, help="Lima's paths.varRun (default: %(default)s)"
    )
    return parser


def main(argv: Sequence[str]) -> int:
    """Raises ConfigurationError."""
    options = build_parser().parse_args(argv)
    if options.socket_vmnet is None:
        options.socket_vmnet = shutil.which("socket_vmnet") or _USUAL_PLACE
    if options.group is None:
        options.group = GROUP if options.lima else _DAEMON_GROUP
    _check(options)
    if options.lima:
        text = lima_sudoers(options.socket_vmnet, group=options.group, var_run=options.var_run)
    else:
        networks = (ServiceNetwork(), *(ServiceNetwork(interface) for interface in options.bridged))
        text = daemon_sudoers(
            options.program,
            networks,
            group=options.group,
            root_group="wheel" if sys.platform == "darwin" else "root",
        )
    sys.stdout.write(text)
    return 0


def _check(options: argparse.Namespace) -> None:
    """In sudoers other characters have a meaning of their own, and Lima splits its commands at spaces."""
    check_plain("--group", options.group)
    for option, text in (
        ("--program", options.program),
        ("--socket-vmnet", options.socket_vmnet),
        ("--var-run", options.var_run),
    ):
        if not check_plain(option, text).startswith("/"):
            raise ConfigurationError(f'{option} "{text}" is not an absolute path')
