"""The VDE listener with real sockets and a switch that only takes note: the handshake's every way to fail."""

import asyncio
import gc
import os
import socket
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.vde_peer import VdePeer
from vde_vmnet.config.model import SwitchConfig
from vde_vmnet.ports import numbers, vde_switch
from vde_vmnet.ports.numbers import VdePorts
from vde_vmnet.ports.vde_switch import VdeSwitchListener
from vde_vmnet.sockets import SwitchDirectory
from vde_vmnet.wire import vde


class NotingSwitch:
    """Stands for the engine: owns descriptors, remembers ports."""

    def __init__(self) -> None:
        self.endpoints: dict[int, tuple[int, int]] = {}
        self.count = 0

    def attach(
        self,
        *,
        port: int,
        kind: str,
        fd: int,
        name: str,
        receive_only: bool = False,
        offload_mtu: int | None = None,
    ) -> int:
        assert kind == "dgram" and not receive_only and offload_mtu is None and name
        self.count += 1
        self.endpoints[self.count] = (port, fd)
        return self.count

    def detach(self, *, endpoint: int) -> None:
        os.close(self.endpoints.pop(endpoint)[1])

    @property
    def ports(self) -> list[int]:
        return sorted(port for port, _ in self.endpoints.values())


Scenario = Callable[[Path, NotingSwitch], Awaitable[None]]


@pytest.fixture
def serve(tmp_path: Path) -> Callable[[Scenario], None]:
    """Run a scenario against a listener; afterwards nothing may be left."""

    def run(scenario: Scenario) -> None:
        async def body() -> None:
            switch = NotingSwitch()
            config = SwitchConfig(directory=tmp_path / "sw")
            directory = SwitchDirectory.claim(config, uid=os.getuid(), gid=os.getgid())
            listener = VdeSwitchListener(directory, switch, ports=VdePorts())
            listener.start()
            await scenario(directory.path, switch)
            await listener.stop()
            directory.remove()
            assert switch.endpoints == {}
            assert not directory.path.exists()

        gc.collect()  # what earlier tests dropped must not go while this one counts
        descriptors = len(list(Path("/proc/self/fd").iterdir()))
        asyncio.run(body())
        # The lock on the directory is the process's to the end.
        assert len(list(Path("/proc/self/fd").iterdir())) == descriptors + 1

    return run


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop run until something is true; the test's timeout is the limit."""
    while not condition():
        await asyncio.sleep(0)


async def plug(directory: Path, port: int | None = None) -> VdePeer:
    return await asyncio.to_thread(VdePeer, directory, port=port)


def test_ports_are_numbered_from_one_and_the_lowest_free_is_used_again(
    serve: Callable[[Scenario], None],
) -> None:
    async def scenario(directory: Path, switch: NotingSwitch) -> None:
        peers = [await plug(directory) for _ in range(3)]
        assert switch.ports == [1, 2, 3]
        peers[1].close()
        await until(lambda: switch.ports == [1, 3])
        peers.append(await plug(directory))
        assert switch.ports == [1, 2, 3]
        for peer in peers:
            peer.close()
        await until(lambda: switch.ports == [])

    serve(scenario)


def test_a_numbered_port_may_be_shared(serve: Callable[[Scenario], None]) -> None:
    async def scenario(directory: Path, switch: NotingSwitch) -> None:
        first, second = await plug(directory, 7), await plug(directory, 7)
        assert switch.ports == [7, 7]
        first.close()
        await until(lambda: switch.ports == [7])
        second.close()
        await until(lambda: switch.ports == [])

    serve(scenario)


def test_the_data_socket_is_named_after_port_and_has_the_socket_mode(serve: Callable[[Scenario], None]) -> None:
    async def scenario(directory: Path, switch: NotingSwitch) -> None:
        with await plug(directory, 5) as peer:
            path = Path(os.fsdecode(peer.switch_path))
            assert path.parent == directory and path.name.startswith("005.")
            assert path.stat().st_mode & 0o777 == 0o660
            assert (directory / "ctl").stat().st_mode & 0o777 == 0o660
            assert directory.stat().st_mode & 0o7777 == 0o2770

    serve(scenario)


def request(path: str, port: int = 0) -> bytes:
    return vde.encode_request(vde.PlugRequest(path=path.encode(), port=port, description="bad"))


@pytest.mark.parametrize(
    "make",
    [
        lambda directory: b"hello",
        lambda directory: bytes(300),
        lambda directory: request(f"{directory}/.none"),
        lambda directory: request("relative"),
        lambda directory: request(f"{directory}"),
        lambda directory: request("/etc/passwd"),
        lambda directory: request(f"{directory}/ctl"),
        lambda directory: struct.pack("=III", 0xFEEDFACE, 3, 9) + bytes(110),
    ],
    ids=["garbage", "zeros", "no-socket", "relative", "directory", "file", "stream-socket", "type"],
)
def test_a_bad_request_is_closed_and_leaves_nothing(
    serve: Callable[[Scenario], None], make: Callable[[Path], bytes]
) -> None:
    async def scenario(directory: Path, switch: NotingSwitch) -> None:
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.setblocking(False)
            await loop.sock_connect(client, os.fspath(directory / "ctl"))
            await loop.sock_sendall(client, make(directory))
            with suppress(ConnectionResetError):  # closed with our bytes unread: refused just the same
                assert await loop.sock_recv(client, 200) == b""
        assert switch.endpoints == {}
        assert [entry.name for entry in directory.iterdir()] == ["ctl"]
        (await plug(directory)).close()
        await until(lambda: not switch.endpoints)

    serve(scenario)


@pytest.mark.parametrize("port", [numbers.MAX_PORT + 1, 65535])
def test_a_port_above_the_limit_is_refused(serve: Callable[[Scenario], None], port: int) -> None:
    async def scenario(directory: Path, switch: NotingSwitch) -> None:
        with pytest.raises(ConnectionRefusedError):
            await plug(directory, port)
        assert switch.count == 0

    serve(scenario)


def test_bytes_after_the_handshake_unplug(serve: Callable[[Scenario], None]) -> None:
    async def scenario(directory: Path, switch: NotingSwitch) -> None:
        with await plug(directory) as peer:
            peer.control.send(b"more")
            await until(lambda: not switch.endpoints)

    serve(scenario)


def test_a_silent_client_is_let_go(serve: Callable[[Scenario], None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vde_switch, "_HANDSHAKE_SECONDS", 0.05)

    async def scenario(directory: Path, switch: NotingSwitch) -> None:
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.setblocking(False)
            await loop.sock_connect(client, os.fspath(directory / "ctl"))
            with await plug(directory):  # others are served meanwhile
                assert await loop.sock_recv(client, 1) == b""

    serve(scenario)


def test_a_client_that_dies_half_way_leaves_nothing(serve: Callable[[Scenario], None]) -> None:
    async def scenario(directory: Path, switch: NotingSwitch) -> None:
        own = directory / ".00001-00000"
        with (
            socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as control,
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as data,
        ):
            data.bind(os.fspath(own))
            control.connect(os.fspath(directory / "ctl"))
            control.send(request(os.fspath(own)))
        # Served after it, so by then the dead one has been dealt with: refused or unplugged again.
        (await plug(directory)).close()
        await until(lambda: switch.count > 0 and not switch.endpoints)
        assert not list(directory.glob("[0-9]*"))

    serve(scenario)


def test_the_engine_can_give_a_client_up(tmp_path: Path) -> None:
    async def body() -> None:
        switch = NotingSwitch()
        directory = SwitchDirectory.claim(SwitchConfig(tmp_path / "sw"), uid=os.getuid(), gid=os.getgid())
        listener = VdeSwitchListener(directory, switch, ports=VdePorts())
        listener.start()
        with await plug(directory.path) as peer:
            assert not listener.endpoint_down(99, "not ours")
            assert listener.endpoint_down(1, "broken")
            assert await asyncio.to_thread(peer.control.recv, 1) == b""
        assert switch.endpoints == {}
        await listener.stop()

    asyncio.run(body())
