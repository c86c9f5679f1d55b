"""What the commands about a running network share: finding it, showing tables, waiting.

On a terminal tables are rich's; in a pipe they are lines with tabs between the cells, which stay as they are.
"""

from __future__ import annotations

import argparse
import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, TextIO

import msgspec

from vde_vmnet.config.arguments import GnuHelp, Parser
from vde_vmnet.control.client import Client, connect
from vde_vmnet.doctor import looking, reach
from vde_vmnet.errors import ConfigurationError, PrivilegeError
from vde_vmnet.observe.tables import Table, clean, fitted, tsv

__all__ = ["add_network", "build", "network", "parse", "pause", "positive", "show", "write_json"]

_EPILOG = """\
VDESWITCH is that of a running network, or the path of its control socket (default: the only one that runs).
Exit status: 0; 1 wrong usage, or several networks run; 3 no such network, or no answer; 4 not permitted.
"""


def build(name: str, usage: str, description: str, *, epilog: str = _EPILOG) -> argparse.ArgumentParser:
    """A parser with ``--help`` and nothing else; ``usage`` is what comes after the name."""
    parser = Parser(
        prog=f"vde_vmnet {name}",
        usage=f"vde_vmnet {name} {usage}",
        description=description,
        epilog=epilog,
        formatter_class=GnuHelp,
        add_help=False,
    )
    parser.add_argument("-h", "--help", action="store_true", help="display this help and exit")
    return parser


def add_network(parser: argparse.ArgumentParser) -> None:
    """The last argument of every command: which network."""
    parser.add_argument("vdeswitch", metavar="VDESWITCH", nargs="?", help=argparse.SUPPRESS)


def parse(parser: argparse.ArgumentParser, argv: list[str]) -> argparse.Namespace | None:
    """The options; None when help was asked for and given. Raises ConfigurationError."""
    if {"-h", "--help"} & set(argv):
        parser.print_help()
        return None
    return parser.parse_args(argv)


@contextmanager
def network(vdeswitch: str | None) -> Iterator[Client]:
    """The network that was named, or the only one. Raises VdeVmnetError.

    A user who may not use its socket is told which group may.
    """
    with connect(vdeswitch) as client:
        try:
            yield client
        except PrivilegeError as error:
            who = looking.person({})
            places = looking.places(client.path, who)
            why = reach.judge(who, places, looking.group_names(places))
            if why.blame is not PrivilegeError:
                raise  # the socket can be used: the daemon refused what was asked
            raise PrivilegeError(why.said[:1].upper() + why.said[1:], next_step=why.next_step) from error


def positive(option: str, text: str, *, most: float = 3600, named: str = "3600") -> float:
    """A number of seconds, at most ``most``, which is ``named`` so. Raises ConfigurationError."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.1 <= value <= most:
        raise ConfigurationError(f'{option} "{text}" is not a number of seconds from 0.1 to {named}')
    return value


def pause(seconds: float) -> None:
    """Nothing to wait for but the time."""
    select.select([], [], [], seconds)


def write_json(value: object) -> None:
    """As one line on standard output."""
    sys.stdout.write(f"{msgspec.json.encode(value).decode()}\n")


def show(table: Table, stream: TextIO | None = None) -> None:
    """Write a table to standard output, as fits what that is."""
    out = stream or sys.stdout
    if not out.isatty():
        out.write(tsv(table))
        return
    if not table.rows:
        out.write(f"{table.empty}\n")
        return
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    console = Console(file=out, no_color="NO_COLOR" in os.environ, highlight=False)
    table = fitted(table, console.width)
    shown = RichTable(box=SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for column in table.columns:
        justify: Literal["left", "right"] = "right" if column.right else "left"
        shown.add_column(column.name, justify=justify, overflow="fold", no_wrap=not column.wrap)
    for row in table.rows:
        # Text, since a guest's name may look like rich's markup.
        shown.add_row(*(Text(clean(cell) or "-") for cell in row))
    console.print(shown)
