"""A plug for Python programs: send and receive Ethernet frames on a VDE switch or a QEMU stream socket.

``Plug`` waits by blocking, ``AsyncPlug`` on the running event loop. Both drive links that never wait.
"""

from __future__ import annotations

import asyncio
import errno
import os
import re
import select
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from vde_vmnet.errors import PrivilegeError, UnavailableError
from vde_vmnet.vde_client import PlugTarget, VdeClient
from vde_vmnet.wire.stream import MAX_FRAME, StreamDecoder, encode_frame

__all__ = ["AsyncPlug", "Plug"]

_NUMBERED = re.compile(r"(?s)(.+)\[(\d+)\]")
#: An Ethernet header; switches ignore less.
_MIN_FRAME = 14
#: Bytes to take from a stream at once: some hundred full frames.
_CHUNK = 1 << 18


class _Link(Protocol):
    """One connection. Nothing here waits; ConnectionResetError when the other end is gone."""

    #: Wait for any of these to become readable before ``take`` again.
    readable: tuple[socket.socket, ...]
    #: Wait for this to become writable before ``flush`` again.
    writable: socket.socket

    def queue(self, frame: bytes) -> None:
        """Make ``frame`` the one that ``flush`` sends."""

    def flush(self) -> bool:
        """Whether the queued frame is sent now."""

    def take(self) -> bytes | None:
        """One received frame, or None."""

    def close(self) -> None:
        """A second call does nothing."""


class _VdeLink:
    def __init__(self, target: PlugTarget) -> None:
        self._client = VdeClient.plug_in(target)
        self._frame = b""
        self.readable: tuple[socket.socket, ...] = (self._client.data, self._client.control)
        self.writable = self._client.data

    def queue(self, frame: bytes) -> None:
        self._frame = frame

    def flush(self) -> bool:
        if self._frame:
            try:
                self._client.data.send(self._frame)
            except BlockingIOError:
                return False
            except OSError as error:
                # Refused once, not connected from then on; anything else is about this frame.
                if error.errno not in (errno.ECONNREFUSED, errno.ENOTCONN, errno.ECONNRESET, errno.EPERM):
                    raise
                raise ConnectionResetError(f"The switch at {self._client.target.shown} is gone") from None
            self._frame = b""
        return True

    def take(self) -> bytes | None:
        with suppress(BlockingIOError, ConnectionError):
            while True:
                # A zero-length datagram is how some say good-bye; the control connection says so for all.
                if frame := self._client.data.recv(1 << 17):
                    return frame
        try:
            ended = not self._client.control.recv(1)
        except BlockingIOError:
            return None
        except ConnectionError:
            ended = True
        if ended:
            raise ConnectionResetError(f"The switch at {self._client.target.shown} is gone")
        return None

    def close(self) -> None:
        self._client.close()


class _StreamLink:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._decoder = StreamDecoder()
        self._rest = memoryview(b"")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.connect(os.fspath(path))
        except BaseException:
            self._socket.close()
            raise
        self._socket.setblocking(False)
        self.readable: tuple[socket.socket, ...] = (self._socket,)
        self.writable = self._socket

    def queue(self, frame: bytes) -> None:
        self._rest = memoryview(encode_frame(frame))

    def flush(self) -> bool:
        while self._rest:
            try:
                self._rest = self._rest[self._socket.send(self._rest) :]
            except BlockingIOError:
                return False
            except ConnectionError:
                raise ConnectionResetError(f"The other end of {self._path} is gone") from None
        return True

    def take(self) -> bytes | None:
        while (frame := self._decoder.next()) is None:
            try:
                data = self._socket.recv(_CHUNK)
            except BlockingIOError:
                return None
            except ConnectionError:
                data = b""
            if not data:
                raise ConnectionResetError(f"The other end of {self._path} is gone")
            self._decoder.feed(data)
        return frame

    def close(self) -> None:
        self._socket.close()


def _open(address: str | os.PathLike[str], description: str) -> _Link:
    text = os.fspath(address)
    named = _NUMBERED.fullmatch(text)
    path, port = (Path(named[1]), int(named[2])) if named else (Path(text), None)
    try:
        if path.is_socket():
            return _StreamLink(path)
        return _VdeLink(PlugTarget(path.resolve(), port=port, description=description))
    except PermissionError:
        raise PrivilegeError(
            f'This user may not use "{text}"', next_step="See its owner, group and mode with ls -l"
        ) from None
    except (ConnectionRefusedError, FileNotFoundError):
        raise UnavailableError(f'Nobody serves at "{text}"', next_step="Start a network there") from None


def _checked(frame: bytes) -> bytes:
    if not _MIN_FRAME <= len(frame) <= MAX_FRAME:
        raise ValueError(f"a frame has {_MIN_FRAME} to {MAX_FRAME} bytes, not {len(frame)}")
    return bytes(frame)


class Plug:
    """A blocking plug. A context manager, and an iterator over received frames.

    A frame is the bytes from the destination address to the end of the payload, without checksum.
    """

    def __init__(self, address: str | os.PathLike[str], *, description: str = "python") -> None:
        """Plug into ``address``: a switch directory, ``DIRECTORY[N]`` for port N, or a stream socket's path.

        Raises UnavailableError (nobody serves there), PrivilegeError, ConflictError (port refused).
        """
        self._link = _open(address, description)

    def send(self, frame: bytes, timeout: float | None = None) -> None:
        """Send one frame of 14 to 69,632 bytes; wait while the switch takes none, ``timeout`` seconds at most.

        Raises TimeoutError, ConnectionResetError (the switch is gone), ValueError (the length). After a
        timeout nothing or, on a stream, a part has been sent; the next call sends the rest first.
        """
        deadline = _deadline(timeout)
        checked = _checked(frame)
        self._flush(deadline)
        self._link.queue(checked)
        self._flush(deadline)

    def _flush(self, deadline: float | None) -> None:
        while not self._link.flush():
            _wait((), (self._link.writable,), deadline)

    def receive(self, timeout: float | None = None) -> bytes:
        """The next frame; wait for it ``timeout`` seconds at most, for ever with None.

        Raises TimeoutError, ConnectionResetError (the switch is gone), PeerError (broken framing).
        """
        deadline = _deadline(timeout)
        while (frame := self._link.take()) is None:
            _wait(self._link.readable, (), deadline)
        return frame

    def fileno(self) -> int:
        """For ``select``: readable when a frame may be there."""
        return self._link.readable[0].fileno()

    def __iter__(self) -> Iterator[bytes]:
        """Frames until the switch is gone."""
        with suppress(ConnectionResetError):
            while True:
                yield self.receive()

    def close(self) -> None:
        """Unplug; a second call does nothing."""
        self._link.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncPlug:
    """The same for asyncio: ``async with AsyncPlug(address) as plug``. Plugging in blocks for milliseconds.

    One task may send while another receives. Give ``asyncio.timeout`` for time limits.
    """

    def __init__(self, address: str | os.PathLike[str], *, description: str = "python") -> None:
        """As ``Plug``."""
        self._link = _open(address, description)
        self._sending = asyncio.Lock()

    async def send(self, frame: bytes) -> None:
        """As ``Plug.send``."""
        checked = _checked(frame)
        async with self._sending:
            await self._flush()
            self._link.queue(checked)
            await self._flush()

    async def _flush(self) -> None:
        loop = asyncio.get_running_loop()
        while not self._link.flush():
            writable = loop.create_future()
            loop.add_writer(self._link.writable, _done, writable)
            try:
                await writable
            finally:
                loop.remove_writer(self._link.writable)

    async def receive(self) -> bytes:
        """As ``Plug.receive``."""
        loop = asyncio.get_running_loop()
        while (frame := self._link.take()) is None:
            readable = loop.create_future()
            for one in self._link.readable:
                loop.add_reader(one, _done, readable)
            try:
                await readable
            finally:
                for one in self._link.readable:
                    loop.remove_reader(one)
        return frame

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Frames until the switch is gone."""
        with suppress(ConnectionResetError):
            while True:
                yield await self.receive()

    def close(self) -> None:
        """Unplug; a second call does nothing."""
        self._link.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _done(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _deadline(timeout: float | None) -> float | None:
    return None if timeout is None else time.monotonic() + timeout


def _wait(
    readable: tuple[socket.socket, ...], writable: tuple[socket.socket, ...], deadline: float | None
) -> None:
    poll = select.poll()
    for one in readable:
        poll.register(one, select.POLLIN)
    for one in writable:
        poll.register(one, select.POLLOUT)
    left = None if deadline is None else deadline - time.monotonic()
    if (left is not None and left <= 0) or not poll.poll(None if left is None else left * 1000):
        raise TimeoutError("no frame could be sent or received in time")
