"""The server against its own OpenAPI document: every operation, with what fits it and with what does not."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from requests.adapters import HTTPAdapter
from schemathesis import GenerationMode
from schemathesis.specs.openapi import checks
from urllib3 import HTTPResponse

from tests.support.observed import observed_network

#: Streams have no end, and without the network nothing else could be tried.
WITHOUT_END = ("/v1/events", "/v1/logs/follow", "/v1/capture", "/v1/shutdown")
CHECKS = [
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
    checks.negative_data_rejection,
]


class _Connection(http.client.HTTPConnection):
    path = Path()

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(10)
        self.sock.connect(str(self.path))


class _ByUnixSocket(HTTPAdapter):
    """For a session of requests: every host is at one path."""

    def __init__(self, path: Path) -> None:
        self._path = path
        super().__init__()

    def send(self, request: requests.PreparedRequest, *_: Any, **__: Any) -> requests.Response:
        connection = _Connection("localhost")
        connection.path = self._path
        connection.request(request.method or "GET", request.path_url, request.body, dict(request.headers))  # type: ignore[arg-type]
        answer = connection.getresponse()
        response = requests.Response()
        response.status_code, response.request = answer.status, request
        response.headers = requests.structures.CaseInsensitiveDict(answer.headers.items())
        response.url = request.url or ""
        response._content = answer.read()
        response.raw = HTTPResponse(response._content, dict(answer.headers), answer.status)
        connection.close()
        return response


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[requests.Session, dict[str, Any]]]:
    with observed_network() as (_, client), requests.Session() as session:
        session.mount("http://", _ByUnixSocket(client.path))
        yield session, client.openapi()


def test_every_operation_keeps_to_the_document(server: tuple[requests.Session, dict[str, Any]]) -> None:
    session, document = server
    tried = set()
    for found in schemathesis.openapi.from_dict(document).get_all_operations():
        operation = found.ok()  # type: ignore[union-attr]  # else there is an InvalidSchema, which fails here
        if operation.path in WITHOUT_END:
            continue
        takes = bool(operation.body or operation.query or operation.path_parameters)
        modes = [operation.as_strategy(GenerationMode.POSITIVE)]
        if takes:
            modes.append(operation.as_strategy(GenerationMode.NEGATIVE))

        @settings(
            max_examples=20 if takes else 2,
            phases=[Phase.generate],
            database=None,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        )
        @given(case=st.one_of(modes))
        def try_it(case: schemathesis.Case[Any]) -> None:
            response = case.call(base_url="http://localhost", session=session)
            case.validate_response(response, checks=CHECKS)

        try_it()
        tried.add((operation.method, operation.path))
    assert len(tried) >= 19
    assert session.get("http://localhost/v1/network").status_code == 200


def test_the_document_is_whole(server: tuple[requests.Session, dict[str, Any]]) -> None:
    _, document = server
    assert document["openapi"].startswith("3.1")
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert operation["summary"].endswith("."), (path, method)
            for parameter in operation.get("parameters", ()):
                assert parameter["description"]
    for name, schema in document["components"]["schemas"].items():
        assert schema["description"], name
        for field, told in schema.get("properties", {}).items():
            assert told.get("description"), f"{name}.{field}"
