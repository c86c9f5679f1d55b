"""``vde_vmnet events``: follow what happens on a running network."""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Sequence

import msgspec

from vde_vmnet.cli import observing
from vde_vmnet.control.models import Event
from vde_vmnet.errors import ConfigurationError
from vde_vmnet.observe.tables import clean, clock, moment

__all__ = ["build_parser", "line", "main", "whole_number"]


def build_parser() -> argparse.ArgumentParser:
    """What ``events`` knows."""
    parser = observing.build(
        "events",
        "[OPTION]... [VDESWITCH]",
        "Follow what happens: who plugs in and out and why, leases, trouble, changes. Until Ctrl-C, or"
        " until the network ends.",
    )
    add = parser.add_argument
    add("--json", action="store_true", help="each as one line of JSON")
    add("--since", metavar="N", help="those after event N first, as far as the daemon remembers; 0 is all")
    add("--count", metavar="N", help="end after so many")
    observing.add_network(parser)
    return parser


def main(argv: Sequence[str]) -> int:
    """Raises VdeVmnetError."""
    options = observing.parse(build_parser(), list(argv))
    if options is None:
        return 0
    since, count = whole_number("--since", options.since), whole_number("--count", options.count)
    on_terminal = sys.stdout.isatty()
    with observing.network(options.vdeswitch) as client:
        for event in itertools.islice(client.events(since=since), count):
            text = msgspec.json.encode(event).decode() if options.json else line(event, on_terminal=on_terminal)
            sys.stdout.write(f"{text}\n")
            sys.stdout.flush()
    return 0


def whole_number(option: str, text: str | None) -> int | None:
    """The value of an option that counts. Raises ConfigurationError."""
    if text is None:
        return None
    if not text.isdecimal() or len(text) > 15:
        raise ConfigurationError(f'{option} "{text}" is not a whole number')
    return int(text)


def line(event: Event, *, on_terminal: bool) -> str:
    """For people the time of day, the kind and what happened; in a pipe with tabs, and the port."""
    if on_terminal:
        return f"{clock(event.time)}  {event.kind:10}  {clean(event.message)}"
    port = "-" if event.port is None else str(event.port)
    return "\t".join((moment(event.time), str(event.seq), event.kind, port, clean(event.message)))
