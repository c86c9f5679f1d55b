"""Tell systemd, when it started us, that the network is ready: sd_notify(3), used by ``Type=notify``."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import MutableMapping

__all__ = ["announce_ready"]

_log = logging.getLogger(__name__)


def announce_ready(environment: MutableMapping[str, str]) -> None:
    """One datagram to the socket that ``NOTIFY_SOCKET`` in ``environment`` names, if any; said once only."""
    address = environment.pop("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    # "@" stands for the NUL byte in front of a name that is no file.
    name = "\0" + address[1:] if address.startswith("@") else address
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notifier:
        notifier.setblocking(False)
        try:
            notifier.sendto(b"READY=1", name)
        except OSError as error:
            _log.warning(
                'Cannot tell "%s" that the network is ready: %s', address, os.strerror(error.errno or 0)
            )
