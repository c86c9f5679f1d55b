"""``vde_vmnet fdb``: the stations that the switch has learned."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from vde_vmnet.cli import observing
from vde_vmnet.observe import views

__all__ = ["build_parser", "main"]


def build_parser() -> argparse.ArgumentParser:
    """What ``fdb`` knows."""
    parser = observing.build(
        "fdb",
        "[OPTION]... [VDESWITCH]",
        "Print the stations that the switch has learned: MAC address, port, seconds since it was heard.",
    )
    parser.add_argument("--json", action="store_true", help="as one line of JSON")
    observing.add_network(parser)
    return parser


def main(argv: Sequence[str]) -> int:
    """Raises VdeVmnetError."""
    options = observing.parse(build_parser(), list(argv))
    if options is None:
        return 0
    with observing.network(options.vdeswitch) as client:
        found = client.fdb()
    if options.json:
        observing.write_json(found)
    else:
        observing.show(views.fdb(found))
    return 0
