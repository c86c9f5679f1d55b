"""Bridged mode: the guests join a network that is there already, by one of three ways.

A Linux bridge or an Open vSwitch bridge gets our TAP as one more port. A plain interface gets a macvtap
(macvtap.py). Addresses come from that network's own router: nothing here hands any out.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence

from vde_vmnet.errors import ConfigurationError, UplinkError
from vde_vmnet.recovery import Command, UndoRecord
from vde_vmnet.uplinks.linux import link, programs, sysctl

__all__ = ["is_open_vswitch", "join_bridge", "join_open_vswitch", "target"]

# linux/if_bridge.h
_BR_STATE_FORWARDING = 3
# Chosen: ovs-vsctl waits for ovs-vswitchd for ever by itself.
_OVS = ("ovs-vsctl", "--timeout=5")


def target(name: str | None, links: Sequence[link.Link]) -> link.Link:
    """The interface that ``--vmnet-interface`` names, if it can be joined. Pure.

    Raises ConfigurationError that says why not, and what there is to choose from.
    """
    known = {one.name: one for one in links}
    choices = ", ".join(
        one.name for one in links if one.medium == "ether" and one.kind not in ("tun", "macvtap")
    )
    if name is None or name not in known:
        raise ConfigurationError(
            f'--vmnet-interface "{name or ""}" does not exist',
            next_step=f"This host has: {choices or 'no interface that could be joined'}",
        )
    chosen = known[name]
    if chosen.medium != "ether":
        raise ConfigurationError(
            f'--vmnet-interface "{name}" carries no Ethernet frames', next_step=f"Choose one of: {choices}"
        )
    if chosen.master is not None and chosen.kind != "bridge":
        raise ConfigurationError(
            f'--vmnet-interface "{name}" belongs to {chosen.master} already',
            next_step=f"Use --vmnet-interface={chosen.master}",
        )
    if not chosen.up:
        raise ConfigurationError(
            f'--vmnet-interface "{name}" is down', next_step=f"Bring it up with: ip link set {name} up"
        )
    return chosen


def join_bridge(bridge: link.Link, device: str, mac: str, undo: UndoRecord) -> int:
    """Make the TAP a port of a Linux bridge; returns its descriptor. Raises UplinkError and others of link."""
    with contextlib.ExitStack() as on_failure:
        fd = _open_port(device, undo)
        on_failure.callback(os.close, fd)
        link.configure(
            [
                # A bridge takes the smallest MTU of its ports for its own.
                f"link set dev {device} address {_high(mac)} mtu {bridge.mtu}",
                f"link set dev {device} master {bridge.name}",
                f"link set dev {device} up",
            ]
        )
        if not bridge.spanning_tree:
            # Without the protocol the forward delay guards against nothing, and costs guests 15 s of silence.
            with contextlib.suppress(UplinkError):
                link.configure([f"link set dev {device} type bridge_slave state {_BR_STATE_FORWARDING}"])
        on_failure.pop_all()
    return fd


def is_open_vswitch(name: str) -> bool:
    """Whether Open vSwitch is here and knows a bridge of that name."""
    # A name that looks like an option is none of an interface.
    if programs.find(_OVS[0]) is None or name.startswith("-"):
        return False
    try:
        programs.run([*_OVS, "br-exists", name])
    except UplinkError:
        return False
    return True


def join_open_vswitch(name: str, device: str, mac: str, undo: UndoRecord) -> int:
    """Make the TAP a port of an Open vSwitch bridge; returns its descriptor."""
    with contextlib.ExitStack() as on_failure:
        fd = _open_port(device, undo)
        on_failure.callback(os.close, fd)
        link.configure([f"link set dev {device} address {_high(mac)}", f"link set dev {device} up"])
        # A port outlives its interface in the database, and a killed daemon's would be found there.
        undo.push(Command((programs.require(_OVS[0]), *_OVS[1:], "--if-exists", "del-port", name, device)))
        programs.run([*_OVS, "--may-exist", "add-port", name, device])
        on_failure.pop_all()
    return fd


def _open_port(device: str, undo: UndoRecord) -> int:
    link.remove_leftover(device)
    fd = link.open_tap(device, undo)
    # The host's own stack has no business on a port.
    sysctl.quiet_device(device, ipv6=False)
    return fd


def _high(mac: str) -> str:
    """The same address with the highest first octet: a bridge takes the lowest of its ports' for its own."""
    return f"fe{mac[2:]}"
