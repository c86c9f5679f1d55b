"""The OpenAPI document of the control protocol, made of the models and the table of operations. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from vde_vmnet import __version__
from vde_vmnet.control.models import PREFIX, ErrorCode, ErrorReply
from vde_vmnet.control.operations import STATUS, Operation, Parameter

__all__ = ["document"]

_REFERENCE = "#/components/schemas/{name}"
#: What can happen to every request.
_ALWAYS: tuple[ErrorCode, ...] = ("invalid_request", "too_large", "internal", "busy")


def document(operations: Sequence[Operation]) -> dict[str, Any]:
    """OpenAPI 3.1, ready for JSON."""
    types: list[type] = [
        ErrorReply,
        *(kind for one in operations for kind in (one.reply, one.body, one.event) if kind is not None),
    ]
    schemas, components = msgspec.json.schema_components(types, ref_template=_REFERENCE)
    by_type: dict[type, Any] = dict(zip(types, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for one in operations:
        place = one.path if one.path == "/metrics" else f"{PREFIX}{one.path}"
        paths.setdefault(place, {})[one.method.lower()] = _operation(one, by_type)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "vde_vmnet control protocol",
            "version": __version__,
            "description": "On the UNIX socket beside the switch directory. Whoever may open it may look;"
            " changes are for root, the user that the daemon serves as, and who started it.",
        },
        "paths": paths,
        "components": {"schemas": components},
    }


def _operation(one: Operation, by_type: dict[type, Any]) -> dict[str, Any]:
    content: dict[str, Any] = {"schema": {"type": "string"} if one.reply is None else by_type[one.reply]}
    if one.event is not None:
        content["schema"]["description"] = f"Server-sent events; each `data:` is a {one.event.__name__}."
        content["x-event"] = by_type[one.event]
    responses: dict[str, Any] = {
        "200": {"description": one.summary, "content": {one.media_type: content}},
    }
    refusals: set[ErrorCode] = {*_ALWAYS, *one.refusals}
    if one.changes:
        refusals.add("forbidden")
    if any(parameter.where == "path" for parameter in one.parameters):
        refusals.add("not_found")
    for code in sorted(refusals, key=lambda code: STATUS[code]):
        responses[str(STATUS[code])] = {
            "description": code,
            "content": {"application/json": {"schema": by_type[ErrorReply]}},
        }
    described: dict[str, Any] = {
        "summary": one.summary,
        "operationId": f"{one.method.lower()}{one.path.replace('/', '_').replace('{', '').replace('}', '')}",
        "responses": responses,
    }
    if one.parameters:
        described["parameters"] = [_parameter(parameter) for parameter in one.parameters]
    if one.body is not None:
        described["requestBody"] = {
            "required": one.body_required,
            "content": {"application/json": {"schema": by_type[one.body]}},
        }
    return described


def _parameter(one: Parameter) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    if one.kind is int:
        schema = {"type": "integer", "minimum": one.lowest, "maximum": one.highest}
    elif one.pattern is not None:
        schema["pattern"] = one.pattern
    return {
        "name": one.name,
        "in": one.where,
        "required": one.where == "path",
        "description": one.description,
        "schema": schema,
    }
