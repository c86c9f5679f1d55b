"""What the network is like beyond the original's options: MTU, isolation, forwards, patience."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Sequence

from vde_vmnet.addresses import Forward, NamedForward, Reservation
from vde_vmnet.config.model import Mode, UplinkConfig, VmnetOffload
from vde_vmnet.errors import ConfigurationError

__all__ = ["add_options", "busy_poll", "forwards", "isolation", "mtu", "offload", "start_timeout"]

#: RFC 791 wants every IPv4 host to take 576 bytes, RFC 8200 section 5 every IPv6 link to carry 1280.
_SMALLEST_MTU, _SMALLEST_IPV6_MTU = 576, 1280
#: What vmnet takes at most, as its users found out; no system documents it.
_LARGEST_MTU = 16384
#: Microseconds; more would keep a processor busy for nothing.
_LONGEST_BUSY_POLL = 1000
#: Longer than any machine takes to boot.
_LONGEST_START = 3600.0


def add_options(add: Callable[..., object]) -> None:
    """``add`` is ``ArgumentParser.add_argument``."""
    add(
        "--vmnet-mtu",
        metavar="BYTES",
        help="largest packet for --vmnet-mode=(host|shared), 576 to 16384 (default: 1500)",
    )
    add(
        "--vmnet-enable-isolation",
        action="store_true",
        help="for --vmnet-mode=(host|shared): do not let the other vmnet interfaces of this host in;"
        " on Linux networks are apart anyway",
    )
    add(
        "--vmnet-offload",
        metavar="(auto|on|off|virtio)",
        default=VmnetOffload.AUTO.value,
        help="let vmnet move TCP in frames of up to 64 KiB: from macOS 26.2 on, always, never, or with"
        " virtio-net headers; for --backend=vmnet (default: auto)",
    )
    add(
        "--forward",
        metavar="[tcp|udp:][HOSTADDR:]PORT:GUEST:PORT",
        action="append",
        default=[],
        help="forward a port of the host to a guest, by address, MAC address or name (vmnet: by address or"
        " reservation); --vmnet-mode=shared; of 127.0.0.1 by default where --backend=user; can be repeated",
    )
    add(
        "--start-timeout",
        metavar="SECONDS",
        help="how long macOS may take to start the network, failed attempts included (default: 30)",
    )
    add(
        "--busy-poll",
        metavar="MICROSECONDS",
        help="for shorter round trips at the cost of processor time: after traffic, look for more for so long"
        " before sleeping, 1000 at most (default: 0)",
    )


def mtu(arguments: argparse.Namespace, mode: Mode, *, ipv6: bool) -> int | None:
    """``--vmnet-mtu``. Raises ConfigurationError."""
    text: str | None = arguments.vmnet_mtu
    if text is None:
        return None
    if mode is Mode.BRIDGED:
        raise ConfigurationError(
            'vmnet mode "bridged" conflicts with --vmnet-mtu',
            next_step="The MTU is that of the interface that is joined",
        )
    smallest = _SMALLEST_IPV6_MTU if ipv6 else _SMALLEST_MTU
    if not (text.isascii() and text.isdecimal() and smallest <= int(text) <= _LARGEST_MTU):
        raise ConfigurationError(
            f'--vmnet-mtu "{text}" is not a number of bytes from {smallest} to {_LARGEST_MTU}'
            f"{' (IPv6 needs 1280)' if ipv6 else ''}"
        )
    return int(text)


def busy_poll(arguments: argparse.Namespace) -> int:
    """``--busy-poll``. Raises ConfigurationError."""
    text: str | None = arguments.busy_poll
    if text is None:
        return 0
    if not (text.isascii() and text.isdecimal() and int(text) <= _LONGEST_BUSY_POLL):
        raise ConfigurationError(
            f'--busy-poll "{text}" is not a number of microseconds from 0 to {_LONGEST_BUSY_POLL}'
        )
    return int(text)


def isolation(arguments: argparse.Namespace, mode: Mode) -> bool:
    """``--vmnet-enable-isolation``. Raises ConfigurationError."""
    if arguments.vmnet_enable_isolation and mode is Mode.BRIDGED:
        raise ConfigurationError(
            'vmnet mode "bridged" conflicts with --vmnet-enable-isolation',
            next_step="On a bridged network others are meant to reach the guests",
        )
    return bool(arguments.vmnet_enable_isolation)


def offload(arguments: argparse.Namespace) -> VmnetOffload:
    """``--vmnet-offload``. Raises ConfigurationError."""
    text: str = arguments.vmnet_offload
    try:
        return VmnetOffload(text)
    except ValueError:
        raise ConfigurationError(
            f'--vmnet-offload "{text}" is none of {", ".join(one.value for one in VmnetOffload)}'
        ) from None


def forwards(
    arguments: argparse.Namespace, mode: Mode, reservations: Sequence[Reservation]
) -> tuple[Forward | NamedForward, ...]:
    """``--forward``; a guest that has an address reserved is forwarded to that. Raises ConfigurationError."""
    reserved = {key: one.address for one in reservations for key in (one.mac, one.name) if key is not None}
    found: list[Forward | NamedForward] = []
    for text in arguments.forward:
        one: Forward | NamedForward
        try:
            one = NamedForward.parse(text)
            if one.guest in reserved:
                one = one.to(reserved[one.guest])
            elif isinstance(one.guest, str) and re.fullmatch(r"[0-9.]+", one.guest):
                one = Forward.parse(text)
        except ValueError as error:
            raise ConfigurationError(f"--forward: {error}") from None
        if any((one.protocol, one.host_port) == (other.protocol, other.host_port) for other in found):
            raise ConfigurationError(f"--forward {text} repeats port {one.host_port} of {one.protocol}")
        found.append(one)
    if found and mode is not Mode.SHARED:
        raise ConfigurationError(
            f"--forward requires --vmnet-mode=shared, and this is {mode.value}",
            next_step="In the other modes nothing is translated that could be forwarded",
        )
    return tuple(found)


def start_timeout(arguments: argparse.Namespace) -> float:
    """``--start-timeout``. Raises ConfigurationError."""
    text: str | None = arguments.start_timeout
    if text is None:
        return UplinkConfig.start_timeout
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds <= _LONGEST_START:
        raise ConfigurationError(
            f'--start-timeout "{text}" is not a number of seconds from 0 to {_LONGEST_START:.0f}'
        )
    return seconds
