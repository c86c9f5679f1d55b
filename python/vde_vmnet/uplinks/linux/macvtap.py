"""Bridged mode on a plain interface: macvtaps, one for the network and one for every guest.

A macvtap hears frames for its own MAC, and broadcast and multicast, but no other's unicast. So a *primary*
sends for everybody and hears what is for all, and each guest's MAC gets a macvtap that hears what is for
that guest alone. The kernel's macvlan driver (mode bridge) switches between macvtaps itself; the host's own
stack on that interface is not reachable through it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import stat
from pathlib import Path

from vde_vmnet.addresses import MacAddress
from vde_vmnet.errors import ConflictError, UplinkError
from vde_vmnet.recovery import UndoRecord, Unlink
from vde_vmnet.uplinks.linux import link, sysctl

__all__ = ["MacvtapGroup"]

# Chosen: each is an interface of the host; a guest that invents MAC addresses must not fill it with them.
_MOST_GUESTS = 64

_log = logging.getLogger(__name__)


class MacvtapGroup:
    """The macvtaps of one network on one interface."""

    def __init__(self, lower: str, prefix: str) -> None:
        self._lower = lower
        self._prefix = prefix
        self._guests: dict[str, str] = {}

    def remove_leftovers(self, links: list[link.Link]) -> None:
        """Remove macvtaps of our name, which outlive a killed daemon if its record is lost."""
        for one in links:
            if one.kind == "macvtap" and (
                one.name == self._prefix or one.name.startswith(f"{self._guest_prefix}-")
            ):
                link.remove_leftover(one.name)

    def open_primary(self, mac: str, undo: UndoRecord) -> int:
        """The macvtap that sends everything and hears broadcast and multicast. Raises UplinkError."""
        if Path(f"/sys/class/net/{self._lower}/wireless").exists():
            _log.warning(
                "%s is wireless: most access points drop frames of other MAC addresses than its own;"
                " --vmnet-mode=shared works there",
                self._lower,
            )
        return self._open(self._prefix, mac, undo, hear_all_groups=True)

    def open_guest(self, mac: str, undo: UndoRecord) -> tuple[int, str]:
        """A descriptor that hears what is for ``mac``, and the name of its interface.

        A MAC that was opened before gets a new descriptor of the same interface, if the old one is closed.
        ``mac`` comes from the worker, which listens to guests: it is checked before anything else.
        Raises UplinkError (no MAC address, 64 guests are open), ConflictError (another interface has it).
        """
        try:
            mac = MacAddress.parse(mac).text
        except ValueError as error:
            raise UplinkError(f"No descriptor: {error}") from error
        name = self._guests.get(mac)
        if name is not None:
            return _open_node(name, undo), name
        if len(self._guests) >= _MOST_GUESTS:
            raise UplinkError(f"No room for {mac}: {_MOST_GUESTS} guest addresses are open on {self._lower}")
        name = f"{self._guest_prefix}-{len(self._guests):02d}"
        fd = self._open(name, mac, undo, hear_all_groups=False)
        self._guests[mac] = name
        return fd, name

    @property
    def _guest_prefix(self) -> str:
        # "vmnet-1a2b3c4d" and "-00" would be longer than an interface's name may be.
        return self._prefix.replace("vmnet-", "vmg-")

    def _open(self, name: str, mac: str, undo: UndoRecord, *, hear_all_groups: bool) -> int:
        undo.push(link.deletion(name))
        try:
            link.configure([f"link add link {self._lower} name {name} address {mac} type macvtap mode bridge"])
            sysctl.quiet_device(name, ipv6=False)
            groups = "on" if hear_all_groups else "off"
            link.configure([f"link set dev {name} allmulticast {groups} up"])
        except UplinkError as error:
            if link.exists(name):
                link.remove_leftover(name)
            if "in use" in error.message or "File exists" in error.message:
                raise ConflictError(f"{mac} is already in use on {self._lower}: {error.message}") from error
            raise
        return _open_node(name, undo)


def _open_node(name: str, undo: UndoRecord) -> int:
    """Open the character device of a macvtap: non-blocking, close-on-exec, headers and offloads set."""
    try:
        (dev_file,) = Path(f"/sys/class/net/{name}/macvtap").glob("tap*/dev")
        major, minor = (int(number) for number in dev_file.read_text().split(":"))
    except ValueError as error:
        raise UplinkError(
            f"/sys does not show the macvtap {name}",
            next_step="Mount /sys inside the network namespace, as `ip netns exec` does",
        ) from error
    device = os.makedev(major, minor)
    with contextlib.ExitStack() as on_failure:
        try:
            fd = _open_device(Path("/dev") / dev_file.parent.name, device, name, undo)
            on_failure.callback(os.close, fd)
            link.configure_queue(fd)
        except OSError as error:
            raise UplinkError(f"Cannot open the macvtap {name}: {error.strerror}") from error
        on_failure.pop_all()
    return fd


def _open_device(public: Path, device: int, name: str, undo: UndoRecord) -> int:
    """Open the node that udev made, or else a private one that is gone at once.

    In a container or a namespace there may be no node, or one of another namespace's interface of the same
    number. /run is often mounted ``nodev``, so /dev is tried first.
    """
    flags = os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC
    with contextlib.suppress(FileNotFoundError):
        status = public.stat()
        if stat.S_ISCHR(status.st_mode) and status.st_rdev == device:
            return os.open(public, flags)
    failure: OSError | None = None
    for node in (Path("/dev") / f"{name}.node", undo.file(f"{name}.node")):
        undo.push(Unlink(str(node)))
        try:
            node.unlink(missing_ok=True)
            os.mknod(node, stat.S_IFCHR | 0o600, device)
            try:
                return os.open(node, flags)
            finally:
                node.unlink()
        except OSError as error:
            failure = error
    assert failure is not None  # noqa: S101 - the loop ran and did not return
    raise failure
