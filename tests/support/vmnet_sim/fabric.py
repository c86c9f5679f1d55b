"""The root process behind the simulated framework: what InternetSharing, bootpd and the kernel are on a Mac.

    python -m tests.support.vmnet_sim.fabric FOLDER

It runs in the test's network namespace, serves FOLDER/fabric.sock, says "ready" on stdout, and ends when its
stdin ends, with everything it made. Requests and answers: `src/fabric_client.h`. A client that dies is
noticed by the end of its connection; its interfaces and networks go.
"""

from __future__ import annotations

import array
import contextlib
import os
import selectors
import socket
import sys
from pathlib import Path

from tests.support.vmnet_sim import forwards, networks
from tests.support.vmnet_sim.interfaces import Interfaces
from tests.support.vmnet_sim.requests import Client, Request
from tests.support.vmnet_sim.subnets import RefusedError
from tests.support.vmnet_sim.world import World

__all__ = ["main"]

_MESSAGE = 65536


class Fabric:
    """Serves clients, one request at a time."""

    def __init__(self, folder: Path) -> None:
        self.world = World(folder)
        self._folder = folder
        self._selector = selectors.DefaultSelector()
        self._clients: list[Client] = []
        self._interfaces = Interfaces(self.world)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(str(folder / "fabric.sock"))
        (folder / "fabric.sock").chmod(0o666)
        self._listener.listen(64)
        os.mkfifo(self.world.events)
        self._events = os.open(self.world.events, os.O_RDWR | os.O_NONBLOCK)
        self._events_rest = ""

    def serve(self) -> None:
        """Until stdin ends."""
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        self._selector.register(self._events, selectors.EVENT_READ, self._lease_events)
        self._selector.register(sys.stdin, selectors.EVENT_READ, None)
        while True:
            for key, _ in self._selector.select():
                if key.data is None:
                    return
                key.data()

    def close(self) -> None:
        """Take everything down."""
        self.world.close()

    def _accept(self) -> None:
        client = Client(self._listener.accept()[0])
        self._clients.append(client)
        self._selector.register(client.connection, selectors.EVENT_READ, lambda: self._serve_client(client))

    def _lease_events(self) -> None:
        *lines, self._events_rest = (self._events_rest + os.read(self._events, 65536).decode()).split("\n")
        for line in lines:
            self.world.lease_event(line)

    def _serve_client(self, client: Client) -> None:
        try:
            message = client.connection.recv(_MESSAGE)
        except ConnectionResetError:
            message = b""
        if not message:
            self._end_client(client)
            return
        verb, *words = message.decode().split(" ")
        request = dict(word.split("=", 1) for word in words)
        tap: int | None = None
        try:
            if verb in ("start", "settle"):
                self._bury_the_dead()
            if verb == "start":
                answer, tap = self._interfaces.start(client, request)
            else:
                answer = self._answer(verb, client, request)
            answer = {"status": "1000", **answer}
        except RefusedError as error:
            answer = {"status": str(error.status)}
            self._log(f"{message.decode()}: {error.status}: {error}")
        except (KeyError, ValueError) as error:
            answer = {"status": "1003"}
            self._log(f"{message.decode()}: {type(error).__name__}: {error}")
        except OSError as error:
            answer = {"status": "1001"}
            self._log(f"{message.decode()}: {error}")
        data = " ".join(f"{key}={value}" for key, value in answer.items()).encode()
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [tap]))] if tap is not None else []
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            client.connection.sendmsg([data], rights)
        if tap is not None:
            os.close(tap)

    def _answer(self, verb: str, client: Client, request: Request) -> Request:
        match verb:
            case "stop":
                return self._interfaces.stop(client, request)
            case "list":
                return self._interfaces.names()
            case "settle":
                return {}
            case "restart_bootpd":
                self.world.restart_bootpd()
                return {}
            case "forward_add" | "forward_remove" | "forward_list":
                return forwards.answer(verb, client, request)
            case "network_create" | "network_join" | "network_release":
                return networks.answer(verb, self.world, client, request)
        raise RefusedError(1003, f"there is no request {verb}")

    def _log(self, line: str) -> None:
        with (self._folder / "fabric.log").open("a") as log:
            log.write(f"{line}\n")

    def _end_client(self, client: Client) -> None:
        self._selector.unregister(client.connection)
        client.connection.close()
        self._clients.remove(client)
        self._interfaces.remove_all(client)
        networks.drop_all(self.world, client)

    def _bury_the_dead(self) -> None:
        """A client that ended before this request was made is gone when it is answered."""
        for client in list(self._clients):
            with contextlib.suppress(BlockingIOError):
                try:
                    alive = client.connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
                except ConnectionResetError:
                    alive = b""
                if not alive:
                    self._end_client(client)


def main() -> None:
    """Serve until stdin ends."""
    fabric = Fabric(Path(sys.argv[1]))
    try:
        print("ready", flush=True)
        fabric.serve()
    finally:
        fabric.close()


if __name__ == "__main__":
    main()
