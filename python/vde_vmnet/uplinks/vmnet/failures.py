"""Every ``vmnet_return_t`` in every situation as a sentence with its likely cause and the next step. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from vde_vmnet.config.model import Mode
from vde_vmnet.errors import (
    ConfigurationError,
    ConflictError,
    PrivilegeError,
    UplinkError,
    VdeVmnetError,
)
from vde_vmnet.uplinks.vmnet.abi import Status

__all__ = ["Situation", "explain", "lost", "patience", "words"]

#: Long enough for a network of ours that has just ended to be taken down by macOS.
_BUSY_SECONDS = 5.0

_WORDS = {
    Status.SUCCESS: "success",
    Status.FAILURE: "general failure",
    Status.MEM_FAILURE: "out of memory",
    Status.INVALID_ARGUMENT: "invalid argument",
    Status.SETUP_INCOMPLETE: "setup incomplete",
    Status.INVALID_ACCESS: "permission denied",
    Status.PACKET_TOO_BIG: "packet too big",
    Status.BUFFER_EXHAUSTED: "buffers exhausted",
    Status.TOO_MANY_PACKETS: "too many packets",
    Status.SHARING_SERVICE_BUSY: "sharing service busy",
    Status.NOT_AUTHORIZED: "not authorized",
}
_ENTITLEMENT = (
    "Run with sudo; without root macOS 26 wants the program that runs this (Python) to be signed with the"
    " entitlement com.apple.security.virtualization"
)


@dataclass(frozen=True)
class Situation:
    """What was being done."""

    #: Such as ``start the interface``.
    doing: str
    mode: Mode
    root: bool
    #: Whether this macOS has the network interface of macOS 26, and so takes an entitlement instead of root.
    network_api: bool
    #: Of ``--vmnet-gateway``; None where macOS chooses.
    subnet: str | None = None
    interface: str | None = None
    #: The one option that is being carried out, if it is one.
    option: str = ""


def words(status: int) -> str:
    """``general failure (1001)``."""
    try:
        return f"{_WORDS[Status(status)]} ({status})"
    except ValueError:
        return f"unknown status {status}"


def explain(status: int, situation: Situation) -> VdeVmnetError:
    """The error to raise for a status other than success."""
    message = f"vmnet could not {situation.doing}: {words(status)}"
    if not situation.root and status in _REFUSALS:
        wanted = _ENTITLEMENT if situation.network_api else "Before macOS 26 vmnet needs root: run with sudo"
        return PrivilegeError(message, next_step=wanted)
    match status:
        case Status.INVALID_ACCESS | Status.NOT_AUTHORIZED:
            return PrivilegeError(
                message, next_step="A profile of this Mac may forbid it; see System Settings, Device Management"
            )
        case Status.SHARING_SERVICE_BUSY:
            return ConflictError(
                message,
                next_step="Turn Internet Sharing off in System Settings, General, Sharing; or use"
                " --vmnet-mode=bridged",
            )
        case Status.INVALID_ARGUMENT:
            return ConfigurationError(message, next_step=_argument_hint(situation))
        case Status.FAILURE:
            return UplinkError(message, next_step=_failure_hint(situation))
        case Status.MEM_FAILURE | Status.BUFFER_EXHAUSTED:
            return UplinkError(message, next_step="Close other virtual machines, or restart this Mac")
        case _:
            return UplinkError(
                message, next_step="Start the daemon again; restart this Mac if that does not help"
            )


def lost(situation: Situation, seconds: float) -> UplinkError:
    """The error for a call that is never answered."""
    return UplinkError(
        f"vmnet did not {situation.doing} within {seconds:g} s: macOS never called back",
        next_step="Another program may hold the same subnet in another mode (see `ifconfig bridge100`), or"
        " macOS's InternetSharing is stuck, and restarting this Mac helps; --start-timeout waits longer",
    )


def patience(status: int, situation: Situation) -> float:
    """For how many seconds after the first failure a start is worth repeating; 0 for not at all."""
    match status:
        case Status.FAILURE if situation.root:
            return float("inf")  # early at boot NetworkSharing is not there yet
        case Status.SETUP_INCOMPLETE:
            return float("inf")
        case Status.SHARING_SERVICE_BUSY:
            return _BUSY_SECONDS
        case _:
            return 0.0


#: What vmnet answers to those who may not.
_REFUSALS = (Status.FAILURE, Status.MEM_FAILURE, Status.INVALID_ACCESS, Status.NOT_AUTHORIZED)


def _argument_hint(situation: Situation) -> str:
    if situation.option:
        return f"Check {situation.option}: another one, or another program, may have that port"
    if situation.mode is Mode.BRIDGED:
        return f'"{situation.interface}" may be of a kind that cannot be bridged; try another --vmnet-interface'
    if situation.subnet is not None:
        return (
            f"Check --vmnet-gateway, --vmnet-dhcp-end and --vmnet-mask ({situation.subnet}), and"
            " --vmnet-nat66-prefix and --vmnet-mtu if given"
        )
    return "Check --vmnet-nat66-prefix, --vmnet-mtu, --vmnet-interface-id and --forward if given"


def _failure_hint(situation: Situation) -> str:
    if situation.option:
        return f"Leave {situation.option} out, or restart this Mac"
    if situation.mode is Mode.BRIDGED:
        return f'Is "{situation.interface}" up, and not part of another bridge? Otherwise restart this Mac'
    if situation.subnet is not None:
        return (
            f"Another program (VMware Fusion, Docker, another vde_vmnet) may hold {situation.subnet}, or"
            " hold it in another mode: choose another --vmnet-gateway. Otherwise restart this Mac"
        )
    return "Another virtualization program may be in the way (VMware Fusion); otherwise restart this Mac"
