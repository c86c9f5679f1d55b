"""Serve a VDE switch directory: QEMU's ``-netdev vde``, vde_plug, and everything on libvdeplug plug in here.

One task a client: read its request, make and connect the data socket, hand it to the engine, answer, then
wait for the control connection to end, which is how a VDE client unplugs.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import stat
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from vde_vmnet._engine import EngineError
from vde_vmnet.errors import PeerError
from vde_vmnet.ports.acceptor import Acceptor, peer_process
from vde_vmnet.ports.base import KICKED, Guest, Switch
from vde_vmnet.ports.numbers import VdePorts
from vde_vmnet.sockets import SwitchDirectory
from vde_vmnet.wire import vde

__all__ = ["VdeSwitchListener"]

_log = logging.getLogger(__name__)

#: A client sends its request right after it connects. The reference waits for ever; a client that says
#: nothing would then hold a descriptor for ever.
_HANDSHAKE_SECONDS = 10.0
#: A batch of QEMU's largest frames in each direction; the kernel's default holds 93 full frames.
_SOCKET_BUFFER = 1 << 20


@dataclass
class _Plug:
    """One plugged-in client."""

    guest: Guest
    endpoint: int
    socket_path: Path
    #: Why it is unplugged, if not by itself.
    reason: str = ""


class VdeSwitchListener:
    """Listener for one switch directory. See ``ports.base.Listener``."""

    def __init__(self, directory: SwitchDirectory, switch: Switch, *, ports: VdePorts) -> None:
        self._directory = directory
        self._ports = ports
        self._switch = switch
        self._acceptor: Acceptor | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._plugs: dict[int, tuple[_Plug, asyncio.Task[None]]] = {}

    # -- accepting ------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to accept clients. Raises OSError."""
        self._acceptor = Acceptor(self._directory.listen(), self._accept)

    def how_to_plug_in(self) -> str:
        """See ``ports.base.Listener``."""
        return f"-netdev vde,id=net0,sock={self._directory.path}"

    def _accept(self, connection: socket.socket) -> None:
        task = asyncio.ensure_future(self._serve(connection))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- one client -----------------------------------------------------------------------------------

    async def _serve(self, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        plug: _Plug | None = None
        try:
            peer_pid, peer_uid = peer_process(connection)
            async with asyncio.timeout(_HANDSHAKE_SECONDS):
                data = await loop.sock_recv(connection, vde.MAX_REQUEST + 1)
            if not data:
                _log.debug("Client pid %d connected and left without a word", peer_pid)
                return
            plug = self._plug_in(vde.parse_request(data), peer_pid, peer_uid, connection)
            # Anything after the handshake, be it the end or a byte, means that the client is done.
            if await loop.sock_recv(connection, 1):
                _log.warning("%s sent a second request on its control connection; unplugged", plug.guest.label)
                plug.reason = "second request"
        except PeerError as error:
            _log.warning("Client refused: %s", error)
        except TimeoutError:
            _log.warning("Client refused: it sent no request for %g s", _HANDSHAKE_SECONDS)
        except ConnectionError as error:
            _log.debug("Client's control connection: %s", error)
        except (OSError, EngineError) as error:
            # Ours, not the client's: no descriptors, no space in the directory's file system, engine ended.
            _log.error("Client could not be plugged in: %s", error)
        finally:
            connection.close()
            if plug is not None:
                self._unplug(plug)

    def _plug_in(
        self, request: vde.PlugRequest, peer_pid: int, peer_uid: int, connection: socket.socket
    ) -> _Plug:
        """Everything between request and reply, without waiting. Raises PeerError, with nothing left."""
        _check_client_socket(request.path, peer_uid)
        wanted = 0 if request.port0 else request.port
        port = self._ports.allocate(wanted, peer_uid, request.description)
        try:
            return self._plug_into(port, request, peer_pid, peer_uid, connection)
        except BaseException:
            self._ports.release(port)
            raise

    def _plug_into(
        self, port: int, request: vde.PlugRequest, peer_pid: int, peer_uid: int, connection: socket.socket
    ) -> _Plug:
        label = f"port {port} ({request.description or f'pid {peer_pid}'})"
        data = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        data.setblocking(False)
        path = self._directory.path / f"{port:03d}.{data.fileno()}"
        try:
            data.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BUFFER)
            data.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SOCKET_BUFFER)
            # Before the reply: vdeplug4 unlinks its path as soon as it has it.
            try:
                data.connect(request.path)
            except OSError as error:
                raise _cannot_reach(request, error) from None
            with suppress(FileNotFoundError):
                path.unlink()
            data.bind(os.fspath(path))
            self._directory.hand_out(path)
            endpoint = self._switch.attach(port=port, kind="dgram", fd=data.fileno(), name=label)
        except BaseException:
            data.close()
            with suppress(OSError):
                path.unlink()
            raise
        data.detach()  # the engine's from here on
        guest = Guest(port, "vde", label, request.description, peer_pid or None, peer_uid)
        plug = _Plug(guest, endpoint, path)
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - only called from _serve
        self._plugs[endpoint] = (plug, task)
        try:
            sent = connection.send(vde.encode_reply(os.fsencode(path)))
        except OSError:
            sent = 0  # it left meanwhile; the end of the connection says so once more
        if sent:
            _log.info("%s plugged in", label, extra=guest.about("port_up", endpoint))
        else:
            _log.debug("%s left before the reply", label)
        return plug

    def _unplug(self, plug: _Plug) -> None:
        if self._plugs.pop(plug.endpoint, None) is None:
            return
        # File first: the descriptor's number, which is in its name, is free for the next client after it.
        with suppress(OSError):
            plug.socket_path.unlink()
        self._switch.detach(endpoint=plug.endpoint)
        self._ports.release(plug.guest.port)
        _log.info(
            "%s unplugged%s",
            plug.guest.label,
            f" ({plug.reason})" if plug.reason == KICKED else "",
            extra=plug.guest.about("port_down", plug.endpoint, plug.reason),
        )

    # -- the engine's word, and the end ---------------------------------------------------------------

    def endpoint_down(self, endpoint: int, reason: str) -> bool:
        """See ``ports.base.Listener``: the client's task ends, which unplugs it."""
        entry = self._plugs.get(endpoint)
        if entry is None:
            return False
        plug, task = entry
        _log.warning("%s lost: %s", plug.guest.label, reason)
        plug.reason = reason
        task.cancel()
        return True

    def label(self, endpoint: int) -> str | None:
        """See ``ports.base.Listener``."""
        entry = self._plugs.get(endpoint)
        return entry[0].guest.label if entry else None

    def guests(self) -> Mapping[int, Guest]:
        """See ``ports.base.Listener``."""
        return {endpoint: plug.guest for endpoint, (plug, _) in self._plugs.items()}

    def kick(self, endpoint: int) -> bool:
        """See ``ports.base.Listener``: the client's task ends, which unplugs it."""
        entry = self._plugs.get(endpoint)
        if entry is None:
            return False
        plug, task = entry
        plug.reason = KICKED
        task.cancel()
        return True

    async def stop(self) -> None:
        """See ``ports.base.Listener``."""
        if self._acceptor is not None:
            self._acceptor.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._directory.close()


def _check_client_socket(path: bytes, uid: int) -> None:
    """Refuse a path that is not the client's own socket: frames for it must not go to somebody else's."""
    if path.startswith(b"\0"):
        return
    shown = os.fsdecode(path)
    if not path.startswith(b"/"):
        raise PeerError(f'Client socket "{shown}" is not an absolute path')
    try:
        status = os.lstat(path)
    except OSError as error:
        raise PeerError(f'Client socket "{shown}": {os.strerror(error.errno or 0)}') from None
    if not stat.S_ISSOCK(status.st_mode):
        raise PeerError(f'Client socket "{shown}" is not a socket')
    if uid not in (0, status.st_uid):
        raise PeerError(
            f'Client socket "{shown}" belongs to user id {status.st_uid}, not to the client ({uid})'
        )


def _cannot_reach(request: vde.PlugRequest, error: OSError) -> PeerError:
    shown = os.fsdecode(request.path).replace("\0", "@")
    if error.errno == errno.EACCES:
        return PeerError(
            f'Client socket "{shown}" of "{request.description}" may not be written by the daemon\'s user',
            next_step="Give the client mode=0770 and the switch's group, or serve as its user with --user",
        )
    return PeerError(f'Client socket "{shown}" of "{request.description}": {os.strerror(error.errno or 0)}')
