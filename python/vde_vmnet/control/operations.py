"""What can be asked for, as a table: the application serves it, the OpenAPI document is made of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from vde_vmnet.control.models import ErrorCode, ErrorReply

__all__ = ["STATUS", "HandedOver", "Operation", "Parameter", "Refused", "Request", "Stream"]

#: HTTP's status for each kind of refusal.
STATUS: dict[ErrorCode, int] = {
    "invalid_request": 400,
    "forbidden": 403,
    "not_found": 404,
    "method_not_allowed": 405,
    "conflict": 409,
    "too_large": 413,
    "internal": 500,
    "unavailable": 501,
    "busy": 503,
}


class Refused(Exception):  # noqa: N818 - an answer, not a fault
    """The request is answered with an error."""

    def __init__(self, code: ErrorCode, message: str, next_step: str) -> None:
        super().__init__(message)
        self.reply = ErrorReply(code=code, message=message, next_step=next_step)


@dataclass(frozen=True)
class Parameter:
    """A number or word in a path or after the ``?``."""

    name: str
    description: str
    #: What it is made of.
    kind: type[int | str]
    where: Literal["path", "query"] = "path"
    lowest: int = 0
    highest: int = 2**53
    pattern: str | None = None


@dataclass(frozen=True)
class Request:
    """One request, checked."""

    parameters: dict[str, Any]
    #: Of the operation's ``body``; None without.
    body: Any
    #: Who asks, and how to break the connection off; see ``server.py``.
    scope: dict[str, Any]
    receive: Callable[[], Awaitable[dict[str, Any]]]
    send: Callable[[dict[str, Any]], Awaitable[None]]


@dataclass(frozen=True)
class Stream:
    """An answer without an end: ``pieces`` is closed when the client is gone."""

    media_type: str
    pieces: Any


@dataclass(frozen=True)
class HandedOver:
    """The connection is somebody else's from here on, who answers too; it is only let go of."""


@dataclass(frozen=True)
class Operation:
    """A method on a path."""

    method: Literal["GET", "POST", "PUT", "DELETE"]
    #: Below ``/v1``, with ``{name}`` for each path parameter.
    path: str
    summary: str
    #: A reply, or a Stream.
    handler: Callable[[Request], Awaitable[msgspec.Struct | Stream | HandedOver | bytes]]
    #: What it answers with; None for a stream or text.
    reply: type[msgspec.Struct] | None
    body: type[msgspec.Struct] | None = None
    #: What each event of a stream of server-sent events is.
    event: type[msgspec.Struct] | None = None
    #: Whether it needs one; else one of defaults is taken.
    body_required: bool = True
    parameters: tuple[Parameter, ...] = ()
    #: Whether it is for masters only.
    changes: bool = False
    media_type: str = "application/json"
    #: Refusals beyond those that every operation has.
    refusals: tuple[ErrorCode, ...] = field(default=())
