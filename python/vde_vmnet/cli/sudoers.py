"""``vde_vmnet sudoers --lima``: print the rules with which Lima may run our socket_vmnet."""

from __future__ import annotations

import argparse
import re
import shutil
import sys
from collections.abc import Sequence

from vde_vmnet.config.arguments import Parser
from vde_vmnet.errors import ConfigurationError
from vde_vmnet.service.sudoers import GROUP, VAR_RUN, lima_sudoers

__all__ = ["main"]

#: Where Lima looks first.
_USUAL_PLACE = "/opt/socket_vmnet/bin/socket_vmnet"
#: In sudoers other characters have a meaning of their own, and Lima splits its commands at spaces.
_PLAIN = re.compile(r"[\w./+@-]+")


def main(argv: Sequence[str]) -> int:
    """Raises ConfigurationError."""
    parser = Parser(
        prog="vde_vmnet sudoers",
        description="Print the sudoers rules for Lima; install them as root at /etc/sudoers.d/lima.",
    )
    parser.add_argument("--lima", action="store_true", help="for Lima with its default networks")
    parser.add_argument(
        "--socket-vmnet",
        metavar="PATH",
        default=shutil.which("socket_vmnet") or _USUAL_PLACE,
        help="what Lima's paths.socketVMNet says (default: %(default)s); root must own it and all above it",
    )
    parser.add_argument(
        "--group", default=GROUP, help="who may, and who may plug in: Lima's group (default: %(default)s)"
    )
    parser.add_argument(
        "--var-run", metavar="DIR", default=VAR_RUN, help="Lima's paths.varRun (default: %(default)s)"
    )
    options = parser.parse_args(argv)
    if not options.lima:
        raise ConfigurationError("For whom was not said", next_step="Try: vde_vmnet sudoers --lima")
    _check(options)
    sys.stdout.write(lima_sudoers(options.socket_vmnet, group=options.group, var_run=options.var_run))
    return 0


def _check(options: argparse.Namespace) -> None:
    for option, text in (
        ("--socket-vmnet", options.socket_vmnet),
        ("--group", options.group),
        ("--var-run", options.var_run),
    ):
        if not _PLAIN.fullmatch(text):
            raise ConfigurationError(f'{option} "{text}" has characters that sudoers and Lima cannot carry')
    for option, text in (("--socket-vmnet", options.socket_vmnet), ("--var-run", options.var_run)):
        if not text.startswith("/"):
            raise ConfigurationError(f'{option} "{text}" is not an absolute path')
