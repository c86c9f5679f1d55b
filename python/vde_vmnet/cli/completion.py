"""``vde_vmnet completion``: a shell's completion script, and what it asks for while it completes."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace

from vde_vmnet.cli.grammar import Command, describe
from vde_vmnet.cli.shells import SHELLS
from vde_vmnet.cli.verbs import VERBS
from vde_vmnet.config import arguments
from vde_vmnet.config.arguments import GnuHelp, Parser
from vde_vmnet.control import paths
from vde_vmnet.errors import ConfigurationError, VdeVmnetError

__all__ = ["build_parser", "commands", "main"]

_EPILOG = """\
For this session, and for all to come:
  bash   source <(vde_vmnet completion bash)
         vde_vmnet completion bash > ~/.local/share/bash-completion/completions/vde_vmnet
  zsh    source <(vde_vmnet completion zsh)
         vde_vmnet completion zsh > a folder of $fpath, as _vde_vmnet
  fish   vde_vmnet completion fish | source
         vde_vmnet completion fish > ~/.config/fish/completions/vde_vmnet.fish
"""


def build_parser() -> argparse.ArgumentParser:
    """What ``completion`` knows."""
    parser = Parser(
        prog="vde_vmnet completion",
        usage=f"vde_vmnet completion ({'|'.join(SHELLS)})",
        description="Print the script that has a shell complete commands, options, and running networks.",
        epilog=_EPILOG,
        formatter_class=GnuHelp,
        add_help=False,
    )
    add = parser.add_argument
    add("shell", metavar=f"({'|'.join(SHELLS)})", nargs="?", help="whose script to print")
    add("--networks", action="store_true", help=argparse.SUPPRESS)
    add("--ports", action="store_true", help=argparse.SUPPRESS)
    add("-h", "--help", action="store_true", help="display this help and exit")
    return parser


def main(argv: Sequence[str]) -> int:
    """Raises ConfigurationError."""
    parser = build_parser()
    options = parser.parse_args(argv)
    if options.help:
        parser.print_help()
    elif options.networks:
        sys.stdout.write("".join(f"{str(one).removesuffix(paths.SUFFIX)}\n" for one in paths.find()))
    elif options.ports:
        sys.stdout.write("".join(f"{one}\n" for one in _ports()))
    elif options.shell not in SHELLS:
        raise ConfigurationError(
            "There is no such shell" if options.shell else "Which shell?",
            next_step=f"Known are {', '.join(SHELLS)}",
        )
    else:
        sys.stdout.write(SHELLS[options.shell](commands()))
    return 0


def commands() -> list[Command]:
    """The program itself, and all of its commands."""
    own = describe("", "a real network for rootless virtual machines", arguments.build_parser())
    found = [own, *(describe(verb.name, verb.says, verb.build_parser()) for verb in VERBS.values())]
    return [_with_daemon_s(one, own) if one.name == "run" else one for one in found]


def _with_daemon_s(run: Command, daemon: Command) -> Command:
    """``run`` takes the daemon's options too, for a private network."""
    known = {option.long for option in run.options} | {"--pidfile", "--vde-switch", "--fd", "--version"}
    return replace(run, options=(*run.options, *(one for one in daemon.options if one.long not in known)))


def _ports() -> list[str]:
    from vde_vmnet.control.client import connect

    try:
        with connect(timeout=1.0) as client:
            return [str(port.number) for port in client.ports()]
    except VdeVmnetError:
        return []  # a completion that finds nothing says nothing
