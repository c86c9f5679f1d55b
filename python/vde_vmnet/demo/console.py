"""Runs commands in a guest over its second serial port and brings back status and output.

The protocol is in `guest_init.py`. Every wait is for an event on the channel, with a deadline; a guest
that dies closes the channel, so nothing waits for a dead guest.
"""

from __future__ import annotations

import base64
import binascii
import select
import socket
import time
from dataclasses import dataclass

from vde_vmnet.demo.errors import GuestError, GuestTimeoutError
from vde_vmnet.demo.guest_init import READY

__all__ = ["CommandChannel", "CommandResult", "parse_answer"]

# The guest kills the command itself; the host waits this much longer for it to say so.
_GRACE_SECONDS = 10.0
# What KILL leaves as a shell's status.
_KILLED = 137


@dataclass(frozen=True)
class CommandResult:
    """What a command in the guest said; ``output`` is standard output and error as they came."""

    status: int
    output: str


def parse_answer(line: bytes) -> tuple[int, CommandResult]:
    """``NUMBER STATUS BASE64`` as number and result. Pure. Raises ValueError for anything else."""
    fields = line.split(b" ", 2)
    if len(fields) != 3:
        raise ValueError(f"{line[:80]!r} is not an answer")
    number, status, output = fields
    try:
        text = base64.b64decode(output, validate=True).decode(errors="replace")
    except binascii.Error as error:
        raise ValueError(f"{line[:80]!r} is not an answer: {error}") from None
    return int(number), CommandResult(int(status), text)


class CommandChannel:
    """The host's end. One command at a time; not for use from several threads."""

    def __init__(self, channel: socket.socket) -> None:
        """Takes ownership of ``channel``, a connected stream socket whose other end is the serial port."""
        self._channel = channel
        self._channel.setblocking(False)
        self._received = b""
        self._number = 0

    def wait_ready(self, seconds: float) -> None:
        """Until the guest has booted. Raises GuestTimeoutError, or GuestError when it ended before."""
        deadline = time.monotonic() + seconds
        while self._line(deadline, "to boot") != READY.encode():
            pass

    def run(self, command: str, seconds: float = 20.0) -> CommandResult:
        """Run ``command`` in the guest's shell, with no standard input, and wait for its end.

        After ``seconds`` it is killed and GuestTimeoutError raised; the channel stays usable. Commands
        that are to outlive the call are put in the background with their output redirected.
        Raises GuestError when the guest ends.
        """
        self._number += 1
        limit = max(1, round(seconds))
        encoded = base64.b64encode(command.encode()).decode()
        deadline = time.monotonic() + limit + _GRACE_SECONDS
        self._send(f"{self._number} {limit} {encoded}\n".encode(), deadline)
        while True:
            line = self._line(deadline, f'to answer "{command}"')
            try:
                number, result = parse_answer(line)
            except ValueError as error:
                raise GuestError(f"The guest's answer cannot be read: {error}") from None
            if number == self._number:
                break
        if result.status == _KILLED:
            raise GuestTimeoutError(
                f'"{command}" was still running in the guest after {limit} s: {result.output}'
            )
        return result

    def close(self) -> None:
        """Close the host's end; a second call does nothing."""
        self._channel.close()

    def _line(self, deadline: float, purpose: str) -> bytes:
        while b"\n" not in self._received:
            self._wait(select.POLLIN, deadline, purpose)
            try:
                chunk = self._channel.recv(65536)
            except ConnectionError:
                chunk = b""
            if not chunk:
                raise GuestError(f"The guest ended while it was waited for {purpose}")
            self._received += chunk
        line, _, self._received = self._received.partition(b"\n")
        return line.rstrip(b"\r")

    def _send(self, data: bytes, deadline: float) -> None:
        while data:
            self._wait(select.POLLOUT, deadline, "to take a command")
            try:
                data = data[self._channel.send(data) :]
            except ConnectionError:
                raise GuestError("The guest ended before it took a command") from None

    def _wait(self, event: int, deadline: float, purpose: str) -> None:
        poll = select.poll()
        poll.register(self._channel, event)
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise GuestTimeoutError(f"The guest took too long {purpose}")
