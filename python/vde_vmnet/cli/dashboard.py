"""``vde_vmnet dashboard``: serve the page on loopback until it is told to stop."""

from __future__ import annotations

import argparse
import socket
import sys
import webbrowser
from collections.abc import Sequence

from vde_vmnet.cli import observing
from vde_vmnet.errors import ConfigurationError, ConflictError

__all__ = ["build_parser", "main"]


def build_parser() -> argparse.ArgumentParser:
    """What ``dashboard`` knows."""
    parser = observing.build(
        "dashboard",
        "[OPTION]... [VDESWITCH]",
        "Show a running network in the browser: its ports as a picture, rates, drops, leases, stations and log;"
        " start and stop captures. Serves one page on 127.0.0.1, as the calling user and with that user's"
        " rights, to the browser that opens the printed address first. Ctrl-C ends it.",
    )
    parser.add_argument("--port", metavar="N", default="0", help="TCP port on 127.0.0.1 (default: a free one)")
    parser.add_argument("--open", action="store_true", help="open the page in the default browser")
    observing.add_network(parser)
    return parser


def main(argv: Sequence[str]) -> int:
    """Raises UnavailableError (no network), ConfigurationError, PrivilegeError, ConflictError (port taken)."""
    options = observing.parse(build_parser(), list(argv))
    if options is None:
        return 0
    number = _port(options.port)
    with observing.network(options.vdeswitch) as client:
        client.network()  # what is wrong with it is said here, and not in the browser
        from vde_vmnet.dashboard import serve

        def ready(address: str) -> None:
            sys.stdout.write(f"Open {address} (good for one browser; Ctrl-C ends the dashboard)\n")
            sys.stdout.flush()
            if options.open:
                webbrowser.open(address)

        serve(client, _listen(number), ready)
    return 0


def _port(text: str) -> int:
    if not text.isdecimal() or int(text[:6]) > 65535:
        raise ConfigurationError(f'--port "{text}" is not a TCP port', next_step="Choose one from 1 to 65535")
    return int(text)


def _listen(number: int) -> socket.socket:
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(("127.0.0.1", number))
    except OSError as error:
        listening.close()
        raise ConflictError(
            f"--port: 127.0.0.1:{number} cannot be used: {error.strerror}", next_step="Choose another --port"
        ) from None
    listening.listen(64)
    return listening
