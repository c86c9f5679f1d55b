"""The keeper: the process that stays root so that what was done with privilege can be undone.

It is small on purpose: standard library, no frame, no file or socket that a guest or client can write. It
waits for three things: the worker's requests on a socket pair, the end of the worker (or of a service it
watches), and signals. However the worker ends, the keeper undoes and exits with the worker's status; when the
keeper dies, the worker sees the socket pair end and ends too. Which of the two was started by the user is the
uplink's affair: ``Keeper`` is the parent of its worker, ``ChildKeeper`` the child.

Requests are one JSON object a line. The worker has dropped its privilege and parses what guests write, so
each request is checked as if a stranger had sent it.
"""

from __future__ import annotations

import json
import logging
import os
import selectors
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from ipaddress import IPv4Address
from pathlib import Path
from types import FrameType

from vde_vmnet import errors
from vde_vmnet.addresses import Forward, MacAddress, Reservation
from vde_vmnet.errors import InternalError, UplinkError, VdeVmnetError

__all__ = [
    "STOP_SIGNALS",
    "ChildKeeper",
    "Keeper",
    "KeeperChannel",
    "Stopped",
    "hold_stop_signals",
    "let_stop_signals_in",
    "stop_raises",
    "stop_waits",
]

_log = logging.getLogger(__name__)

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
#: A worker that was told to stop and does not is killed after this time, in seconds; it normally takes
#: milliseconds, and launchd and systemd kill us after 20 and 90.
_STOP_SECONDS = 5.0
_MAX_REQUEST = 4096


class Stopped(BaseException):
    """A stop signal came while the network was being opened. Not an error: undo and leave with status 0."""


@contextmanager
def stop_raises() -> Iterator[None]:
    """Within the block the stop signals raise Stopped, so that a half-opened network is undone.

    The first one does; others are held from then on, so that they do not cut the undoing short.
    """

    def handler(number: int, _frame: FrameType | None) -> None:
        hold_stop_signals()
        raise Stopped(signal.Signals(number).name)

    former = {number: signal.signal(number, handler) for number in STOP_SIGNALS}
    try:
        yield
    finally:
        for number, old in former.items():
            # Unless the block has made other arrangements, as the worker's end does.
            if signal.getsignal(number) is handler:
                signal.signal(number, old)


def hold_stop_signals() -> None:
    """Stop signals wait until whoever keeps or serves has handlers of its own, and lets them in."""
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)


def let_stop_signals_in() -> None:
    """Those that were held come now."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)


@contextmanager
def stop_waits() -> Iterator[None]:
    """Within the block stop signals wait: for what must not be cut between doing and noting how to undo."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Keeper:
    """Wait for the worker to end, serve its few requests, and return its exit status."""

    def __init__(
        self,
        channel: socket.socket,
        worker: int,
        *,
        on_ready: Callable[[], object],
        open_guest_mac: Callable[[str], tuple[int, str]],
        reserve: Callable[[Reservation, bool], None],
        forward: Callable[[Forward, bool], None],
        reload: Callable[[], str],
        prepare: Callable[[], None] | None = None,
        lead_forward: Callable[[int, IPv4Address], None] | None = None,
    ) -> None:
        """``channel``: our end of the pair. ``worker``: its pid.

        What the worker may ask for, each of which may raise VdeVmnetError: ``open_guest_mac``, a descriptor and
        its name for one more guest MAC; ``reserve``, keep an address for a guest, or no longer; ``forward``,
        open a way in, or close it; ``reload``, have services look again; ``prepare``, what the uplink needs
        for its ``open`` in the worker, once (None where it is opened here); ``lead_forward``, have the forward
        of this number lead to another guest (None where nobody follows guests)."""
        self._channel = channel
        self._worker = worker
        self._on_ready = on_ready
        self._open_guest_mac = open_guest_mac
        self._reserve = reserve
        self._forward = forward
        self._reload = reload
        self._prepare = prepare
        self._lead_forward = lead_forward
        self._stopping = False
        self._buffer = b""
        self._status: int | None = None
        self._failure: VdeVmnetError | None = None

    def run(self) -> int:
        """Blocks until the worker has ended. Raises UplinkError or InternalError when that was no clean end."""
        waker, wakened = socket.socketpair()
        for end in (waker, wakened):
            end.setblocking(False)
        former_fd = signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
        former = {number: signal.signal(number, self._on_signal) for number in (*STOP_SIGNALS, signal.SIGCHLD)}
        let_stop_signals_in()
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(wakened, selectors.EVENT_READ)
                selector.register(self._channel, selectors.EVENT_READ)
                self._reap()  # it may have ended before the handler was there
                while self._status is None:
                    ready = selector.select(_STOP_SECONDS if self._stopping else None)
                    if not ready and self._stopping:
                        _log.error("The worker did not stop within %g s; killing it", _STOP_SECONDS)
                        os.kill(self._worker, signal.SIGKILL)
                    for key, _ in ready:
                        if key.fileobj is wakened:
                            with suppress(BlockingIOError):
                                wakened.recv(4096)
                            self._reap()
                        elif not self._read_requests():
                            selector.unregister(self._channel)
        finally:
            signal.set_wakeup_fd(former_fd)
            # Undoing must not be cut short by an impatient second Ctrl-C: the caller restores what it wants.
            for number in former:
                signal.signal(number, signal.SIG_IGN if number in STOP_SIGNALS else signal.SIG_DFL)
            for end in (waker, wakened):
                end.close()
        if self._failure is not None:
            raise self._failure
        return self._status

    # -- signals and children -------------------------------------------------------------------------

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if number != signal.SIGCHLD:
            self._stop_worker()

    def _stop_worker(self) -> None:
        self._stopping = True
        if self._status is None:
            with suppress(ProcessLookupError):
                os.kill(self._worker, signal.SIGTERM)

    def _reap(self) -> None:
        while (ended := _ended_child()) is not None:
            pid, name, code = ended
            if pid == self._worker:
                self._worker_ended(code)
            elif not self._stopping:
                self._failure = UplinkError(
                    f"{name} (pid {pid}), which the network needs, ended {_how(code)}",
                    next_step="Start the daemon again; DEBUG=1 shows what the service said",
                )
                self._stop_worker()

    def _worker_ended(self, code: int) -> None:
        self._status = code
        if code < 0:
            self._failure = InternalError(
                f"The worker was ended by {signal.Signals(-code).name}; the network has been taken down",
                next_step="Start the daemon again; if nobody killed it, please report this with DEBUG=1 output",
            )

    # -- requests -------------------------------------------------------------------------------------

    def _read_requests(self) -> bool:
        """False at the end of the channel."""
        try:
            data = self._channel.recv(_MAX_REQUEST)
        except ConnectionError:
            return False
        if not data:
            return False
        self._buffer += data
        *lines, self._buffer = self._buffer.split(b"\n")
        if len(self._buffer) > _MAX_REQUEST:
            _log.error("The worker sent a request without end; it is being stopped")
            self._stop_worker()
            return False
        for line in lines:
            self._answer(line)
        return True

    def _answer(self, line: bytes) -> None:
        descriptors: list[int] = []
        try:
            request = json.loads(line)
            if request == {"do": "ready"}:
                self._on_ready()
                self._prepare = None  # what follows may come from a guest
                reply = {"ok": "ready"}
            elif request == {"do": "prepare"} and self._prepare is not None:
                prepare, self._prepare = self._prepare, None
                prepare()
                reply = {"ok": "prepared"}
            elif (
                isinstance(request, dict)
                and set(request) == {"do", "mac"}
                and request["do"] == "open_guest_mac"
            ):
                fd, name = self._open_guest_mac(str(MacAddress.parse(str(request["mac"]))))
                reply, descriptors = {"ok": name}, [fd]
            elif request == {"do": "reload"}:
                reply = {"ok": self._reload()}
            elif (
                isinstance(request, dict)
                and set(request) == {"do", "reservation"}
                and request["do"] in ("reserve", "unreserve")
            ):
                one = Reservation.parse(str(request["reservation"]))
                self._reserve(one, request["do"] == "reserve")
                reply = {"ok": "done"}
            elif (
                isinstance(request, dict)
                and set(request) == {"do", "rule"}
                and request["do"] in ("forward", "unforward")
            ):
                self._forward(Forward.parse(str(request["rule"])), request["do"] == "forward")
                reply = {"ok": "done"}
            elif (
                self._lead_forward is not None
                and isinstance(request, dict)
                and set(request) == {"do", "forward", "address"}
                and request["do"] == "lead"
            ):
                self._lead_forward(int(str(request["forward"])), IPv4Address(str(request["address"])))
                reply = {"ok": "led"}
            else:
                reply = {"error": "unknown request"}
        except (ValueError, VdeVmnetError) as error:
            # The kind decides the exit status.
            step = getattr(error, "next_step", "")
            reply = {
                "error": getattr(error, "message", str(error)),
                "next_step": step,
                "kind": type(error).__name__,
            }
        with suppress(ConnectionError):
            socket.send_fds(self._channel, [json.dumps(reply).encode() + b"\n"], descriptors)
        for fd in descriptors:
            os.close(fd)


class ChildKeeper(Keeper):
    """The keeper of the process that forked it; the end of the channel is the end of that process.

    It has its own session, so that what ends the worker's terminal or process group leaves it to undo.
    """

    def run(self) -> int:
        """Blocks until the worker has ended. 0: the worker's status is its own affair."""
        os.setsid()
        for number in STOP_SIGNALS:
            signal.signal(number, self._on_signal)
        while self._read_requests():
            pass
        with suppress(ConnectionError):
            while self._channel.recv(_MAX_REQUEST):
                pass  # of a worker that was told to stop for what it asked
        # Undoing is not cut short.
        for number in STOP_SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        return 0

    def _stop_worker(self) -> None:
        # Who stops the keeper means the daemon. A parent that has ended may have left its number to another.
        if os.getppid() == self._worker:
            with suppress(ProcessLookupError):
                os.kill(self._worker, signal.SIGTERM)


class KeeperChannel:
    """The worker's end: one request at a time, each answered within the time an `ip link add` takes."""

    def __init__(self, channel: socket.socket) -> None:
        self.socket = channel

    def ready(self) -> None:
        """Tell that guests can plug in now. Raises ConflictError when the pidfile is taken."""
        self._ask({"do": "ready"})

    def prepare(self) -> None:
        """Have the host changed as the uplink needs it. Raises what the uplink's ``prepare`` raised there."""
        self._ask({"do": "prepare"})

    def open_guest_mac(self, mac: str) -> tuple[int, str]:
        """A descriptor for one more guest MAC, and its name. Raises UplinkError with the keeper's reason."""
        reply, descriptors = self._ask({"do": "open_guest_mac", "mac": mac})
        if not descriptors:
            raise UplinkError("The keeper sent no descriptor")
        os.set_blocking(descriptors[0], False)
        return descriptors[0], reply

    def reserve(self, one: Reservation, *, on: bool) -> None:
        """Keep an address for a guest, or no longer. Raises what the uplink's ``reserve`` raised there."""
        self._ask({"do": "reserve" if on else "unreserve", "reservation": str(one)})

    def lead_forward(self, number: int, address: IPv4Address) -> None:
        """Have a forward lead to a guest's address from now on. Raises UplinkError with the keeper's reason."""
        self._ask({"do": "lead", "forward": str(number), "address": str(address)})

    def forward(self, rule: Forward, *, on: bool) -> None:
        """Open a way in, or close it. Raises what the uplink's ``forward`` raised there."""
        self._ask({"do": "forward" if on else "unforward", "rule": str(rule)})

    def reload(self) -> str:
        """Have services look again; what they did. Raises UnavailableError."""
        return self._ask({"do": "reload"})[0]

    def _ask(self, request: dict[str, str]) -> tuple[str, list[int]]:
        try:
            self.socket.sendall(json.dumps(request).encode() + b"\n")
            data, descriptors, _, _ = socket.recv_fds(self.socket, _MAX_REQUEST, 1)
        except ConnectionError:
            data, descriptors = b"", []
        if not data:
            raise UplinkError("The keeper is gone")
        reply = json.loads(data)
        if "error" in reply:
            kind = reply.get("kind", "")
            error = getattr(errors, kind) if kind in errors.__all__ else UplinkError
            raise error(reply["error"], next_step=reply.get("next_step", ""))
        return str(reply["ok"]), descriptors


if sys.platform == "darwin":

    def _ended_child() -> tuple[int, str, int] | None:
        """Number, name and exit code of a child that has ended; None without."""
        # Python has os.waitid() here from 3.13 on.
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return None
        return (pid, "A service", os.waitstatus_to_exitcode(status)) if pid else None

else:

    def _ended_child() -> tuple[int, str, int] | None:
        """Number, name and exit code of a child that has ended; None without."""
        try:
            # Look first: a zombie still has its name.
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return None
        if ended is None:
            return None
        try:
            name = Path(f"/proc/{ended.si_pid}/comm").read_text().strip()
        except OSError:
            name = "A service"
        return ended.si_pid, name, os.waitstatus_to_exitcode(os.waitpid(ended.si_pid, 0)[1])


def _how(code: int) -> str:
    return f"by {signal.Signals(-code).name}" if code < 0 else f"with status {code}"
