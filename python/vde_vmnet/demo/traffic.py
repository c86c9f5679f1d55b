"""Small servers and clients in a network namespace: HTTP, and TCP at full speed for a moment.

A socket belongs to the namespace in which it was made, so all of this runs in the demo's own process.
"""

from __future__ import annotations

import http.client
import http.server
import socket
import socketserver
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from types import TracebackType
from typing import Any, Self

from vde_vmnet.demo.netns import entered

__all__ = ["HttpServer", "Throughput", "ThroughputServer", "fetch"]

_CHUNK = 1 << 20
# A guest that never connects must not hold the server's thread for ever.
_ACCEPT_SECONDS = 15.0


class HttpServer:
    """Answers every GET with ``body`` and remembers who asked. A context manager."""

    def __init__(self, namespace: str, address: str, port: int, body: bytes) -> None:
        """``namespace`` as in `entered`. Raises OSError when the address cannot be had."""
        clients: list[str] = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                clients.append(self.client_address[0])
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                """Said in the table instead."""

        class Server(http.server.ThreadingHTTPServer):
            address_family = socket.AF_INET6 if ip_address(address).version == 6 else socket.AF_INET

            def server_bind(self) -> None:
                # The inherited one looks its own name up in the DNS, which is another namespace's business.
                socketserver.TCPServer.server_bind(self)
                self.server_name, self.server_port = address, port

        #: Addresses as the server saw them, oldest first.
        self.clients = clients
        with entered(namespace):
            self._server = Server((address, port), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def fetch(namespace: str, address: str, port: int, *, path: str = "/", seconds: float = 10.0) -> bytes:
    """GET from inside the namespace. Raises OSError when nobody answers in time."""
    with entered(namespace):
        connection = socket.create_connection((address, port), seconds)
    client = http.client.HTTPConnection(address, port)
    client.sock = connection
    try:
        client.request("GET", path)
        return client.getresponse().read()
    except http.client.HTTPException as error:
        raise ConnectionError(f"{address} did not answer as an HTTP server does: {error!r}") from error
    finally:
        client.close()


@dataclass(frozen=True)
class Throughput:
    """What went through a TCP connection."""

    octets: int
    seconds: float

    def __str__(self) -> str:
        megabytes = self.octets / self.seconds / 1e6
        return f"{megabytes:.0f} MB/s ({megabytes * 8 / 1000:.2f} Gbit/s) for {self.seconds:.1f} s"


class ThroughputServer:
    """Takes one connection and receives (or sends) as fast as it goes, for ``seconds``. A context manager."""

    def __init__(self, namespace: str, address: str, *, seconds: float, sending: bool) -> None:
        """Listens when it returns, on `port`. Raises OSError when the address cannot be had."""
        self._seconds = seconds
        self._sending = sending
        self._octets = 0
        self._took = 0.0
        with entered(namespace):
            self._listener = socket.create_server((address, 0))
        self._listener.settimeout(_ACCEPT_SECONDS)
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def result(self) -> Throughput | None:
        """Waits for the end; None when nobody connected or nothing came."""
        self._thread.join()
        return Throughput(self._octets, self._took) if self._octets else None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:  # nobody came, or the server was closed
            return
        with connection:
            connection.settimeout(_ACCEPT_SECONDS)
            started = time.monotonic()
            with suppress(OSError):  # the guest went; what had arrived by then counts
                (self._send if self._sending else self._receive)(connection, started + self._seconds)
            self._took = time.monotonic() - started

    def _receive(self, connection: socket.socket, end: float) -> None:
        buffer = bytearray(_CHUNK)
        while time.monotonic() < end:
            count = connection.recv_into(buffer)
            if count == 0:
                return
            self._octets += count

    def _send(self, connection: socket.socket, end: float) -> None:
        data = memoryview(bytes(_CHUNK))
        while time.monotonic() < end:
            self._octets += connection.send(data)
        # What is still on its way counts only once the guest has taken it, which its end of file says.
        connection.shutdown(socket.SHUT_WR)
        connection.recv(1)
