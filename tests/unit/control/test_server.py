"""Time limits of the control socket, on a server of the test's own: nobody holds a place by being slow."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import cast

import pytest

from vde_vmnet.control import server as module
from vde_vmnet.control.access import Peer
from vde_vmnet.control.feed import Feed
from vde_vmnet.control.network import Facts, Network
from vde_vmnet.control.server import Server

FACTS = Facts("net", "0", 1, "nobody", frozenset({0}), "none", None)
GET = b"GET /v1/openapi.json HTTP/1.1\r\nHost: x\r\n\r\n"

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[None, None, bytes]]


@pytest.fixture
def ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Talk], bytes]:
    """Runs a conversation with a server whose patience is a tenth of a second."""
    monkeypatch.setattr(module, "_ARRIVE_SECONDS", 0.1)

    async def converse(talk: Talk) -> bytes:
        path = str(tmp_path / "net.control")
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(path)
            listening.listen()
            listening.setblocking(False)
            server = Server(cast("Network", None), FACTS, Feed())
            await server.listen(listening, metrics_only=False)
            reader, writer = await asyncio.open_unix_connection(path)
            try:
                async with asyncio.timeout(10):
                    return await talk(reader, writer)
            finally:
                writer.close()
                await server.close()

    return lambda talk: asyncio.run(converse(talk))


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"GET /v1/open",
        b"PUT /v1/log HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{",
    ],
    ids=["nothing", "half a head", "half a body"],
)
def test_a_request_that_does_not_arrive_ends_its_connection(ask: Callable[[Talk], bytes], said: bytes) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        writer.write(said)
        try:
            return await reader.read()
        except ConnectionResetError:
            return b""

    assert ask(talk) == b""


def test_a_second_request_is_waited_for_as_the_first_was(ask: Callable[[Talk], bytes]) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        writer.write(GET)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        await reader.readexactly(length)
        await asyncio.sleep(0.3)  # idle is no matter yet, and the first request's limit is off
        writer.write(GET[:10])
        try:
            return await reader.read()
        except ConnectionResetError:
            return b""

    assert ask(talk) == b""


def test_one_user_has_so_many_connections() -> None:
    server = Server(cast("Network", None), FACTS, Feed())
    peer = Peer(1, 1000)
    assert [server.admit(peer) for _ in range(33)] == [True] * 32 + [False]
    for uid in (1001, 1002):
        for _ in range(32):
            server.admit(Peer(1, uid))
    assert not server.admit(Peer(1, 1003)), "all are taken"
    assert server.admit(Peer(1, 0)), "but for those of root"
    server.leave(peer)
    server.leave(peer)
    assert server.admit(Peer(1, 1003))
