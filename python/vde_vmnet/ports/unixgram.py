"""Serve a datagram socket: QEMU's ``-netdev dgram`` with UNIX addresses, and unixgram (vfkit, krunkit).

There is no connection. A client binds a path of its own and sends to ours, and with its first datagram the
engine tells who it is. From then on it is a guest, on a port of its own, as long as its socket is there.

Two kinds of clients need two ways back:

- QEMU looks our path up for every frame and takes datagrams from anybody. It gets a socket of our own that is
  connected to it, on which the kernel says when there is room.
- vfkit and krunkit connect. On Linux such a client takes datagrams only from the very socket it connected to,
  and what it does not read takes up that socket's buffer. So it keeps that socket, and the next ones find a
  fresh one under the same name. Those that connected before the first of them sent anything share one, and
  each may leave a part of it unread. macOS has no such rule, and the first way does for all.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal, Protocol

from vde_vmnet._engine import EngineError
from vde_vmnet.errors import PeerError
from vde_vmnet.ports.base import KICKED
from vde_vmnet.ports.base import Guest as PluggedIn
from vde_vmnet.ports.numbers import PortNumbers
from vde_vmnet.socket_file import SocketFile

__all__ = ["UnixgramListener"]

_log = logging.getLogger(__name__)

# --- chosen ------------------------------------------------------------------------------------------
#: Guests of one path: more than a machine runs, few enough to look after all of them in milliseconds.
_MOST = 256
#: A client that was killed leaves its name and no event.
_LOOK_SECONDS = 1.0
#: Who was refused is not heard for this long, so that a flood of addresses costs next to nothing.
_REFUSED_SECONDS = 1.0
#: Nor one that was gone when we looked; another may come under its name.
_GONE_SECONDS = 0.1
#: On macOS SO_SNDBUF is the longest datagram, and SO_RCVBUF the queue: vfkit's and gvproxy's sizes. Linux takes
#: the first as the queue, up to what the system allows.
_SEND_BUFFER, _RECEIVE_BUFFER = 1 << 20, 4 << 20


class _Switch(Protocol):
    """The part of ``_engine.Engine`` that is used here; see its stub."""

    def attach(
        self,
        *,
        port: int,
        kind: Literal["unixgram", "door", "reply"],
        fd: int,
        name: str,
        peer: bytes = b"",
        offload_mtu: int | None = None,
    ) -> int: ...

    def admit(self, *, door: int, address: bytes, endpoint: int | None = None) -> None: ...

    def share_socket(self, *, endpoint: int) -> None: ...

    def detach(self, *, endpoint: int) -> None: ...


#: How a client is reached.
_Way = Literal["unixgram", "reply"]
#: Device, inode and time of a socket's file; None for a name without one.
_Identity = tuple[int, int, int] | None


@dataclass
class _Door:
    """A socket that clients send to."""

    file: SocketFile
    number: int
    clients: set[int] = field(default_factory=set)


@dataclass(frozen=True)
class _Guest:
    """One client, by the address it sends from."""

    address: bytes
    identity: _Identity
    door: int
    kind: _Way
    shown: PluggedIn


class UnixgramListener:
    """Listener for one path. See ``ports.base.Listener``."""

    def __init__(
        self, file: SocketFile, numbers: PortNumbers, switch: _Switch, *, offload_mtu: int | None = None
    ) -> None:
        self._file = file
        self._numbers = numbers
        self._switch = switch
        self._attach = partial(switch.attach, offload_mtu=offload_mtu)
        #: They are guests of krunkit with offloading=on.
        self._offloads = offload_mtu is not None
        #: By endpoint. The newest has the name; the others have clients.
        self._doors: dict[int, _Door] = {}
        self._newest = -1
        self._guests: dict[int, _Guest] = {}
        self._by_address: dict[bytes, int] = {}
        self._timers: set[asyncio.TimerHandle] = set()
        self._warned: set[str] = set()

    def start(self) -> None:
        """Begin to hear. Raises OSError."""
        self._open(self._file)
        self._later(_LOOK_SECONDS, self._look)

    def how_to_plug_in(self) -> str:
        """See ``ports.base.Listener``."""
        if self._offloads:
            return f"krunkit --device virtio-net,type=unixgram,path={self._file.path},offloading=on"
        return (
            "-netdev dgram,id=net0,local.type=unix,local.path=/tmp/GUEST.sock,remote.type=unix,"
            f"remote.path={self._file.path}"
        )

    def label(self, endpoint: int) -> str | None:
        """See ``ports.base.Listener``."""
        guest = self._guests.get(endpoint)
        return guest.shown.label if guest else None

    def guests(self) -> Mapping[int, PluggedIn]:
        """See ``ports.base.Listener``."""
        return {endpoint: guest.shown for endpoint, guest in self._guests.items()}

    def kick(self, endpoint: int) -> bool:
        """See ``ports.base.Listener``: with its next frame it is a newcomer again."""
        guest = self._guests.get(endpoint)
        if guest is None:
            return False
        self._unplug(endpoint, KICKED)
        self._turn_away(guest.door, guest.address)
        return True

    # -- doors ----------------------------------------------------------------------------------------

    def _open(self, file: SocketFile) -> None:
        _enlarge(file.socket)
        number = self._numbers.take()
        copy = os.dup(file.socket.fileno())
        try:
            self._newest = self._attach(port=number, kind="door", fd=copy, name=f"door {file.path}")
        except BaseException:
            os.close(copy)
            self._numbers.give_back(number)
            raise
        self._doors[self._newest] = _Door(file, number)

    def _renew(self, door: int) -> None:
        """Leave this socket to the client that connected to it; the next ones find another."""
        if door != self._newest:
            return
        try:
            self._file = self._doors[door].file.renewed()
            self._open(self._file)
        except (OSError, EngineError, PeerError) as error:
            self._warn(
                f"Clients that connect to {self._file.path} have to share one socket, so that one that stops"
                f" reading delays them all ({error}). Choose a path in a directory of the user as whom the"
                " daemon serves"
            )

    def _close_unused(self, door: int) -> None:
        if door != self._newest and not self._doors[door].clients:
            closed = self._doors.pop(door)
            self._switch.detach(endpoint=door)
            self._numbers.give_back(closed.number)
            closed.file.socket.close()

    # -- clients --------------------------------------------------------------------------------------

    def newcomer(self, door: int, address: bytes) -> bool:
        """See ``ports.base.Greeter``."""
        if door not in self._doors:
            return False
        refusal = self._meet(door, address)
        if refusal is not None:
            if refusal:
                self._warn(f"Client {_shown(address)} of {self._file.path} refused: {refusal}")
            # Its frames are dropped until then without another word.
            self._later(_REFUSED_SECONDS if refusal else _GONE_SECONDS, self._turn_away, door, address)
        return True

    def _turn_away(self, door: int, address: bytes) -> None:
        if door in self._doors:
            self._switch.admit(door=door, address=address)

    def _meet(self, door: int, address: bytes) -> str | None:
        """Plug a client in; else why not, empty when it has gone already."""
        if not address.startswith((b"/", b"\0")):
            return "its socket has a relative path, which only it understands; give it an absolute one"
        try:
            identity = _identity(address)
        except OSError:
            return ""
        known = self._guests.get(self._by_address.get(address, -1))
        if known is not None:
            if known.identity == identity and known.kind == "unixgram":
                # One that looks the path up for every frame, and found the fresh socket.
                self._switch.admit(door=door, address=address, endpoint=self._by_address[address])
                return None
            self._unplug(self._by_address[address], "it came back")
        if len(self._guests) >= _MOST:
            self._drop_dead()
        if len(self._guests) >= _MOST:
            return f"there are {_MOST} guests already"
        way = _way_to(address)
        try:
            if way == errno.EPERM:
                self._plug_in(door, address, identity, "reply", os.dup(self._doors[door].file.socket.fileno()))
                clients = self._doors[door].clients
                if len(clients) > 1:
                    for endpoint in clients:
                        self._switch.share_socket(endpoint=endpoint)
                self._renew(door)
            elif isinstance(way, socket.socket):
                self._plug_in(door, address, identity, "unixgram", way.detach())
            elif way == errno.EACCES:
                return (
                    "the daemon's user may not write to its socket; start it with umask 007 and in the daemon's"
                    " group, or let the daemon serve as its user with --user"
                )
            elif way in (errno.ENOENT, errno.ECONNREFUSED):
                return ""
            else:
                return os.strerror(way)
        except (OSError, EngineError, ValueError, PeerError) as error:
            return str(error)
        return None

    def _plug_in(self, door: int, address: bytes, identity: _Identity, kind: _Way, fd: int) -> None:
        """``fd`` is given away."""
        port = -1
        try:
            port = self._numbers.take()
            label = f"port {port} ({self._file.path.name}, {_shown(address)})"
            endpoint = self._attach(port=port, kind=kind, fd=fd, name=label, peer=address)
        except BaseException:
            os.close(fd)
            self._numbers.give_back(port)
            raise
        shown = PluggedIn(port, "dgram", label, _shown(address))
        self._guests[endpoint] = _Guest(address, identity, door, kind, shown)
        self._by_address[address] = endpoint
        if kind != "unixgram":
            self._doors[door].clients.add(endpoint)
        self._switch.admit(door=door, address=address, endpoint=endpoint)
        _log.info("%s plugged in", label, extra=shown.about("port_up", endpoint))

    def _unplug(self, endpoint: int, why: str, *, detach: bool = True) -> None:
        guest = self._guests.pop(endpoint)
        del self._by_address[guest.address]
        if detach:
            self._switch.detach(endpoint=endpoint)
        self._numbers.give_back(guest.shown.port)
        _log.info(
            "%s unplugged (%s)", guest.shown.label, why, extra=guest.shown.about("port_down", endpoint, why)
        )
        if guest.kind != "unixgram":
            self._doors[guest.door].clients.discard(endpoint)
            self._close_unused(guest.door)

    def endpoint_down(self, endpoint: int, reason: str) -> bool:
        """See ``ports.base.Listener``."""
        if endpoint not in self._guests:
            return False
        self._unplug(endpoint, reason, detach=False)
        return True

    def _look(self) -> None:
        self._drop_dead()
        self._later(_LOOK_SECONDS, self._look)

    def _drop_dead(self) -> None:
        for endpoint, guest in list(self._guests.items()):
            if not _is_there(guest):
                self._unplug(endpoint, "its socket is gone")

    # -- the rest -------------------------------------------------------------------------------------

    def _later(self, seconds: float, call: Callable[..., object], *arguments: object) -> None:
        def run() -> None:
            self._timers.discard(timer)
            call(*arguments)

        timer = asyncio.get_running_loop().call_later(seconds, run)
        self._timers.add(timer)

    def _warn(self, what: str) -> None:
        """Once; who makes names up may be told about again."""
        if what in self._warned:
            return
        if len(self._warned) >= _MOST:
            self._warned.clear()
        self._warned.add(what)
        _log.warning("%s", what)

    async def stop(self) -> None:
        """See ``ports.base.Listener``."""
        for timer in self._timers:
            timer.cancel()
        for endpoint in (*self._guests, *self._doors):
            self._switch.detach(endpoint=endpoint)
        for door in self._doors.values():
            door.file.remove()
        self._guests.clear()
        self._doors.clear()


def _enlarge(one: socket.socket) -> None:
    """Raise the buffers before the first frame; the engine leaves larger ones alone."""
    one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)


def _way_to(address: bytes) -> socket.socket | int:
    """A socket that is connected to the client, or the errno of the refusal."""
    own = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        own.setblocking(False)
        own.connect(address)
        _enlarge(own)
    except OSError as error:
        own.close()
        return error.errno or errno.EIO
    return own


def _identity(address: bytes) -> _Identity:
    """What tells a socket's file from the next one of that name. Raises OSError when there is none."""
    if address.startswith(b"\0"):
        return None
    # Numbers of inodes are used again, sometimes at once; nobody changes the time of a socket.
    status = os.lstat(address)
    if not stat.S_ISSOCK(status.st_mode):
        raise FileNotFoundError(errno.ENOENT, "no socket", address)  # a link, to lead us elsewhere
    return status.st_dev, status.st_ino, status.st_mtime_ns


def _is_there(guest: _Guest) -> bool:
    try:
        if _identity(guest.address) != guest.identity:
            return False
    except OSError:
        return False
    way = _way_to(guest.address)
    if isinstance(way, socket.socket):
        way.close()
        return True
    return way not in (errno.ECONNREFUSED, errno.ENOENT)


def _shown(address: bytes) -> str:
    """For the log: others chose it."""
    name = "@" + os.fsdecode(address[1:]) if address.startswith(b"\0") else Path(os.fsdecode(address)).name
    return "".join(letter if letter.isprintable() else "?" for letter in name)
