"""The exception tree: one screen, the blame is in the type.

    VdeVmnetError
    ├── ConfigurationError   1  the command line or a value in it is wrong
    ├── UnavailableError     3  a program, kernel feature or library is missing
    ├── PrivilegeError       4  the caller may not do this
    ├── ConflictError        5  somebody else holds it (directory, pidfile, subnet)
    ├── UplinkError          6  the way to the host could not be opened or was lost
    ├── ServiceError         7  installing failed, or the service manager refused; nothing was changed
    ├── PeerError            -  a client broke the protocol; costs that client only
    └── InternalError       70  a bug of ours

The number is the exit status of the daemon (2 is left to shells). Every error says what was wrong and
where in its message, and what to do about it in ``next_step``.
"""

from __future__ import annotations

__all__ = [
    "ConfigurationError",
    "ConflictError",
    "InternalError",
    "PeerError",
    "PrivilegeError",
    "ServiceError",
    "UnavailableError",
    "UplinkError",
    "VdeVmnetError",
]


class VdeVmnetError(Exception):
    """Root of the tree.

    ``message`` is one line that starts with a capital and carries the offending value;
    ``next_step`` is what the user can do, as one sentence, or empty when the message says it already.
    """

    exit_code: int = 70

    def __init__(self, message: str, *, next_step: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.next_step = next_step

    def __str__(self) -> str:
        return f"{self.message}. {self.next_step}" if self.next_step else self.message


class ConfigurationError(VdeVmnetError):
    """The user asked for something that cannot be meant; the message names the option."""

    exit_code = 1


class UnavailableError(VdeVmnetError):
    """Something this needs is not on this machine; ``next_step`` says how to get it."""

    exit_code = 3


class PrivilegeError(VdeVmnetError):
    """The caller lacks a right; ``next_step`` says which and how to give it."""

    exit_code = 4


class ConflictError(VdeVmnetError):
    """Another program holds what is needed: a switch directory, a pidfile, a subnet."""

    exit_code = 5


class UplinkError(VdeVmnetError):
    """The uplink could not be opened, or broke while serving."""

    exit_code = 6


class ServiceError(VdeVmnetError):
    """An installation could not be made or removed; the message has the service manager's words."""

    exit_code = 7


class PeerError(VdeVmnetError):
    """A client broke the protocol. It is logged and costs that client only; it never ends the daemon."""


class InternalError(VdeVmnetError):
    """A state that the code rules out: please report it."""
