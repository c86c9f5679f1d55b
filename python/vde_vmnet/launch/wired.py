"""The network of a command: a private daemon, or one that runs; and one connection to it.

Everything that a private network has in the file system is made by its daemon, which removes it also when we
are killed: the command's connection is a socket pair, of which the daemon has the other end (``--fd``), and it
ends when nobody is left at ours. Names are random, in a folder of this user where there is one.
"""

from __future__ import annotations

import enum
import errno
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from vde_vmnet.demo.daemon_process import DaemonProcess
from vde_vmnet.errors import ConfigurationError, PrivilegeError, UnavailableError, UplinkError, VdeVmnetError
from vde_vmnet.launch.command import end_with_parent
from vde_vmnet.launch.descriptor import Descriptor
from vde_vmnet.vde_client import PlugTarget, VdeClient

__all__ = ["DescriptorType", "PrivateNetwork", "connect", "private_place"]

_NUMBERED = re.compile(r"(?s)(.+)\[(\d+)\]")
#: Some hundred full frames a direction; what the daemon asks for at its end.
_BUFFER = 1 << 20


class DescriptorType(enum.Enum):
    """``--fd-type``: what the command's descriptor is."""

    STREAM = "stream"
    DGRAM = "dgram"


class PrivateNetwork:
    """A daemon that only one command is on. A context manager that stops it."""

    def __init__(
        self,
        options: Sequence[str],
        kind: DescriptorType | None,
        *,
        directory: Path,
        log: Path | None,
        closing: ExitStack,
    ) -> None:
        """Start it, and wait until it is ready. ``closing`` gets what must be taken down. ``kind`` is that of
        the connection; without one the command has another way in. ``directory`` is from ``private_place``.
        What the daemon says is appended to ``log``.

        Raises VdeVmnetError with the daemon's own reason and status.
        """
        #: Where others may plug in.
        self.directory = directory
        types = {DescriptorType.STREAM: socket.SOCK_STREAM, DescriptorType.DGRAM: socket.SOCK_DGRAM}
        #: The command's end. Kept here too, so that the network outlives the command.
        self.connection: socket.socket | None = None
        passed: list[socket.socket] = []
        if kind is not None:
            ours, theirs = socket.socketpair(socket.AF_UNIX, types[kind])
            self.connection = closing.enter_context(ours)
            for end in (ours, theirs):
                for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
                    end.setsockopt(socket.SOL_SOCKET, option, _BUFFER)
            passed.append(theirs)
        # Without a name, so that nothing stays of it after kill -9.
        unnamed = closing.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 - it is one
        with ExitStack() as started:
            for theirs in passed:
                started.enter_context(theirs)
            numbers = [theirs.fileno() for theirs in passed]
            self._daemon = closing.enter_context(
                DaemonProcess(
                    self.directory,
                    (*options, *(f"--fd={number}" for number in numbers)),
                    pidfile=directory.with_name(f"{directory.name}.pid"),
                    log=log or Path(f"/dev/fd/{unnamed.fileno()}"),
                    prepare=partial(end_with_parent, signal.SIGTERM, os.getpid()),
                    pass_fds=numbers,
                )
            )
        self._lost = False
        try:
            self._daemon.wait_ready()
        except UplinkError as error:
            raise self._refusal() or error from None

    def _refusal(self) -> VdeVmnetError | None:
        """What the daemon said when it would not start; None when it said nothing of the kind."""
        status = self._daemon.process.poll()
        said = re.findall(
            r"^(?:\S+ \S+ )?ERROR \| (.+)$", self._daemon.log.read_text(errors="replace"), re.MULTILINE
        )
        if not status or status < 0 or not said:
            return None
        refusal = VdeVmnetError(f"The private network could not be opened. {said[-1]}")
        refusal.exit_code = status
        return refusal

    def loss(self) -> UplinkError | None:
        """Why the network is gone, once; None while it is there."""
        status = self._daemon.process.poll()
        if self._lost or status is None:
            return None
        self._lost = True
        return UplinkError(
            f"The network is gone: its daemon ended with status {status}: {self._daemon.words()}"
        )

    def stop(self) -> None:
        """Take it down. Raises UplinkError when that was no clean end."""
        if self._lost or self.loss() is not None:
            return
        try:
            status = self._daemon.stop()
        except subprocess.TimeoutExpired:
            status = -signal.SIGKILL
        if status != 0:
            raise UplinkError(f"The network was taken down with status {status}: {self._daemon.words()}")


def private_place() -> Path:
    """Where a private network's switch directory is to be: a name that nobody has."""
    return _runtime_folder() / f"vde_vmnet-run-{secrets.token_hex(4)}"


def _runtime_folder() -> Path:
    if os.geteuid() == 0:
        return Path("/var/run" if sys.platform == "darwin" else "/run")
    own = Path(os.environ.get("XDG_RUNTIME_DIR", ""))
    return own if own.is_absolute() and os.access(own, os.W_OK | os.X_OK) else Path(tempfile.gettempdir())


def connect(
    address: str, wanted: DescriptorType | None, descriptor: Descriptor, closing: ExitStack
) -> DescriptorType:
    """Fill ``descriptor`` with a connection to a switch directory (``DIRECTORY[N]`` for port N), which is one
    of datagrams, or to a stream socket; says which. ``wanted`` is what is asked for; None takes what there is.

    ``closing`` gets what must be closed when the command has ended, not before.
    Raises UnavailableError (nobody serves there), PrivilegeError, ConfigurationError (of the other kind),
    ConflictError (the port is taken).
    """
    path = Path(address)
    try:
        kind = DescriptorType.STREAM if path.is_socket() else DescriptorType.DGRAM
        if wanted not in (None, kind):
            what = "stream socket" if kind is DescriptorType.STREAM else "switch directory"
            raise ConfigurationError(
                f'"{address}" has no --fd-type={wanted.value}: it is a {what}',
                next_step="Name another place with --network, or leave --fd-type out",
            )
        if kind is DescriptorType.STREAM:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
                    connection.setsockopt(socket.SOL_SOCKET, option, _BUFFER)
                connection.connect(os.fspath(path))
                descriptor.fill(connection)
        else:
            named = _NUMBERED.fullmatch(address)
            directory, port = (named[1], int(named[2])) if named else (address, None)
            # Its control connection says that we are plugged in.
            client = VdeClient.plug_in(
                PlugTarget(Path(directory).resolve(), port=port, description=f"run {os.getpid()}")
            )
            closing.callback(client.close)
            descriptor.fill(client.data)
            client.data.close()
    except PermissionError:
        raise PrivilegeError(
            f'This user may not use "{address}"', next_step="See its owner, group and mode with ls -l"
        ) from None
    except (ConnectionRefusedError, FileNotFoundError):
        raise UnavailableError(f'Nobody serves at "{address}"', next_step="Start a network there") from None
    except OSError as error:
        if error.errno != errno.EPROTOTYPE:
            raise
        raise ConfigurationError(
            f'"{address}" is a socket of datagrams, which has no connections',
            next_step="Name a switch directory or a stream socket of the same network",
        ) from None
    return kind
