"""The kernel settings a network needs. Which, and what they drag along; sharing and undoing is recovery's."""

from __future__ import annotations

from pathlib import Path

from vde_vmnet.errors import UplinkError
from vde_vmnet.recovery import UndoRecord

__all__ = ["enable_ipv4_forwarding", "enable_ipv6_forwarding", "quiet_device", "take_loopback"]

_NET = Path("/proc/sys/net")


def enable_ipv4_forwarding(undo: UndoRecord) -> None:
    """Let the host route IPv4.

    Writing the global switch also rewrites each interface's, the default for new ones, and whether
    redirects are accepted (ip-sysctl.rst: "all" and "default" are reset), so those are put back after it.
    """
    conf = _NET / "ipv4/conf"
    undo.set_sysctl(_NET / "ipv4/ip_forward", "1", [*_forwarding(conf), conf / "all/accept_redirects"])


def enable_ipv6_forwarding(undo: UndoRecord) -> None:
    """Let the host route IPv6 without losing its own addresses.

    A host that routes no longer listens to router advertisements unless accept_ra is 2 (ip-sysctl.rst), so
    that is set first for every interface that listens now. Where it is 2 already, another network may have
    set it, so that we need it is recorded all the same.
    """
    conf = _NET / "ipv6/conf"
    if not conf.is_dir():
        raise UplinkError("This kernel has no IPv6", next_step="Leave --vmnet-nat66-prefix out")
    for path in sorted(conf.glob("*/accept_ra")):
        if path.parent.name not in ("all", "lo") and path.read_text().strip() in ("1", "2"):
            undo.set_sysctl(path, "2")
    undo.set_sysctl(conf / "all/forwarding", "1", _forwarding(conf))


def _forwarding(conf: Path) -> list[Path]:
    """The switches of the interfaces, and of those to come; not the global one."""
    return [path for path in sorted(conf.glob("*/forwarding")) if path.parent.name != "all"]


def take_loopback(device: str) -> None:
    """Let answers to the host's loopback come in through our own TAP; the setting goes with it."""
    path = _NET / "ipv4/conf" / device / "route_localnet"
    try:
        path.write_text("1")
    except OSError as error:
        raise UplinkError(f"Cannot set {path} to 1: {error.strerror}") from error


def quiet_device(device: str, *, ipv6: bool) -> None:
    """Settings of our own TAP, which go with it: the host must not be configured by its guests.

    Without IPv6 it is off there, not merely unused. With it, addresses are ours alone: no router
    advertisement of a guest is heard, and no time is spent looking for duplicates of an address that only
    we can have.
    """
    values = [(_NET / "ipv4/conf" / device / "accept_redirects", "0")]
    conf = _NET / "ipv6/conf" / device
    if conf.is_dir():
        names = ("accept_ra", "autoconf", "accept_dad", "accept_redirects")
        values += [(conf / name, "0") for name in names] if ipv6 else [(conf / "disable_ipv6", "1")]
    for path, value in values:
        try:
            path.write_text(value)
        except OSError as error:
            raise UplinkError(f"Cannot set {path} to {value}: {error.strerror}") from error
