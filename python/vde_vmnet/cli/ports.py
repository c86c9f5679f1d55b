"""``vde_vmnet ports``: what is plugged in."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from vde_vmnet.cli import observing
from vde_vmnet.observe import views

__all__ = ["build_parser", "main"]


def build_parser() -> argparse.ArgumentParser:
    """What ``ports`` knows."""
    parser = observing.build(
        "ports", "[OPTION]... [VDESWITCH]", "Print what is plugged into a running network, with counters."
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
        found = client.ports()
    if options.json:
        observing.write_json(found)
    else:
        observing.show(views.ports(found))
    return 0
