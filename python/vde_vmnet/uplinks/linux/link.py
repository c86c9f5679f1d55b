"""The TAP: made by ioctl, named, addressed and brought up; and the host's links and routes, read.

Reading and addressing go through iproute2's `ip`; docs/decisions/linux-iproute2.md says why.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import struct
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from vde_vmnet.addresses import digest
from vde_vmnet.errors import PrivilegeError, UnavailableError, UplinkError
from vde_vmnet.recovery import Command, UndoRecord
from vde_vmnet.uplinks.linux import programs

__all__ = [
    "Link",
    "addresses",
    "configure",
    "configure_queue",
    "deletion",
    "exists",
    "links",
    "open_tap",
    "remove_leftover",
    "routes",
    "stable_mac",
    "tap_name",
]

TUN_DEVICE = Path("/dev/net/tun")

# linux/if_tun.h
_TUNSETIFF = 0x400454CA
_TUNGETFEATURES = 0x800454CF
_TUNSETOFFLOAD = 0x400454D0
_TUNSETVNETHDRSZ = 0x400454D8
_TUNSETVNETLE = 0x400454DC
#: What may be read from the descriptor: unfinished checksums and TCP super-frames over IPv4 and IPv6, with ECN
#: too; UDP super-frames, from Linux 6.2 on. Newest first: a kernel that knows less refuses the whole.
_TUN_F_TCP = 0x01 | 0x02 | 0x04 | 0x08
_TUN_F_USO = 0x20 | 0x40
_OFFLOADS = (_TUN_F_TCP | _TUN_F_USO, _TUN_F_TCP, 0)
_IFF_TAP = 0x0002
_IFF_NO_PI = 0x1000
_IFF_VNET_HDR = 0x4000
_IFREQ = struct.Struct("16sH22x")
# linux/virtio_net.h: virtio_net_hdr_v1, the header with num_buffers.
_VNET_HEADER_BYTES = 12
_GONE = ("Cannot find device",)


@dataclass(frozen=True)
class Link:
    """An interface of the host, as `ip -d link show` tells it."""

    name: str
    #: ``bridge``, ``tun``, ``veth``, ``macvtap``, ``openvswitch``…; empty for hardware.
    kind: str
    #: ``ether`` for all that carry Ethernet frames; ``loopback``, ``none``…
    medium: str
    #: Name of the bridge or bond it belongs to; None when it stands alone.
    master: str | None
    up: bool
    mtu: int
    #: Whether a bridge speaks the spanning tree protocol; False for other kinds.
    spanning_tree: bool = False

    @classmethod
    def from_ip(cls, plain: dict[str, Any]) -> Link:
        """One element of the output of `ip -j -d link show`."""
        info = plain.get("linkinfo", {})
        return cls(
            name=plain["ifname"],
            kind=info.get("info_kind", ""),
            medium=plain.get("link_type", ""),
            master=plain.get("master"),
            up="UP" in plain.get("flags", ()),
            mtu=plain.get("mtu", 1500),
            spanning_tree=bool(info.get("info_data", {}).get("stp_state", 0)),
        )


def tap_name(network_id: str) -> str:
    """Name of the network's interface, at most 15 characters (IFNAMSIZ)."""
    return f"vmnet-{network_id[:8]}"


def stable_mac(network_id: str, interface_id: UUID | None) -> str:
    """A locally administered unicast address that stays the same from start to start.

    Guests then find the gateway in their ARP caches after a restart of the daemon. It comes from
    ``--vmnet-interface-id`` when given, else from the network's id.
    """
    seed = interface_id.bytes if interface_id is not None else network_id.encode()
    octets = bytearray(digest(b"vde_vmnet uplink " + seed, 6))
    octets[0] = (octets[0] & 0xFC) | 0x02  # unicast, locally administered: IEEE 802 section 8.4
    return octets.hex(":")


def links() -> list[Link]:
    """All interfaces. Raises UplinkError."""
    return [Link.from_ip(plain) for plain in json.loads(programs.run(["ip", "-j", "-d", "link", "show"]))]


def addresses() -> list[dict[str, Any]]:
    """All interfaces with their addresses, as `ip` gives them. Raises UplinkError."""
    return list(json.loads(programs.run(["ip", "-j", "address", "show"]) or "[]"))


def routes(family: int) -> list[dict[str, Any]]:
    """All routes of all tables; ``family`` is 4 or 6. Raises UplinkError."""
    # All tables: a VPN's policy routing wins over ours as much as the main table's routes do.
    return list(json.loads(programs.run(["ip", "-j", f"-{family}", "route", "show", "table", "all"]) or "[]"))


def remove_leftover(name: str) -> None:
    """Remove an interface of our name, if there is one: its owner is dead, or we would not be here."""
    if exists(name):
        programs.run(["ip", "link", "del", name])


def exists(name: str) -> bool:
    """Whether this network namespace has an interface of that name."""
    return Path(f"/proc/sys/net/ipv4/conf/{name}").is_dir()


def deletion(name: str) -> Command:
    """The undo step for an interface of ours."""
    return Command((programs.require("ip"), "link", "del", name), _GONE)


def open_tap(name: str, undo: UndoRecord) -> int:
    """Make a TAP that vanishes with its last descriptor, and return that: non-blocking, close-on-exec.

    Frames carry a virtio-net header of 12 bytes; the kernel hands out super-frames and unfinished checksums.
    Raises PrivilegeError, UnavailableError, UplinkError.
    """
    with contextlib.ExitStack() as on_failure:
        try:
            fd = os.open(TUN_DEVICE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
            on_failure.callback(os.close, fd)
            features = struct.unpack("I", fcntl.ioctl(fd, _TUNGETFEATURES, struct.pack("I", 0)))[0]
            if not features & _IFF_VNET_HDR:
                raise UnavailableError(
                    "This kernel's TAP has no IFF_VNET_HDR", next_step="Use Linux 5.12 or newer"
                )
            undo.push(deletion(name))
            fcntl.ioctl(fd, _TUNSETIFF, _IFREQ.pack(name.encode(), _IFF_TAP | _IFF_NO_PI | _IFF_VNET_HDR))
            configure_queue(fd)
        except FileNotFoundError:
            raise UnavailableError(
                f"{TUN_DEVICE} does not exist", next_step="Load the kernel module with: modprobe tun"
            ) from None
        except OSError as error:
            what = f"Cannot make the TAP {name}: {error.strerror}"
            if error.errno in (errno.EPERM, errno.EACCES):
                raise PrivilegeError(what, next_step="Run with sudo") from error
            raise UplinkError(what) from error
        on_failure.pop_all()
    return fd


def configure_queue(fd: int) -> None:
    """Header size and offloads of a TAP or macvtap descriptor. Raises OSError."""
    fcntl.ioctl(fd, _TUNSETVNETHDRSZ, struct.pack("i", _VNET_HEADER_BYTES))
    if sys.byteorder == "big":
        fcntl.ioctl(fd, _TUNSETVNETLE, struct.pack("i", 1))
    for offloads in _OFFLOADS:
        try:
            fcntl.ioctl(fd, _TUNSETOFFLOAD, offloads)
        except OSError as error:
            if error.errno != errno.EINVAL or offloads == 0:
                raise
        else:
            return


def configure(commands: list[str]) -> None:
    """Carry out `ip` commands, one a line, in one process. Raises UplinkError that quotes the failing one."""
    try:
        programs.run(["ip", "-batch", "-"], text="\n".join([*commands, ""]))
    except UplinkError as error:
        raise UplinkError(f"{error.message} (of: {'; '.join(commands)})") from error
