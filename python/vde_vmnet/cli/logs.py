"""``vde_vmnet logs``: the log of a running network."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import msgspec

from vde_vmnet.cli import observing
from vde_vmnet.cli.events import whole_number
from vde_vmnet.control.models import LogLine
from vde_vmnet.observe.tables import clean, clock, moment

__all__ = ["build_parser", "line", "main"]


def build_parser() -> argparse.ArgumentParser:
    """What ``logs`` knows."""
    parser = observing.build(
        "logs",
        "[OPTION]... [VDESWITCH]",
        "Print the lines of its log that the daemon remembers. All of it is on the daemon's standard error.",
    )
    add = parser.add_argument
    add("-n", "--lines", metavar="N", help="the last N only")
    add("-f", "--follow", action="store_true", help="and what is written from then on, until Ctrl-C")
    add("--json", action="store_true", help="each as one line of JSON")
    observing.add_network(parser)
    return parser


def main(argv: Sequence[str]) -> int:
    """Raises VdeVmnetError."""
    options = observing.parse(build_parser(), list(argv))
    if options is None:
        return 0
    lines = whole_number("--lines", options.lines)
    with observing.network(options.vdeswitch) as client:
        last = 0
        for one in client.logs(lines=lines):
            _write(one, json=options.json)
            last = one.seq
        sys.stdout.flush()
        if options.follow:
            for one in client.follow_logs(since=last):
                _write(one, json=options.json)
                sys.stdout.flush()
    return 0


def _write(one: LogLine, *, json: bool) -> None:
    text = msgspec.json.encode(one).decode() if json else line(one, on_terminal=sys.stdout.isatty())
    sys.stdout.write(f"{text}\n")


def line(one: LogLine, *, on_terminal: bool) -> str:
    """For people as the daemon writes it; in a pipe with tabs."""
    if on_terminal:
        return f"{clock(one.time)} {one.level.upper():7} | {clean(one.message)}"
    return "\t".join((moment(one.time), str(one.seq), one.level, clean(one.message)))
