"""Networks with a client of their control socket, and ways to ask it without anything of ours."""

from __future__ import annotations

import http.client
import json
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vde_vmnet import Network
from vde_vmnet.control.client import Client
from vde_vmnet.control.paths import beside

__all__ = ["Raw", "as_user", "observed_network"]


@contextmanager
def observed_network(*options: str) -> Iterator[tuple[Network, Client]]:
    """A network, isolated unless ``options`` say otherwise, and a client of its control socket."""
    with (
        Network(*(options or ("--backend=none",))) as network,
        Client(beside(network.directory)) as client,
    ):
        yield network, client


class Raw(http.client.HTTPConnection):
    """HTTP on a UNIX socket, without anything of ours."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=20)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(20)
        self.sock.connect(str(self._path))

    def ask(self, method: str, path: str, body: bytes | str | None = None) -> tuple[int, dict[str, Any]]:
        """Status and JSON of one answer; the connection is closed."""
        try:
            self.request(method, path, body)
            response = self.getresponse()
            assert re.match("application/json", response.headers["Content-Type"])
            answer: dict[str, Any] = json.loads(response.read())
            return response.status, answer
        finally:
            self.close()


def as_user(uid: int, gid: int, path: Path, method: str, where: str) -> tuple[int, dict[str, Any]]:
    """What another user is answered; status 0 when it may not even connect. Root only."""
    ours, theirs = socket.socketpair()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(gid)
            os.setuid(uid)
            try:
                told = Raw(path).ask(method, where)
            except PermissionError:
                told = (0, {})
            theirs.sendall(json.dumps(told).encode())
        finally:
            os._exit(0)
    theirs.close()
    with ours, ours.makefile("rb") as answer:
        status, said = json.loads(answer.read())
    os.waitpid(child, 0)
    return status, said
