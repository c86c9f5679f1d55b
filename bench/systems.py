"""The systems under test: how ours and its rivals are started, and what is asked of them while they run.

A scenario sees a ``Running`` and cannot tell which one it is.
"""

from __future__ import annotations

import enum
import grp
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Protocol

from bench import processes
from bench.compare import OURS, PASST, REFERENCE
from bench.errors import BenchError
from bench.netns import Namespace
from bench.pidfile import PidfileWatch
from vde_vmnet.demo.accounts import unprivileged_account
from vde_vmnet.errors import UnavailableError

__all__ = [
    "GATEWAY",
    "GUEST",
    "PREFIX_LENGTH",
    "Command",
    "Passt",
    "Running",
    "System",
    "Uplink",
    "VdeSwitch",
    "VdeVmnet",
    "socket_group",
    "start",
    "stop",
]

#: The host's address on the segment, where there is an uplink; guests take addresses of the same /24.
GATEWAY = "192.168.105.1"
PREFIX_LENGTH = 24
#: The address of the guest, where there is one.
GUEST = "192.168.105.2"

#: Far above every promise: a system that needs longer is broken, not slow.
_READY_SECONDS = 20.0
_STOP_SECONDS = 10.0
#: More than any scenario plugs in; vde_switch has 32 without being told.
_PORTS = 512
#: The interface of ``vde_switch -tap``.
_TAP = "vdetap0"
#: The host's own address on the interface that passt looks at; the guest has another one.
_PASST_HOST = "192.168.105.9"
_IPERF3_PORT = 5201


class Uplink(enum.Enum):
    """What the switch is connected to besides its plugs."""

    NONE = "none"
    #: The host, by a TAP in a network namespace.
    HOST = "host"
    #: The same, and addresses are handed out.
    HOST_DHCP = "host with DHCP"
    #: The host; the guest is on a stream socket.
    HOST_BY_STREAM = "host, by a stream socket"
    #: The host, by the simulated framework of macOS (``simulated.py``).
    VMNET = "host, by simulated vmnet"
    #: The same; the guest is on a stream socket.
    VMNET_BY_STREAM = "host, by simulated vmnet and a stream socket"

    @property
    def by_stream(self) -> bool:
        """Whether guests are on a stream socket."""
        return self in (Uplink.HOST_BY_STREAM, Uplink.VMNET_BY_STREAM)


class System(Protocol):
    """One competitor."""

    name: str

    def unavailable_reason(self) -> str | None:
        """Why it cannot be started here, as one sentence, or None."""

    def version(self) -> str:
        """As the program says it."""

    def offers(self, uplink: Uplink) -> bool:
        """Whether it has such an uplink at all."""

    def start(self, uplink: Uplink) -> Running:
        """Start it and wait until it is ready. Raises BenchError."""


@dataclass
class Running:
    """A system that is ready; a context manager that stops it and removes what it left."""

    #: The switch directory, or the socket of ``Uplink.HOST_BY_STREAM``.
    directory: Path
    #: From the start of the program to its pidfile.
    ready_seconds: float
    #: None without an uplink.
    namespace: Namespace | None
    _process: subprocess.Popen[bytes]
    _log: Path
    _cleanup: ExitStack = field(repr=False)
    #: By which the host reaches the guest's services.
    guest_address: str = GUEST
    #: Programs that belong to the system and were not started by it.
    _beside: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def add(self, process: subprocess.Popen[bytes]) -> None:
        """A program that belongs to the system; it is stopped first."""
        self._beside.append(process)
        self._cleanup.callback(stop, process)

    def process_ids(self) -> list[int]:
        """All processes of the system, helpers included."""
        return [one for process in (self._process, *self._beside) for one in processes.tree(process.pid)]

    def activity(self) -> processes.Activity:
        return processes.activity(self.process_ids())

    def memory(self) -> processes.Memory:
        return processes.memory(self.process_ids())

    def leave_alone(self, seconds: float) -> None:
        """Wait. Raises BenchError when the system ends meanwhile."""
        ended = os.pidfd_open(self._process.pid)
        try:
            select.select([ended], [], [], seconds)
        finally:
            os.close(ended)
        self.check()

    def check(self) -> None:
        """Raises BenchError when it has ended by itself."""
        for process in (self._process, *self._beside):
            if process.poll() is not None:
                raise BenchError(f"ended with status {process.returncode}: {_last_words(self._log)}")

    def __enter__(self) -> Running:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._cleanup.close()


class VdeVmnet:
    """Ours: the installed command, or another build of it for a comparison of before and after."""

    name = OURS

    def __init__(self, command: Path) -> None:
        self._command = command

    def unavailable_reason(self) -> str | None:
        return None if os.access(self._command, os.X_OK) else f"{self._command} is not there; run make build"

    def version(self) -> str:
        return _first_line([str(self._command), "--version"])

    def offers(self, uplink: Uplink) -> bool:
        return uplink not in (Uplink.VMNET, Uplink.VMNET_BY_STREAM)

    def start(self, uplink: Uplink) -> Running:
        options = [
            f"--vde-group={socket_group()}",
            f"--backend={'none' if uplink is Uplink.NONE else 'linux'}",
        ]
        if uplink is not Uplink.NONE:
            options.append(f"--vmnet-gateway={GATEWAY}")
        if uplink in (Uplink.HOST, Uplink.HOST_BY_STREAM):
            options.append("--vmnet-disable-dhcp")
        if uplink is Uplink.HOST_BY_STREAM:
            return _start(
                uplink,
                lambda folder: [str(self._command), *options, *_pidfile(folder), "--stream", _switch(folder)],
            )
        return _start(uplink, lambda folder: [str(self._command), *options, *_pidfile(folder), _switch(folder)])


class VdeSwitch:
    """Debian's, with default buffers; its TAP gets the gateway's address by our hand."""

    name = REFERENCE

    def unavailable_reason(self) -> str | None:
        if shutil.which("vde_switch") is None:
            return "the program vde_switch is missing; on Debian: apt-get install vde-switch"
        return None

    def version(self) -> str:
        return _first_line(["vde_switch", "--version"])

    def offers(self, uplink: Uplink) -> bool:
        return uplink in (Uplink.NONE, Uplink.HOST)

    @staticmethod
    def command(uplink: Uplink) -> Command:
        """What starts it; also for those who need a switch beside them."""
        options = ["--numports", str(_PORTS), "--mode", "0660", "--group", socket_group()]
        if uplink is Uplink.HOST:
            options += ["--tap", _TAP]
        return lambda folder: ["vde_switch", *options, *_pidfile(folder), "--sock", _switch(folder)]

    def start(self, uplink: Uplink) -> Running:
        running = _start(uplink, self.command(uplink))
        try:
            if running.namespace is not None:
                running.namespace.run("ip", "address", "add", f"{GATEWAY}/{PREFIX_LENGTH}", "dev", _TAP)
                running.namespace.run("ip", "link", "set", _TAP, "up")
        except BenchError:
            running.__exit__(None, None, None)
            raise
        return running


class Passt:
    """Debian's, with its defaults but for what a guest with a fixed address and an MTU of 1500 needs.

    It ends the guest's TCP connections itself and opens others on the host: the guest's port is the host's own.
    """

    name = PASST

    def unavailable_reason(self) -> str | None:
        if shutil.which("passt") is None:
            return "the program passt is missing; on Debian: apt-get install passt"
        return None

    def version(self) -> str:
        return _first_line(["dpkg-query", "--show", "--showformat=${Version}", "passt"])

    def offers(self, uplink: Uplink) -> bool:
        return uplink is Uplink.HOST_BY_STREAM

    def start(self, uplink: Uplink) -> Running:
        network = ("--address", GUEST, "--netmask", str(PREFIX_LENGTH), "--gateway", GATEWAY, "--mtu", "1500")
        ports = ("--tcp-ports", str(_IPERF3_PORT))

        def command(folder: Path) -> list[str]:
            # It becomes the user nobody before it makes these.
            for place in (folder, folder / "run"):
                place.chmod(0o777)
            options = ("--foreground", "--ipv4-only", *network, *ports)
            return ["passt", *options, "--pid", str(folder / "run" / "pid"), "--socket", _switch(folder)]

        running = _start(uplink, command, _give_route)
        running.guest_address = "127.0.0.1"
        # Made for its own user only.
        running.directory.chmod(0o777)
        return running


def _give_route(namespace: Namespace) -> None:
    """passt takes its bearings from an interface with a default route."""
    namespace.run("ip", "link", "add", "out0", "type", "veth", "peer", "name", "out1")
    namespace.run("ip", "address", "add", f"{_PASST_HOST}/{PREFIX_LENGTH}", "dev", "out0")
    namespace.run("ip", "link", "set", "out0", "up")
    namespace.run("ip", "link", "set", "out1", "up")
    namespace.run("ip", "route", "add", "default", "via", GATEWAY)


def socket_group() -> str:
    """Who may plug in: the group of the user that guests run as."""
    if os.geteuid() != 0:
        return grp.getgrgid(os.getegid()).gr_name
    try:
        return unprivileged_account().group
    except UnavailableError as error:
        raise BenchError(str(error)) from error


class Command(Protocol):
    """The command line of a system, which keeps what it makes below ``folder``."""

    def __call__(self, folder: Path) -> list[str]: ...


def _pidfile(folder: Path) -> list[str]:
    return ["--pidfile", str(folder / "run" / "pid")]


def _switch(folder: Path) -> str:
    return str(folder / "switch")


def _start(uplink: Uplink, command: Command, prepare: Callable[[Namespace], None] | None = None) -> Running:
    namespace = None
    if uplink is not Uplink.NONE:
        namespace = Namespace()
        if prepare is not None:
            try:
                prepare(namespace)
            except BenchError:
                namespace.close()
                raise
    return start(command, namespace)


def start(
    command: Command, namespace: Namespace | None, environment: Mapping[str, str] | None = None
) -> Running:
    """Start a system and wait for its pidfile. ``namespace`` goes with it. Raises BenchError."""
    with ExitStack() as undo:
        if namespace is not None:
            undo.callback(namespace.close)
        folder = Path(tempfile.mkdtemp(prefix="vde-bench-", dir="/tmp"))
        undo.callback(shutil.rmtree, folder, ignore_errors=True)
        # Others pass through to the switch directory, whose own mode decides.
        folder.chmod(0o755)
        (folder / "run").mkdir()
        watch = PidfileWatch(folder / "run" / "pid")
        undo.callback(watch.close)
        log = folder / "log"
        prefix = namespace.prefix() if namespace else []
        with log.open("wb") as output:
            before = time.monotonic()
            # vde_switch ends when its standard input does, hence the pipe.
            process = subprocess.Popen(
                [*prefix, *command(folder)],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                env=environment,
            )
        undo.callback(stop, process)
        try:
            watch.wait(process, _READY_SECONDS)
        except BenchError as error:
            raise BenchError(f"{Path(command(folder)[0]).name} {error}: {_last_words(log)}") from None
        ready = time.monotonic() - before
        return Running(folder / "switch", ready, namespace, process, log, undo.pop_all())


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a program whose standard input is a pipe, by force if need be."""
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    assert process.stdin is not None
    process.stdin.close()


def _last_words(log: Path) -> str:
    return " / ".join(log.read_text(errors="replace").strip().splitlines()[-3:]) or "no message"


def _first_line(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return next((line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()), "unknown")
