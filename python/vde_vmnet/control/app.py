"""The application behind the control socket: finds the operation, checks the request, answers in JSON.

Every refusal is an ``ErrorReply``. A request is checked as a whole before anything is done: who asks, each
parameter, the body with every field of it, and that there is nothing else.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import Route

from vde_vmnet.control.access import may_change
from vde_vmnet.control.feed import Feed
from vde_vmnet.control.handlers import Handlers
from vde_vmnet.control.models import PREFIX, ErrorCode, ErrorReply
from vde_vmnet.control.network import Facts, Network
from vde_vmnet.control.openapi import document
from vde_vmnet.control.operations import STATUS, HandedOver, Operation, Parameter, Refused, Request, Stream
from vde_vmnet.errors import (
    ConfigurationError,
    ConflictError,
    InternalError,
    PrivilegeError,
    UnavailableError,
    UplinkError,
    VdeVmnetError,
)

__all__ = ["make_app", "make_metrics_app"]

_log = logging.getLogger(__name__)

_Scope = dict[str, Any]
_Receive = Callable[[], Awaitable[dict[str, Any]]]
_Send = Callable[[dict[str, Any]], Awaitable[None]]

#: Largest body; the largest request there is has a filter of 4096 instructions.
_BODY = 128 << 10
#: An answer that is not a stream is made and taken within this time.
_ANSWER_SECONDS = 30.0
_MANUAL = "See docs/reference/control-protocol.md, or GET /v1/openapi.json"
_INTEGER = re.compile(r"0|[1-9][0-9]{0,15}")

_CODES: tuple[tuple[type[VdeVmnetError], ErrorCode], ...] = (
    (ConfigurationError, "invalid_request"),
    (ConflictError, "conflict"),
    (PrivilegeError, "forbidden"),
    (UnavailableError, "unavailable"),
    (UplinkError, "unavailable"),
    (InternalError, "internal"),
)


def make_app(network: Network, facts: Facts, feed: Feed) -> Starlette:
    """Everything."""
    handlers = Handlers(network, facts, feed)
    operations = handlers.operations()
    described = msgspec.json.encode(document(operations))
    operations = [*operations, *handlers.beside(described)]
    return _application(operations, facts.masters)


def make_metrics_app(network: Network, facts: Facts, feed: Feed) -> Starlette:
    """``/metrics`` only, for whoever reaches the TCP port."""
    return _application(Handlers.metrics_only(network, facts, feed), frozenset())


def _application(operations: Sequence[Operation], masters: frozenset[int]) -> Starlette:
    by_path: dict[str, list[Operation]] = defaultdict(list)
    for one in operations:
        by_path[one.path].append(one)
    routes = [
        Route(path if path == "/metrics" else f"{PREFIX}{path}", _Place(path, found, masters))
        for path, found in by_path.items()
    ]
    return Starlette(routes=routes, exception_handlers={HTTPException: _not_there})


async def _not_there(request: HttpRequest, _error: Exception) -> Response:
    return _json(
        404,
        ErrorReply(code="not_found", message=f'There is nothing at "{request.url.path}"', next_step=_MANUAL),
    )


def _json(status: int, reply: msgspec.Struct, headers: dict[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(reply), status, headers, "application/json")


class _Place:
    """One path, with an operation for each method."""

    def __init__(self, path: str, operations: Sequence[Operation], masters: frozenset[int]) -> None:
        self._path = path
        self._by_method = {one.method: one for one in operations}
        self._masters = masters

    async def __call__(self, scope: _Scope, receive: _Receive, send: _Send) -> None:
        answer = await self._answer(scope, receive, send)
        if isinstance(answer, Stream):
            await _stream(answer, scope, receive, send)
            return
        if isinstance(answer, HandedOver):
            scope["control"]["abort"]()
            await _disconnected(receive)
            return
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                await answer(scope, receive, send)  # type: ignore[arg-type]
        except TimeoutError:
            scope["control"]["abort"]()  # closing would wait for the same client

    async def _answer(self, scope: _Scope, receive: _Receive, send: _Send) -> Response | Stream | HandedOver:
        method = scope["method"]
        operation = self._by_method.get(method)
        if operation is None:
            allowed = ", ".join(self._by_method)
            error = ErrorReply(
                code="method_not_allowed",
                message=f'"{method}" does nothing at "{scope["path"]}"',
                next_step=f"Use {allowed}",
            )
            return _json(STATUS["method_not_allowed"], error, {"Allow": allowed})
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                return await self._carry_out(operation, scope, receive, send)
        except Refused as refused:
            return _json(STATUS[refused.reply.code], refused.reply)
        except VdeVmnetError as error:
            code: ErrorCode = next((code for kind, code in _CODES if isinstance(error, kind)), "internal")
            reply = ErrorReply(
                code=code, message=error.message, next_step=error.next_step or "See the daemon's log"
            )
            return _json(STATUS[code], reply)
        except TimeoutError:
            return self._failed("It took too long", "Try again")
        except Exception:  # noqa: BLE001 - whatever it is costs this client its answer, and nobody else anything
            _log.exception("A request to the control socket failed (%s %s)", method, operation.path)
            return self._failed("This is a bug of the daemon's", "Please report it, with the daemon's log")

    @staticmethod
    def _failed(message: str, step: str) -> Response:
        return _json(STATUS["internal"], ErrorReply(code="internal", message=message, next_step=step))

    async def _carry_out(
        self, operation: Operation, scope: _Scope, receive: _Receive, send: _Send
    ) -> Response | Stream | HandedOver:
        peer = scope.get("control", {}).get("peer")
        if operation.changes and not may_change(peer, self._masters):
            raise Refused(
                "forbidden",
                "This process may look at the network, not change it",
                "Ask as root, as the user the daemon serves as, or as who started it",
            )
        parameters = {
            **_from_path(operation, scope.get("path_params", {})),
            **_from_query(operation, scope["query_string"]),
        }
        body = _body(operation, await _read(receive))
        answer = await operation.handler(Request(parameters, body, scope, receive, send))
        if isinstance(answer, Stream | HandedOver):
            return answer
        if isinstance(answer, bytes):
            return Response(answer, 200, None, operation.media_type)
        return _json(200, answer)


def _from_path(operation: Operation, given: dict[str, str]) -> dict[str, Any]:
    return {
        one.name: _value(one, given[one.name], "not_found")
        for one in operation.parameters
        if one.where == "path"
    }


def _from_query(operation: Operation, query: bytes) -> dict[str, Any]:
    known = {one.name: one for one in operation.parameters if one.where == "query"}
    found: dict[str, Any] = dict.fromkeys(known)
    try:
        pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True, max_num_fields=16, errors="strict")
    except ValueError:
        raise Refused("invalid_request", "What follows the ? is not readable", _MANUAL) from None
    seen: set[str] = set()
    for name, value in pairs:
        if name not in known:
            raise Refused("invalid_request", f'There is no parameter "{name}" here', _MANUAL)
        if name in seen:
            raise Refused("invalid_request", f'The parameter "{name}" was given twice', "Give it once")
        seen.add(name)
        found[name] = _value(known[name], value, "invalid_request")
    return found


def _value(parameter: Parameter, text: str, code: Any) -> int | str:
    if parameter.kind is int:
        if not _INTEGER.fullmatch(text) or not parameter.lowest <= int(text) <= parameter.highest:
            raise Refused(
                code,
                f'{parameter.name} "{text}" is not a number from {parameter.lowest} to {parameter.highest}',
                _MANUAL,
            )
        return int(text)
    if parameter.pattern is not None and not re.search(parameter.pattern, text):
        raise Refused(code, f'{parameter.name} "{text}" is not of the form it has', _MANUAL)
    return text


async def _read(receive: _Receive) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise Refused("invalid_request", "The client left before its request was whole", "Send all of it")
        body += message.get("body", b"")
        if len(body) > _BODY:
            raise Refused("too_large", f"The body has more than {_BODY} bytes", "Send less")
        if not message.get("more_body", False):
            return bytes(body)


def _body(operation: Operation, data: bytes) -> Any:
    if operation.body is None:
        if data.strip() not in (b"", b"{}"):
            raise Refused("invalid_request", "This request takes no body", _MANUAL)
        return None
    if not data.strip() and not operation.body_required:
        return operation.body()
    try:
        return msgspec.json.decode(data, type=operation.body)
    except msgspec.DecodeError as error:
        raise Refused("invalid_request", f"The body is not right: {error}", _MANUAL) from None


async def _stream(stream: Stream, scope: _Scope, receive: _Receive, send: _Send) -> None:
    """Send piece by piece, until there are no more or the client is gone.

    Whoever does not read holds nothing but its own connection: what is sent next waits in ``send``.
    """
    headers = [(b"content-type", stream.media_type.encode()), (b"cache-control", b"no-store")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    # Else a client that waits for the head waits for the first piece.
    await send({"type": "http.response.body", "body": b"", "more_body": True})
    sending = asyncio.ensure_future(_send_all(stream, send))
    gone = asyncio.ensure_future(_disconnected(receive))
    try:
        await asyncio.wait((sending, gone), return_when=asyncio.FIRST_COMPLETED)
    finally:
        sending.cancel()
        gone.cancel()
        await asyncio.gather(sending, gone, return_exceptions=True)
    error = None if sending.cancelled() else sending.exception()
    if error is not None:
        _log.error("A stream of the control socket broke off: %r", error)
        scope["control"]["abort"]()


async def _send_all(stream: Stream, send: _Send) -> None:
    async with aclosing(stream.pieces) as pieces:
        async for piece in pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _disconnected(receive: _Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
