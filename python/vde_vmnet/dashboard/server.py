"""The dashboard's web server: three files, what the page shows as JSON, and the few things it can do."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route

from vde_vmnet.control import models
from vde_vmnet.control.client import Client
from vde_vmnet.dashboard.access import HEADERS, Access
from vde_vmnet.dashboard.recorder import Recorder, Recording, Wanted
from vde_vmnet.errors import ConfigurationError, ConflictError, PrivilegeError, VdeVmnetError

__all__ = ["Snapshot", "application"]

_STATIC = Path(__file__).parent / "static"
_TYPES = {"app.js": "text/javascript", "picture.js": "text/javascript", "style.css": "text/css"}
#: Lines of the log that the page shows.
_LOG_LINES = 200
#: Longest body of a request; the longest that is meant has a filter of 4096 characters.
_MAX_BODY = 16 << 10

_STATUSES = ((ConfigurationError, 400), (PrivilegeError, 403), (ConflictError, 409))

_Handler = Callable[[Request], Awaitable[Response]]


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """What the page shows. What changes rarely is only there when it was asked for."""

    time: float
    total: models.Counters
    ports: list[models.Port]
    recording: Recording | None
    network: models.NetworkInfo | None = None
    fdb: list[models.FdbEntry] | None = None
    leases: list[models.Lease] | None = None
    log: list[models.LogLine] | None = None


class _Observer:
    """The control socket, for one request at a time; each runs in a thread that may wait."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._lock = threading.Lock()

    def snapshot(self, recorder: Recorder, *, everything: bool) -> Snapshot:
        with self._lock:
            client = self._client
            counters = client.counters()
            return Snapshot(
                time=counters.time,
                total=counters.total,
                ports=client.ports(),
                recording=recorder.state(),
                network=client.network() if everything else None,
                fdb=client.fdb() if everything else None,
                leases=client.leases() if everything else None,
                log=client.logs(lines=_LOG_LINES) if everything else None,
            )

    def change(self, number: int, what: str) -> models.Done:
        actions = {"up": self._client.port_up, "down": self._client.port_down, "kick": self._client.kick}
        with self._lock:
            return models.Done(done=actions[what](number))


def application(client: Client, access: Access, recorder: Recorder) -> Starlette:
    """The ASGI application."""
    observer = _Observer(client)

    async def page(request: Request) -> Response:
        let_in = access.redeem(request.query_params.get("token", ""))
        if not let_in and not access.knows_session(request.cookies.get(access.cookie, "")):
            return _refusal(403, "This address has been used, or is not complete. Start the dashboard again.")
        response = FileResponse(_STATIC / "index.html", media_type="text/html", headers=HEADERS)
        if let_in:
            response.set_cookie(access.cookie, access.session, httponly=True, samesite="strict")
        return response

    async def static(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in _TYPES:
            return _refusal(404, "There is no such file.")
        return FileResponse(_STATIC / name, media_type=_TYPES[name], headers=HEADERS)

    async def data(request: Request) -> Response:
        everything = request.query_params.get("everything") == "1"
        return _json(await run_in_threadpool(observer.snapshot, recorder, everything=everything))

    async def port(request: Request) -> Response:
        number, action = request.path_params["number"], request.path_params["action"]
        if action not in ("up", "down", "kick"):
            return _refusal(404, "There is no such action.")
        return _json(await run_in_threadpool(observer.change, number, action))

    async def start(request: Request) -> Response:
        body = await _body(request)
        try:
            wanted = msgspec.json.decode(body, type=Wanted)
        except msgspec.DecodeError as error:
            raise ConfigurationError(f"This is not a request for a capture: {error}") from None
        return _json(await run_in_threadpool(recorder.start, wanted))

    async def stop(_request: Request) -> Response:
        return _json(await run_in_threadpool(recorder.stop))

    async def download(_request: Request) -> Response:
        file = recorder.finished()
        if file is None:
            return _refusal(404, "There is no finished capture.")
        return FileResponse(file, media_type="application/octet-stream", filename=file.name, headers=HEADERS)

    def guarded(handler: _Handler, *, changes: bool = False) -> _Handler:
        async def guard(request: Request) -> Response:
            if not access.is_our_host(request.headers.get("host", "")):
                return _refusal(403, "Open the dashboard at the address that it printed.")
            if handler is not page and not access.knows_session(request.cookies.get(access.cookie, "")):
                return _refusal(403, "This browser has not been let in. Start the dashboard again.")
            if changes and not access.is_our_origin(request.headers.get("origin", "")):
                return _refusal(403, "Changes are taken from the dashboard's own page only.")
            return await _translated(handler, request)

        return guard

    return Starlette(
        routes=[
            Route("/", guarded(page)),
            Route("/static/{name}", guarded(static)),
            Route("/data", guarded(data)),
            Route("/ports/{number:int}/{action}", guarded(port, changes=True), methods=["POST"]),
            Route("/capture/start", guarded(start, changes=True), methods=["POST"]),
            Route("/capture/stop", guarded(stop, changes=True), methods=["POST"]),
            Route("/capture/file", guarded(download)),
        ]
    )


async def _translated(handler: _Handler, request: Request) -> Response:
    try:
        return await handler(request)
    except VdeVmnetError as error:
        status = next((code for kind, code in _STATUSES if isinstance(error, kind)), 503)
        said = {"message": error.message, "next_step": error.next_step}
        return Response(msgspec.json.encode(said), status, HEADERS, "application/json")


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > _MAX_BODY:
            raise ConfigurationError(f"A request has {_MAX_BODY} bytes at most")
    return bytes(body)


def _json(value: object) -> Response:
    return Response(msgspec.json.encode(value), 200, HEADERS, "application/json")


def _refusal(status: int, why: str) -> Response:
    return PlainTextResponse(f"{why}\n", status, HEADERS)
