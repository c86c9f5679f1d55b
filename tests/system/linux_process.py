"""A process that opens a Linux uplink and holds it, as the daemon's keeper does, with a guest's cable in it.

Started by ``linux_uplink.py`` inside a namespace. Its argument is JSON; it answers with one JSON object a
line. The cable is a relay between the uplink's descriptor and a TAP in the guest's namespace.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import sys
import time
from ipaddress import IPv4Address, IPv6Network
from pathlib import Path
from typing import Any
from uuid import UUID

from vde_vmnet.addresses import Ipv4Plan, Reservation
from vde_vmnet.config.model import Backend, Mode, UplinkConfig
from vde_vmnet.errors import VdeVmnetError
from vde_vmnet.recovery import UndoRecord, sweep
from vde_vmnet.uplinks import OpenedEndpoint, OpenedUplink, Uplink, choose
from vde_vmnet.uplinks.linux import link

GUEST_DEVICE = "eth0"
_FRAME = 65562


def say(**what: Any) -> None:
    print(json.dumps(what), flush=True)


def config_of(asked: dict[str, Any]) -> UplinkConfig:
    gateway = asked.get("gateway")
    return UplinkConfig(
        mode=Mode(asked.get("mode", "shared")),
        interface=asked.get("interface"),
        ipv4=Ipv4Plan.build(IPv4Address(gateway), "255.255.255.0", None) if gateway else None,
        interface_id=UUID(asked["interface_id"]) if asked.get("interface_id") else None,
        nat66_prefix=IPv6Network(asked["prefix"]) if "prefix" in asked else None,
        dhcp=asked.get("dhcp", True),
        reservations=tuple(Reservation.parse(text) for text in asked.get("reserve", ())),
    )


def guest_tap(namespace: str) -> int:
    """A TAP in another namespace; this process is back in its own when it returns."""
    with Path("/proc/self/ns/net").open() as ours, Path(namespace).open() as theirs:
        _enter(theirs.fileno())
        try:
            fd = link.open_tap(GUEST_DEVICE, UndoRecord.in_memory("guest"))
            link.configure([f"link set dev {GUEST_DEVICE} up"])
        finally:
            _enter(ours.fileno())
    return fd


def _enter(fd: int) -> None:
    if ctypes.CDLL(None, use_errno=True).setns(fd, 0) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def relay(uplink: Uplink, opened: OpenedUplink, undo: UndoRecord, guest: int | None, log: int | None) -> None:
    """Carry frames and obey the lines of standard input until it says stop."""
    assert isinstance(opened.endpoint, OpenedEndpoint)
    primary = opened.endpoint.fd
    receivers = [primary]
    while True:
        waiting = [0, *([*receivers, guest] if guest is not None else []), *([] if log is None else [log])]
        ready, _, _ = select.select(waiting, [], [])
        for fd in ready:
            if fd == 0:
                words = sys.stdin.readline().split()
                if not words or words[0] == "stop":
                    return
                try:
                    endpoint = uplink.open_guest_mac(words[1], undo)
                except VdeVmnetError as error:
                    say(event="error", kind=type(error).__name__, message=str(error))
                    continue
                receivers.append(endpoint.fd)
                say(event="guest", name=endpoint.name)
            elif fd == log:
                say(event="log", text=os.read(fd, 65536).decode(errors="replace"))
            else:
                frame = os.read(fd, _FRAME)
                # What a guest's own macvtap hears of broadcast, the primary has heard as well.
                if fd in (guest, primary) or not frame[12] & 1:
                    os.write(primary if fd == guest else guest or 0, frame)


def main() -> None:
    asked = json.loads(sys.argv[1])
    state = Path(asked["state"])
    try:
        swept = sweep(state)
        undo = UndoRecord.create(asked["id"], state)
    except VdeVmnetError as error:
        say(event="error", kind=type(error).__name__, message=str(error))
        sys.exit(error.exit_code)
    try:
        began = time.monotonic()
        uplink, _ = choose(Backend.AUTO, config_of(asked), asked["id"])
        opened = uplink.open(undo)
        seconds = time.monotonic() - began
        guest = guest_tap(asked["guest"]) if "guest" in asked else None
    except VdeVmnetError as error:
        undo.run()
        say(event="error", kind=type(error).__name__, message=str(error))
        sys.exit(error.exit_code)
    say(
        event="open",
        seconds=seconds,
        facts=dict(opened.facts),
        swept=swept,
        per_guest_mac=opened.per_guest_mac,
    )
    relay(uplink, opened, undo, guest, opened.service_log_fd if asked.get("read_log", True) else None)
    say(event="closed", complete=undo.run())


if __name__ == "__main__":
    main()
