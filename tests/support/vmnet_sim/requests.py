"""What a request is, and who makes it."""

from __future__ import annotations

import itertools
import socket
from dataclasses import dataclass, field

from tests.support.vmnet_sim.world import Network

__all__ = ["Client", "Request"]

Request = dict[str, str]
_numbers = itertools.count(1)


@dataclass
class Client:
    """One process that uses the framework."""

    connection: socket.socket
    number: int = field(default_factory=lambda: next(_numbers))
    #: Interface number to its network.
    interfaces: dict[int, Network] = field(default_factory=dict)
