"""``vde_vmnet status``: a running network on one screen."""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Sequence
from typing import Any

from vde_vmnet.cli import observing
from vde_vmnet.control.client import Client
from vde_vmnet.control.models import CountersReply
from vde_vmnet.observe import snapshot, views

__all__ = ["build_parser", "main"]

#: Chosen: long enough for a rate, short enough to wait for.
_SAMPLE_SECONDS = 0.5
_CLEAR = "\x1b[H\x1b[2J"


def build_parser() -> argparse.ArgumentParser:
    """What ``status`` knows."""
    parser = observing.build(
        "status",
        "[OPTION]... [VDESWITCH]",
        "Show a running network: what it is, what is plugged in, who is behind it, and how much moves. Rates"
        " are measured for half a second.",
    )
    add = parser.add_argument
    add("--json", action="store_true", help="as one line of JSON: network, ports, counters, rates")
    add("--watch", action="store_true", help="again and again, until Ctrl-C")
    add("--interval", metavar="SECONDS", default="2", help="how often with --watch (default: %(default)s)")
    observing.add_network(parser)
    return parser


def main(argv: Sequence[str]) -> int:
    """Raises VdeVmnetError."""
    options = observing.parse(build_parser(), list(argv))
    if options is None:
        return 0
    interval = observing.positive("--interval", options.interval) if options.watch else _SAMPLE_SECONDS
    with observing.network(options.vdeswitch) as client:
        before = client.counters()
        for number in itertools.count():
            # The first look is soon there.
            observing.pause(interval if number else min(interval, _SAMPLE_SECONDS))
            before = _once(client, before, json=options.json, again=number > 0)
            if not options.watch:
                return 0
    return 0


def _once(client: Client, before: CountersReply, *, json: bool, again: bool) -> CountersReply:
    network, ports, after = client.network(), client.ports(), client.counters()
    measured = snapshot.rates(before, after)
    total = snapshot.total_rate(before, after)
    if json:
        plain: dict[str, Any] = {
            "network": network,
            "ports": ports,
            "counters": after,
            "rates": {str(port): _plain(one) for port, one in measured.items()},
            "total_rate": _plain(total),
        }
        observing.write_json(plain)
    else:
        if sys.stdout.isatty() and again:
            sys.stdout.write(_CLEAR)
        elif again:
            sys.stdout.write("\n")
        pairs = views.facts(network, total, after.total)
        between = " " if sys.stdout.isatty() else "\t"
        width = max(len(key) for key, _ in pairs) + 1 if between == " " else 0
        sys.stdout.write("".join(f"{key.ljust(width)}{between}{value}\n" for key, value in pairs) + "\n")
        observing.show(views.status_ports(ports, measured))
    sys.stdout.flush()
    return after


def _plain(one: snapshot.Rate) -> dict[str, float]:
    return {
        "rx_frames": one.rx_frames,
        "rx_bytes": one.rx_bytes,
        "tx_frames": one.tx_frames,
        "tx_bytes": one.tx_bytes,
        "drops": one.drops,
    }
