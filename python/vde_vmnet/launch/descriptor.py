"""The descriptor that a command finds its network at: a number kept free for it from the start."""

from __future__ import annotations

import fcntl
import os
import socket
from typing import Self

from vde_vmnet.errors import ConfigurationError

__all__ = ["FIRST", "Descriptor"]

#: 0 to 2 are standard input, output and error.
FIRST = 3


class Descriptor:
    """A number that is ours. A context manager that gives it back.

    Whoever started us may have handed descriptors on to the command, so a number that is open is not ours to
    take, and everything that we open ourselves must find this one taken.
    """

    def __init__(self, number: int | None) -> None:
        """``number``, or the lowest free one from 3. Raises ConfigurationError when it is taken."""
        if number is not None and _is_open(number):
            raise ConfigurationError(
                f"Descriptor {number} is open already: it was handed to us for the command",
                next_step="Choose another one with --fd-number",
            )
        self.number = FIRST if number is None else number
        while number is None and _is_open(self.number):
            self.number += 1
        placeholder = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        if placeholder != self.number:
            try:
                os.dup2(placeholder, self.number, inheritable=False)
            except OSError as error:
                raise ConfigurationError(
                    f"--fd-number {number}: {error.strerror}", next_step="See `ulimit -n`"
                ) from None
            finally:
                os.close(placeholder)

    def fill(self, connection: socket.socket) -> None:
        """Make it the connection, blocking as a command expects, and one that commands inherit."""
        connection.setblocking(True)
        os.dup2(connection.fileno(), self.number, inheritable=True)

    def close(self) -> None:
        """Once; the command has it, or never will."""
        if self.number >= 0:
            os.close(self.number)
            self.number = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _is_open(number: int) -> bool:
    try:
        fcntl.fcntl(number, fcntl.F_GETFD)
    except OSError:
        return False
    return True
