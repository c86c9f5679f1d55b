"""The reference pages of the control protocol and of the metrics: what is generated in them.

``make docs`` writes it between marks; a style test compares.
"""

from __future__ import annotations

import re
from typing import Any, cast

from vde_vmnet.control.feed import Feed
from vde_vmnet.control.handlers import Handlers
from vde_vmnet.control.metrics import METRICS
from vde_vmnet.control.models import PREFIX
from vde_vmnet.control.network import Facts, Network
from vde_vmnet.control.openapi import document
from vde_vmnet.control.operations import STATUS, Operation

__all__ = ["rendered"]

_MARK = re.compile(r"(<!-- made by make docs: (\w+) -->\n).*?(<!-- end -->\n)", re.DOTALL)

_CODES = {
    "invalid_request": "the request has a wrong value, a field that is not known, or is no HTTP",
    "forbidden": "whoever asks may look, and not change anything",
    "not_found": "there is no such path, port, reservation or forward",
    "method_not_allowed": "the path has other methods; they are in `Allow`",
    "conflict": "something is in the way: it is there already, or was given on the command line",
    "too_large": "the body has more than 128 KiB",
    "internal": "a bug of ours; the daemon's log has more",
    "unavailable": "this network or this machine cannot do that; the next step says what can",
    "busy": "there are too many connections",
}


def rendered(page: str) -> str:
    """A page with what stands between its marks made anew."""
    handlers = Handlers(cast("Network", None), Facts("", "", 0, "", frozenset(), "", None), Feed())
    operations = handlers.operations()
    parts = {
        "operations": _operations_table([*operations, *handlers.beside(b"")]),
        "models": _models_section(operations),
        "metrics": _metrics_table(),
    }
    return _MARK.sub(lambda match: f"{match[1]}{parts[match[2]]}{match[3]}", page)


def _operations_table(operations: list[Operation]) -> str:
    """One line for each."""
    lines = ["| request | what | body | answer | for |", "|---|---|---|---|---|"]
    for one in operations:
        body = "" if one.body is None else _link(one.body.__name__)
        answer = f"`{one.media_type.partition(';')[0]}`" if one.reply is None else _link(one.reply.__name__)
        if one.event is not None:
            answer = f"{answer} of {_link(one.event.__name__)}"
        query = "".join(f" `?{p.name}=`" for p in one.parameters if p.where == "query")
        place = one.path if one.path == "/metrics" else f"{PREFIX}{one.path}"
        whom = "masters" if one.changes else "all"
        lines.append(f"| `{one.method} {place}`{query} | {one.summary} | {body} | {answer} | {whom} |")
    lines += ["", "| status | code | when |", "|---|---|---|"]
    lines += [f"| {status} | `{code}` | {_CODES[code]} |" for code, status in STATUS.items()]
    return "\n".join([*lines, ""])


def _models_section(operations: list[Operation]) -> str:
    """Every object, with a line for each field."""
    schemas: dict[str, Any] = document(operations)["components"]["schemas"]
    lines: list[str] = []
    for name in sorted(schemas):
        schema = schemas[name]
        lines += [f"### {name}", "", schema.get("description", ""), ""]
        lines += ["| field | type | what |", "|---|---|---|"]
        required = schema.get("required", ())
        for field, told in schema.get("properties", {}).items():
            optional = "" if field in required else ", may be left out"
            lines.append(f"| `{field}` | {_type(told)}{optional} | {told.get('description', '')} |")
        lines.append("")
    return "\n".join(lines)


def _metrics_table() -> str:
    """One line for each."""
    lines = ["| metric | kind | what |", "|---|---|---|"]
    lines += [f"| `{one.name}` | {one.kind} | {one.help} |" for one in METRICS]
    return "\n".join([*lines, ""])


def _link(name: str) -> str:
    return f"[{name}](#{name.lower()})"


def _type(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        return _link(schema["$ref"].rpartition("/")[2])
    if "anyOf" in schema:
        return " or ".join(_type(one) for one in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    kind = schema.get("type", "anything")
    if "prefixItems" in schema:
        return f"[{', '.join(_type(one) for one in schema['prefixItems'])}]"
    if kind == "array":
        return f"list of {_type(schema.get('items', {}))}"
    if kind == "object":
        inner = schema.get("additionalProperties")
        return f"object of {_type(inner)}" if isinstance(inner, dict) else "object"
    bounds = [str(schema[key]) for key in ("minimum", "maximum") if key in schema]
    return f"{kind} {'…'.join(bounds)}".rstrip()
