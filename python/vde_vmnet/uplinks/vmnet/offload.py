"""Whether vmnet is asked for super-frames, and with which of its keys. Pure.

vmnet has three keys. TSO makes it give and take TCP frames of 64 KiB; checksum offload leaves checksums to it
(vmnet-helper and krunkit use the two together); the virtio-net header says with each frame what it asks for,
and excludes checksum offload. The engine cuts, joins and finishes for ports that need it otherwise, so that any
macOS that has the keys could be asked. But it is not always a gain: before macOS 26.2 (bridged: 26.5) the way
from the host to a guest had 1.4 Gbit/s with offloads in place of 12, by vmnet-helper's measurements. And a
bridge that has interfaces of both kinds, another program's for instance, loses TSO on all of them.
"""

from __future__ import annotations

import enum

from vde_vmnet.config.model import Mode, UplinkConfig, VmnetOffload
from vde_vmnet.uplinks.vmnet.xpc import Entry

__all__ = ["Offload", "choose", "entries"]

#: The first macOS on which offloads were measured to be a gain both ways, by mode.
_SINCE = {Mode.SHARED: (26, 2), Mode.HOST: (26, 2), Mode.BRIDGED: (26, 5)}

_TSO, _CHECKSUM, _HEADER = (
    "vmnet_enable_tso_key",
    "vmnet_enable_checksum_offload_key",
    "vmnet_enable_virtio_header_key",
)


class Offload(enum.Enum):
    """What an interface is started with; the values are the engine's words."""

    NONE = "none"
    TSO = "tso"
    VIRTIO = "virtio"


def choose(config: UplinkConfig, macos: tuple[int, ...]) -> Offload:
    """For this version of macOS, which ``AUTO`` depends on; an empty one is unknown."""
    if config.offload is VmnetOffload.AUTO:
        return Offload.TSO if macos >= _SINCE[config.mode] else Offload.NONE
    return {
        VmnetOffload.ON: Offload.TSO,
        VmnetOffload.OFF: Offload.NONE,
        VmnetOffload.VIRTIO: Offload.VIRTIO,
    }[config.offload]


def entries(offload: Offload) -> list[Entry]:
    """What is added to the description of an interface, of either API."""
    keys = {Offload.NONE: (), Offload.TSO: (_TSO, _CHECKSUM), Offload.VIRTIO: (_TSO, _HEADER)}[offload]
    option = "--vmnet-offload=virtio" if offload is Offload.VIRTIO else "--vmnet-offload=on"
    return [Entry(key, True, option) for key in keys]
