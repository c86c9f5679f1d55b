"""The client's half of the VDE handshake: what ``ports/vde_plug.py`` and the Python API plug in with.

``begin`` does everything up to the request, ``finish`` everything from the reply on, so that the wait between
them can be done by an event loop or by a blocking ``recv``.
"""

from __future__ import annotations

import errno
import itertools
import os
import socket
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from vde_vmnet.errors import ConflictError, PeerError, PrivilegeError, UnavailableError, VdeVmnetError
from vde_vmnet.wire import vde

__all__ = ["REPLY_SECONDS", "PlugTarget", "VdeClient"]

_CONTROL = "ctl"
#: A switch answers within milliseconds. vde_switch 2.3.2 refuses by saying nothing at all.
REPLY_SECONDS = 3.0
#: Some 450 full frames a direction; the kernel's default holds 93.
_BUFFER = 1 << 20
#: Where clients bind when the switch directory is not writable for them: the reference's list.
_FALLBACKS = (Path("/var/run"), Path("/var/tmp"), Path("/tmp"))  # noqa: S108


@dataclass(frozen=True)
class PlugTarget:
    """Where to plug in, and how."""

    #: The switch directory.
    directory: Path
    #: Port to ask for, from 1; 0 is the management port; None lets the switch choose.
    port: int | None = None
    #: Group that our data socket is given to, so that a switch that is not root's reaches it.
    gid: int | None = None
    #: Shown by the switch.
    description: str = "vde_vmnet"

    @property
    def shown(self) -> str:
        """As the user wrote it: ``/var/run/vde.ctl[3]``."""
        return str(self.directory) if self.port is None else f"{self.directory}[{self.port}]"


class VdeClient:
    """One plug of ours in a switch. ``control`` ends when the switch does; frames are datagrams on ``data``."""

    def __init__(self, target: PlugTarget, control: socket.socket, data: socket.socket, own: Path) -> None:
        self.target = target
        self.control = control
        self.data = data
        self._own: Path | None = own

    @classmethod
    def plug_in(cls, target: PlugTarget, *, timeout: float = REPLY_SECONDS) -> VdeClient:
        """The whole handshake; blocks at most ``timeout`` seconds. Both sockets are non-blocking afterwards.

        Raises UnavailableError (no switch there), PrivilegeError (not for this user), ConflictError (it
        refuses the port), PermissionError where the caller may do better with other rights.
        """
        client = cls.begin(target)
        try:
            client.control.settimeout(timeout)
            try:
                reply = client.control.recv(vde.REPLY_SIZE)
            except TimeoutError:
                raise client.silent() from None
            except ConnectionError:
                reply = b""
            client.finish(reply)
        except BaseException:
            client.close()
            raise
        return client

    @classmethod
    def begin(cls, target: PlugTarget) -> VdeClient:
        """Connect, bind and send the request, without waiting. Raises as ``plug_in``."""
        control = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        data = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        own = None
        try:
            control.setblocking(False)
            data.setblocking(False)
            path = target.directory / _CONTROL
            try:
                control.connect(os.fspath(path))
            except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError, BlockingIOError) as error:
                raise UnavailableError(
                    f'No VDE switch answers at "{target.directory}": {os.strerror(error.errno or 0)}',
                    next_step="Start it first",
                ) from None
            for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
                data.setsockopt(socket.SOL_SOCKET, option, _BUFFER)
            own = _bind(data, target.directory)
            _open_to_switch(own, path, target.gid)
            request = vde.PlugRequest(
                path=os.fsencode(own),
                port=target.port or None,
                description=target.description,
                port0=target.port == 0,
            )
            try:
                control.send(vde.encode_request(request))
            except ConnectionError:
                raise _refused(target) from None
            return cls(target, control, data, own)
        except BaseException:
            control.close()
            data.close()
            if own is not None:
                with suppress(OSError):
                    own.unlink()
            raise

    def finish(self, reply: bytes) -> None:
        """Take the reply (empty: the switch closed) and connect. Raises ConflictError, PeerError."""
        try:
            if not reply:
                raise _refused(self.target)
            path = vde.parse_reply(reply)
            # Its data sockets are in its directory. Anything else would send our frames somewhere else.
            shown = os.fsdecode(path)
            if "\0" in shown or Path(shown).parent.resolve() != self.target.directory.resolve():
                raise PeerError(f'The switch at "{self.target.directory}" named a socket outside it: {shown!r}')
            try:
                self.data.connect(path)
            except OSError as error:
                raise PeerError(
                    f'The switch at "{self.target.directory}" named a socket that cannot be used:'
                    f" {os.strerror(error.errno or 0)}"
                ) from None
        finally:
            self._unlink()
        self.control.setblocking(False)

    def silent(self) -> VdeVmnetError:
        """What no answer in time means."""
        return ConflictError(
            f'The VDE switch at "{self.target.shown}" does not answer, which is how some refuse a port that is'
            " taken or too high",
            next_step="Choose another port number, or leave [N] out",
        )

    def close(self) -> None:
        """Unplug: the end of the control connection is how a switch is told."""
        self.data.close()
        self.control.close()
        self._unlink()

    def _unlink(self) -> None:
        """As vdeplug4: the switch has connected by now, so that the name is of no more use."""
        if self._own is not None:
            with suppress(OSError):
                self._own.unlink()
            self._own = None


def _bind(data: socket.socket, directory: Path) -> Path:
    """Bind under a name that nobody has; returns it."""
    pid = os.getpid()
    refusal: OSError | None = None
    for number, place in enumerate((directory, *_FALLBACKS)):
        pattern = ".{:05d}-{:05d}" if number == 0 else "vde.{:05d}-{:05d}"
        for count in itertools.count():
            path = place / pattern.format(pid, count)
            try:
                data.bind(os.fspath(path))
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    continue
                refusal = error
                break
            return path
    raise PrivilegeError(
        f'No socket can be made in "{directory}" or {", ".join(map(str, _FALLBACKS))}:'
        f" {refusal.strerror if refusal else 'no place'}"
    )


def _open_to_switch(own: Path, control: Path, gid: int | None) -> None:
    """Owner, group and mode of our socket, so that the switch may write to it: the reference's rules."""
    mode = 0o700
    if gid is not None:
        with suppress(PermissionError):  # as libvdeplug: not a member, so it stays ours
            os.chown(own, -1, gid, follow_symlinks=False)
            mode = 0o770
    status = control.stat()
    if mode == 0o700 and status.st_uid not in (0, os.geteuid()):
        try:
            os.chown(own, -1, status.st_gid, follow_symlinks=False)
            mode = 0o770
        except PermissionError:
            mode = 0o777
    if stat.S_ISSOCK(own.lstat().st_mode):
        own.chmod(mode)


def _refused(target: PlugTarget) -> ConflictError:
    return ConflictError(
        f'The VDE switch at "{target.shown}" refused the plug: no free port, or the port is somebody else\'s',
        next_step="Choose another port number, or leave [N] out",
    )
