"""The other end of the control socket, for commands and programs: blocking, over ``http.client``.

    with Client(path) as network:
        for port in network.ports():
            print(port.number, port.name)
        for event in network.events():
            print(event.message)

What the daemon refuses is raised as the class of ``errors.py`` that fits, with the daemon's words. One request
at a time; a stream is a connection of its own, so that others can be made meanwhile.
"""

from __future__ import annotations

import http.client
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar
from urllib.parse import quote, urlencode

import msgspec

from vde_vmnet.control import models, paths
from vde_vmnet.control.models import PREFIX
from vde_vmnet.errors import (
    ConfigurationError,
    ConflictError,
    InternalError,
    PrivilegeError,
    UnavailableError,
    VdeVmnetError,
)

__all__ = ["CaptureStream", "Client", "connect"]

_Reply = TypeVar("_Reply")

_ERRORS: dict[str, type[VdeVmnetError]] = {
    "invalid_request": ConfigurationError,
    "not_found": ConfigurationError,
    "method_not_allowed": InternalError,
    "too_large": ConfigurationError,
    "forbidden": PrivilegeError,
    "conflict": ConflictError,
    "unavailable": UnavailableError,
    "busy": UnavailableError,
    "internal": InternalError,
}
#: Longest line of an event stream; a longer one is not ours.
_MAX_LINE = 1 << 20
#: Of a capture, read at once.
_PIECE = 1 << 18


def connect(given: str | os.PathLike[str] | None = None, *, timeout: float = 10.0) -> Client:
    """The network that ``given`` names: its VDESWITCH, its other first socket, or its control socket.

    Without it the only one that runs. Raises UnavailableError (none, or no such), ConfigurationError (several).
    """
    if given is not None:
        path = Path(os.path.realpath(given))
        beside = paths.beside(path)
        for one in (path, beside):
            if one.is_socket() and (one == beside or one.name.endswith(paths.SUFFIX)):
                return Client(one, timeout=timeout)
        for one in paths.find():
            if one == path or (one.name.startswith(f"{path.name}.") and one.parent == path.parent):
                return Client(one, timeout=timeout)
        if path.is_socket():
            return Client(path, timeout=timeout)
        raise UnavailableError(
            f'No network with a control socket runs at "{path}"',
            next_step="Name its VDESWITCH or the path of its --control",
        )
    running = list(paths.find())
    if not running:
        raise UnavailableError(
            "No network runs that this user could find",
            next_step="Start one, or name its VDESWITCH or the path of its --control",
        )
    if len(running) > 1:
        names = ", ".join(str(one).removesuffix(paths.SUFFIX) for one in running)
        raise ConfigurationError(f"Several networks run: {names}", next_step="Name one of them")
    return Client(running[0], timeout=timeout)


class _Connection(http.client.HTTPConnection):
    """HTTP over a UNIX socket."""

    def __init__(self, path: Path, timeout: float | None) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(os.fspath(self._path))
        #: The same: ``sock`` is let go of when the answer ends with the connection; this stays.
        self.stream = self.sock


class CaptureStream:
    """The pieces of a pcapng file, as they come."""

    def __init__(self, connection: _Connection, response: http.client.HTTPResponse) -> None:
        self._connection = connection
        self._response = response

    def __iter__(self) -> Iterator[bytes]:
        return iter(lambda: self._response.read1(_PIECE), b"")

    def end(self) -> None:
        """Ask for the end: what was recorded still comes, and what each interface has seen. Never waits."""
        with suppress(OSError):  # the other end may have ended it by itself
            self._connection.stream.shutdown(socket.SHUT_WR)


class Client:
    """One network, through its control socket. Connects with the first request."""

    def __init__(self, path: Path, *, timeout: float = 10.0) -> None:
        """``timeout`` in seconds is for each reply; what is streamed may be silent for ever."""
        self.path = path
        self._timeout = timeout
        self._connection = _Connection(path, timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Also done at the end of a ``with`` block."""
        self._connection.close()

    # -- watching -------------------------------------------------------------------------------------

    def network(self) -> models.NetworkInfo:
        """What runs there."""
        return self._get("/network", models.NetworkInfo)

    def ports(self) -> list[models.Port]:
        """Every port with something on it, by number."""
        return self._get("/ports", models.Ports).ports

    def port(self, number: int) -> models.Port:
        """One port. Raises ConfigurationError when nothing is plugged in there."""
        return self._get(f"/ports/{number}", models.Port)

    def fdb(self) -> list[models.FdbEntry]:
        """The stations that the switch has learned."""
        return self._get("/fdb", models.Fdb).entries

    def leases(self) -> list[models.Lease]:
        """The addresses that guests have."""
        return self._get("/leases", models.Leases).leases

    def counters(self) -> models.CountersReply:
        """All counters at one moment."""
        return self._get("/counters", models.CountersReply)

    def metrics(self) -> str:
        """The same in Prometheus' text format."""
        return self._request("GET", "/metrics").decode()

    def openapi(self) -> dict[str, object]:
        """The OpenAPI document of the protocol."""
        return self._get("/openapi.json", dict[str, object])

    def events(self, *, since: int | None = None) -> Iterator[models.Event]:
        """What happens from now on, or from after event ``since``, as far as it is remembered.

        Closing the generator ends the stream.
        """
        yield from self._stream("/events", {"since": since}, models.Event)

    def logs(self, *, lines: int | None = None) -> list[models.LogLine]:
        """The last lines of the log that are remembered."""
        query = "" if lines is None else f"?lines={lines}"
        return self._get(f"/logs{query}", models.LogLines).lines

    def follow_logs(self, *, since: int | None = None) -> Iterator[models.LogLine]:
        """The log from now on, or from after line ``since``, as it is written."""
        yield from self._stream("/logs/follow", {"since": since}, models.LogLine)

    def log_level(self) -> models.Level:
        """What is logged at least."""
        return self._get("/log", models.LogLevel).level

    # -- changing: root's, the service user's, and that of who started the daemon ----------------------

    def set_log_level(self, level: models.Level) -> models.Level:
        """Raises PrivilegeError, as everything below does."""
        return self._change("PUT", "/log", models.LogLevel(level=level), models.LogLevel).level

    def port_down(self, number: int) -> str:
        """Forward nothing from or to a port until ``port_up``. What was done, as one line."""
        return self._change("POST", f"/ports/{number}/down", None, models.Done).done

    def port_up(self, number: int) -> str:
        """Undo ``port_down``."""
        return self._change("POST", f"/ports/{number}/up", None, models.Done).done

    def kick(self, number: int) -> str:
        """Unplug whoever is plugged in there; they may come back."""
        return self._change("POST", f"/ports/{number}/kick", None, models.Done).done

    def reservations(self) -> list[models.Reservation]:
        """The addresses that are kept."""
        return self._get("/reservations", models.Reservations).reservations

    def add_reservation(self, mac: str, address: str, name: str | None = None) -> str:
        """Keep an address for a MAC address, from its next lease on."""
        wanted = models.Reservation(mac=mac, address=address, name=name)
        return self._change("POST", "/reservations", wanted, models.Done).done

    def remove_reservation(self, mac: str) -> str:
        """Keep it no longer. Only one that was added while the network ran."""
        return self._change("DELETE", f"/reservations/{quote(mac)}", None, models.Done).done

    def forwards(self) -> list[models.Forward]:
        """The host's ports that lead to guests."""
        return self._get("/forwards", models.Forwards).forwards

    def add_forward(self, forward: models.Forward) -> str:
        """Open a way in."""
        return self._change("POST", "/forwards", forward, models.Done).done

    def remove_forward(self, forward: models.Forward) -> str:
        """Close it. Only one that was added while the network ran."""
        return self._change("DELETE", "/forwards", forward, models.Done).done

    def reload(self) -> list[str]:
        """Have read again what can be; what changed, a line each."""
        return self._change("POST", "/reload", None, models.Reloaded).changed

    def shutdown(self) -> str:
        """Take the network down."""
        return self._change("POST", "/shutdown", None, models.Done).done

    def captures(self) -> list[models.Capture]:
        """The captures that go on."""
        return self._get("/capture", models.Captures).captures

    def end_capture(self, number: int) -> str:
        """End one, whoever began it."""
        return self._change("DELETE", f"/capture/{number}", None, models.Done).done

    @contextmanager
    def capture(self, request: models.CaptureRequest | None = None) -> Iterator[CaptureStream]:
        """``with client.capture() as pieces``: a pcapng file, piece by piece; it ends with the block."""
        wanted = request or models.CaptureRequest()
        connection, response = self._open("POST", f"{PREFIX}/capture", msgspec.json.encode(wanted))
        try:
            yield CaptureStream(connection, response)
        finally:
            response.close()
            connection.close()

    # -- below ----------------------------------------------------------------------------------------

    def _get(self, path: str, kind: type[_Reply]) -> _Reply:
        return self._decoded(self._request("GET", f"{PREFIX}{path}"), kind)

    def _change(self, method: str, path: str, body: object, kind: type[_Reply]) -> _Reply:
        sent = None if body is None else msgspec.json.encode(body)
        return self._decoded(self._request(method, f"{PREFIX}{path}", sent), kind)

    def _decoded(self, data: bytes, kind: type[_Reply]) -> _Reply:
        try:
            return msgspec.json.decode(data, type=kind)
        except msgspec.DecodeError as error:
            raise self._strange(error) from error

    def _request(self, method: str, path: str, body: bytes | None = None) -> bytes:
        try:
            with self._translated():
                return self._exchange(self._connection, method, path, body)
        except VdeVmnetError:
            self._connection.close()
            raise

    def _exchange(self, connection: _Connection, method: str, path: str, body: bytes | None) -> bytes:
        fresh = connection.sock is None
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
            response = connection.getresponse()
        except (ConnectionError, http.client.BadStatusLine):
            connection.close()
            # A connection that was idle may have been closed meanwhile; nothing was done then.
            if fresh:
                raise
            return self._exchange(connection, method, path, body)
        data = response.read()
        if response.status >= 400:
            raise self._refused(response.status, data)
        return data

    def _open(
        self, method: str, path: str, body: bytes | None = None
    ) -> tuple[_Connection, http.client.HTTPResponse]:
        connection = _Connection(self.path, self._timeout)
        try:
            with self._translated():
                connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
                response = connection.getresponse()
                if response.status >= 400:
                    raise self._refused(response.status, response.read())
            connection.stream.settimeout(None)
        except BaseException:
            connection.close()
            raise
        return connection, response

    def _stream(self, path: str, query: dict[str, int | None], kind: type[_Reply]) -> Iterator[_Reply]:
        given = urlencode({key: value for key, value in query.items() if value is not None})
        connection, response = self._open("GET", f"{PREFIX}{path}{'?' if given else ''}{given}")
        try:
            while True:
                with self._translated():
                    line = response.readline(_MAX_LINE)
                if not line:
                    return
                if line.startswith(b"data:"):
                    yield self._decoded(line.removeprefix(b"data:").strip(), kind)
        finally:
            connection.close()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (FileNotFoundError, ConnectionRefusedError):
            raise UnavailableError(
                f'No network answers at "{self.path}"', next_step="See whether its daemon runs"
            ) from None
        except PermissionError:
            raise PrivilegeError(
                f'This user may not use the control socket "{self.path}"',
                next_step="Join its group (see ls -l), or use sudo",
            ) from None
        except TimeoutError:
            raise UnavailableError(f'The network at "{self.path}" does not answer') from None
        except (http.client.HTTPException, OSError) as error:
            raise UnavailableError(
                f'The network at "{self.path}" broke the connection off: {error or type(error).__name__}'
            ) from error

    def _refused(self, status: int, data: bytes) -> VdeVmnetError:
        try:
            said = msgspec.json.decode(data, type=models.ErrorReply)
        except msgspec.DecodeError as error:
            return self._strange(f"status {status}, {error}")
        return _ERRORS[said.code](said.message, next_step=said.next_step)

    def _strange(self, what: object) -> VdeVmnetError:
        return UnavailableError(
            f'What answers at "{self.path}" does not speak control protocol {models.API}: {what}',
            next_step="Use the vde_vmnet command that belongs to its daemon",
        )
