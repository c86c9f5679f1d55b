"""One listener on a real engine in this process, and the test as its uplink."""

from __future__ import annotations

import asyncio
import gc
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

from tests.support.vde_peer import frame
from vde_vmnet._engine import Engine
from vde_vmnet.opened import MakeListener
from vde_vmnet.ports.base import UPLINK_PORT, Greeter

__all__ = ["Bridge", "with_bridge"]

_BROADCAST = -1


class _Plugged(Protocol):
    def send(self, *frames: bytes) -> None: ...
    def receive(self) -> list[bytes]: ...


class Bridge:
    """What ``with_bridge`` gives a scenario."""

    def __init__(self, make: MakeListener) -> None:
        self.engine = Engine()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.uplink = ours
        self.uplink.settimeout(10)
        self.engine.attach(port=UPLINK_PORT, kind="dgram", fd=theirs.detach(), name="uplink")
        self.listener = make(self.engine)

    def pass_events(self) -> None:
        """What the worker does with the engine's events."""
        for event in self.engine.take_events():
            if event["kind"] == "endpoint_down":
                self.listener.endpoint_down(event["endpoint"], event["reason"])
            elif event["kind"] == "newcomer":
                assert isinstance(self.listener, Greeter)
                assert self.listener.newcomer(event["endpoint"], event["address"])

    async def attached(self) -> None:
        """Until the listener has an endpoint; the test's timeout is the limit."""
        while not any(self.listener.label(one) for one in self.engine.counters()):
            await asyncio.sleep(0.01)

    async def detached(self) -> None:
        """Until it has none."""
        while any(self.listener.label(one) for one in self.engine.counters()):
            await asyncio.sleep(0.01)

    async def heard(self, payload: bytes) -> None:
        """The next frame at the uplink is station 1's broadcast with this payload."""
        assert await asyncio.to_thread(self.uplink.recv, 2000) == frame(_BROADCAST, 1, payload)

    async def exchange(self, guest: _Plugged) -> None:
        """A frame from the guest to the uplink and one back."""

        def blocking() -> None:
            guest.send(frame(_BROADCAST, 1, b"hello"))
            assert self.uplink.recv(2000) == frame(_BROADCAST, 1, b"hello")
            self.uplink.send(frame(1, 2, b"answer"))
            assert guest.receive() == [frame(1, 2, b"answer")]

        await asyncio.to_thread(blocking)


def _open_sockets() -> int:
    return sum(entry.is_socket() for entry in Path("/proc/self/fd").iterdir())


def with_bridge(make: MakeListener, scenario: Callable[[Bridge], Awaitable[None]]) -> None:
    """Run a scenario; afterwards no socket may be left but those that ``make`` brought along."""

    async def body() -> None:
        bridge = Bridge(make)
        loop = asyncio.get_running_loop()
        loop.add_reader(bridge.engine.event_fd, bridge.pass_events)
        bridge.listener.start()
        try:
            await scenario(bridge)
        finally:
            loop.remove_reader(bridge.engine.event_fd)
            await bridge.listener.stop()
            bridge.engine.close()
            bridge.uplink.close()

    gc.collect()
    before = _open_sockets()
    asyncio.run(body())
    gc.collect()
    assert _open_sockets() <= before
