"""The Python API on running networks: sync and async, VDE and stream, ends, and the guide's examples."""

import asyncio
import os
import re
import select
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.vde_peer import frame
from tests.support.vde_switch import VdeSwitch
from vde_vmnet import AsyncPlug, Network, Plug
from vde_vmnet.errors import ConflictError, UnavailableError

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "python.md"
BLOCKS = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)


def test_two_plugs_and_the_port_that_was_asked_for() -> None:
    with Network() as network, network.plug(7) as one, network.plug() as two:
        assert {int(entry.name[:3]) for entry in network.directory.glob("[0-9]*")} == {7, 1}
        one.send(frame(-1, 1, b"hello"))
        assert select.select([two], [], [], 5)[0]
        assert two.receive(timeout=5) == frame(-1, 1, b"hello")
        with pytest.raises(TimeoutError):
            two.receive(timeout=0.01)
        with pytest.raises(ConflictError, match="refused the plug"):
            network.plug(5000)
        with pytest.raises(ValueError, match="14 to 69632 bytes, not 13"):
            one.send(b"x" * 13)
    assert not network.directory.exists()


def test_debian_s_switch(tmp_path: Path) -> None:
    with (
        VdeSwitch(tmp_path / "sw") as switch,
        Plug(switch.directory) as one,
        Plug(f"{switch.directory}[5]") as two,
    ):
        one.send(frame(-1, 1, b"hello"))
        assert two.receive(timeout=5) == frame(-1, 1, b"hello")
        switch.stop()
        assert list(two) == []
        with pytest.raises(ConnectionResetError, match="is gone"):
            one.send(frame(-1, 1))


def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="No VDE switch answers"):
        Plug(tmp_path / "nothing")


def test_asyncio_sends_and_receives_at_once() -> None:
    async def body(network: Network) -> None:
        async with network.async_plug() as one, network.async_plug() as two:

            async def send() -> None:
                for number in range(500):
                    await one.send(frame(-1, 1, str(number).encode()))

            sender = asyncio.ensure_future(send())
            for number in range(500):
                assert await two.receive() == frame(-1, 1, str(number).encode())
                await two.send(frame(1, 2, b"back"))
                assert await one.receive() == frame(1, 2, b"back")
            await sender

    with Network() as network:
        asyncio.run(body(network))


def test_a_stream_socket(tmp_path: Path) -> None:
    """A frame too long for any buffer goes in pieces, and one whose length is cut in two is put together."""
    path = tmp_path / "stream"
    big = frame(1, 2, size=60_000)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.fspath(path))
        server.listen()
        with Plug(path) as plug:
            peer, _ = server.accept()
            plug.send(big)
            assert peer.recv(4) == (60_000).to_bytes(4, "big")
            peer.sendall(b"\0\0")
            peer.sendall(b"\0\x3c" + frame(1, 2) + b"\0\0\0\0")
            assert plug.receive(timeout=5) == frame(1, 2)
            for _ in range(3):  # what is not read fills the socket, and the rest of a frame is sent first
                with suppress(TimeoutError):
                    plug.send(big, timeout=0.05)
            peer.close()
            assert list(plug) == []


def test_our_own_stream_listener() -> None:
    place = Path(f"/tmp/vde-api-{os.getpid()}.sock")
    with Network("--backend=none", f"--stream={place}") as network, Plug(place) as one, network.plug() as two:
        one.send(frame(-1, 1, b"stream to VDE"))
        assert two.receive(timeout=5) == frame(-1, 1, b"stream to VDE")
        two.send(frame(1, 2, b"VDE to stream"))
        assert one.receive(timeout=5) == frame(1, 2, b"VDE to stream")


def test_async_plug_ends_with_its_switch(tmp_path: Path) -> None:
    async def body(switch: VdeSwitch) -> None:
        async with AsyncPlug(switch.directory) as plug:
            switch.stop()
            assert [one async for one in plug] == []

    with VdeSwitch(tmp_path / "sw") as switch:
        asyncio.run(body(switch))


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_the_guide_s_examples_run(tmp_path: Path, number: int) -> None:
    code = BLOCKS[number]
    program = tmp_path / "test_example.py"
    program.write_text(code)
    command = (
        ["-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path)]
        if "def test_" in code
        else []
    )
    done = subprocess.run(
        [sys.executable, *command, str(program)], cwd=tmp_path, capture_output=True, text=True, timeout=50
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "def test_" not in code or "1 passed" in done.stdout
