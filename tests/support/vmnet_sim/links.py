"""Bridges and TAPs by ioctl(2): a start of the simulated framework takes milliseconds, as the real one does."""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Tap", "add_bridge", "bridgeable", "open_tap", "remove_bridge", "run", "set_sysctl"]

# linux/sockios.h, linux/if_tun.h
_SIOCGIFFLAGS, _SIOCSIFFLAGS = 0x8913, 0x8914
_SIOCSIFMTU, _SIOCGIFINDEX, _SIOCSIFTXQLEN = 0x8922, 0x8933, 0x8943
_SIOCBRADDBR, _SIOCBRDELBR, _SIOCBRADDIF = 0x89A0, 0x89A1, 0x89A2
_IFF_UP = 1
_TUNSETIFF, _TUNSETOFFLOAD, _TUNSETVNETHDRSZ = 0x400454CA, 0x400454D0, 0x400454D8
_IFF_TAP, _IFF_NO_PI, _IFF_VNET_HDR = 0x0002, 0x1000, 0x4000
_TUN_F_CSUM, _TUN_F_TSO4, _TUN_F_TSO6 = 1, 2, 4
#: struct virtio_net_hdr_mrg_rxbuf, virtio 1.1 section 5.1.6.
_VIRTIO_HEADER = 12
#: Frames that wait for a read: what macOS 15 and 26 report as the most of one call.
RING = 256

_NET = Path("/sys/class/net")


@dataclass(frozen=True)
class Tap:
    """What a member's TAP must be able to do."""

    name: str
    mtu: int
    isolated: bool = False
    tso: bool = False
    checksum: bool = False
    virtio: bool = False


def run(*command: str, text: str = "") -> str:
    """Run a program; what it printed. Raises OSError with its last words."""
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


def set_sysctl(name: str, value: str) -> str:
    """Write below /proc/sys/net; what was there before."""
    path = Path("/proc/sys/net") / name
    before = path.read_text().strip()
    if before != value:
        path.write_text(value)
    return before


def _ioctl(request: int, name: str, value: bytes = b"") -> bytes:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        return fcntl.ioctl(handle, request, struct.pack("16s24s", name.encode(), value))


def _set_up(name: str, up: bool) -> None:
    (flags,) = struct.unpack_from("=h", _ioctl(_SIOCGIFFLAGS, name), 16)
    _ioctl(_SIOCSIFFLAGS, name, struct.pack("=h", flags | _IFF_UP if up else flags & ~_IFF_UP))


def _add_port(bridge: str, port: str) -> None:
    index = _ioctl(_SIOCGIFINDEX, port)[16:20]
    _ioctl(_SIOCBRADDIF, bridge, index)


def add_bridge(name: str, mac: str, *addresses: str, port: str | None = None, mtu: int = 1500) -> None:
    """A bridge that is up, with its own MAC, its addresses (``192.168.64.1/24``), and a device in it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        fcntl.ioctl(handle, _SIOCBRADDBR, name.encode() + b"\0")
    (_NET / name / "bridge" / "multicast_snooping").write_text("0")
    lines = [f"link set {name} address {mac} mtu {mtu}"]
    lines += [f"address add {one} dev {name}{' nodad' if ':' in one else ''}" for one in addresses]
    lines += [f"link set {name} up"]
    run("ip", "-batch", "-", text="\n".join(lines) + "\n")
    if port is not None:
        _add_port(name, port)


def remove_bridge(name: str) -> None:
    """Its ports are let go."""
    _set_up(name, False)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        fcntl.ioctl(handle, _SIOCBRDELBR, name.encode() + b"\0")


def open_tap(tap: Tap, bridge: str) -> int:
    """A TAP in a bridge, without addresses of its own: a non-blocking descriptor. It goes when that closes."""
    header = tap.tso or tap.checksum or tap.virtio
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        flags = _IFF_TAP | _IFF_NO_PI | (_IFF_VNET_HDR if header else 0)
        fcntl.ioctl(fd, _TUNSETIFF, struct.pack("16sH22x", tap.name.encode(), flags))
        if header:
            fcntl.ioctl(fd, _TUNSETVNETHDRSZ, struct.pack("i", _VIRTIO_HEADER))
            offload = _TUN_F_CSUM | (_TUN_F_TSO4 | _TUN_F_TSO6 if tap.tso else 0)
            fcntl.ioctl(fd, _TUNSETOFFLOAD, offload)
        set_sysctl(f"ipv6/conf/{tap.name}/disable_ipv6", "1")
        _ioctl(_SIOCSIFTXQLEN, tap.name, struct.pack("i", RING))
        _ioctl(_SIOCSIFMTU, tap.name, struct.pack("i", tap.mtu))
        _add_port(bridge, tap.name)
        if tap.isolated:
            (_NET / tap.name / "brport" / "isolated").write_text("1")
        _set_up(tap.name, True)
    except OSError:
        os.close(fd)
        raise
    return fd


def bridgeable() -> list[str]:
    """The devices that stand for physical ones: not loopback, no TAP, no bridge."""
    return sorted(
        entry.name
        for entry in _NET.iterdir()
        if entry.name != "lo"
        and not (entry / "tun_flags").exists()
        and not (entry / "bridge").exists()
        and (entry / "type").read_text().strip() == "1"
    )
