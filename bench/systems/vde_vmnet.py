"""Ours: the installed command, or another build of it for a comparison of before and after."""

from __future__ import annotations

import os
from pathlib import Path

from bench.compare import OURS
from bench.netns import Namespace
from bench.segment import GATEWAY, IPERF3_PORT, guest_address
from bench.systems import cards
from bench.systems.base import Uplink, Wire, first_line, socket_group
from bench.systems.running import Running, pidfile, place, start, vhost_user_socket
from vde_vmnet.demo.accounts import unprivileged_account

__all__ = ["VdeVmnet"]

#: The longest packet that --vmnet-mtu takes.
_LONG = 16384


class VdeVmnet:
    """One of its wires at a time, as a rival has one."""

    name = OURS

    def __init__(self, command: Path, *options: str) -> None:
        self._command = command
        self._options = options

    def with_options(self, *options: str) -> VdeVmnet:
        """The same program, started with these as well."""
        return VdeVmnet(self._command, *self._options, *options)

    def unavailable_reason(self) -> str | None:
        return None if os.access(self._command, os.X_OK) else f"{self._command} is not there; run make build"

    def version(self) -> str:
        return first_line([str(self._command), "--version"])

    def offers(self, uplink: Uplink, wire: Wire = Wire.VDE) -> bool:
        return uplink is not Uplink.VMNET and wire in (Wire.VDE, Wire.STREAM, Wire.VHOST_USER)

    def start(self, uplink: Uplink, wire: Wire = Wire.VDE, guests: int = 1) -> Running:
        if uplink in (Uplink.USER, Uplink.USER_LONG):
            return self._start_user(_LONG if uplink is Uplink.USER_LONG else None, wire, guests)
        options = [
            *self._options,
            f"--vde-group={socket_group()}",
            f"--backend={'none' if uplink is Uplink.NONE else 'linux'}",
        ]
        if uplink is not Uplink.NONE:
            options.append(f"--vmnet-gateway={GATEWAY}")
        if uplink is Uplink.HOST:
            options.append("--vmnet-disable-dhcp")

        def command(folder: Path) -> list[str]:
            return [str(self._command), *options, *pidfile(folder), *_where(place(folder), wire, guests)]

        return start(command, None if uplink is Uplink.NONE else Namespace(), lambda path: _card(path, wire))

    def _start_user(self, mtu: int | None, wire: Wire, guests: int) -> Running:
        """Without privilege, in a namespace; its port of iperf3 leads to the guest."""
        options = [
            *self._options,
            "--backend=user",
            f"--vmnet-gateway={GATEWAY}",
            "--vmnet-disable-dhcp",
            f"--forward={IPERF3_PORT}:{guest_address()}:{IPERF3_PORT}",
            *([f"--vmnet-mtu={mtu}"] if mtu is not None else []),
        ]

        def command(folder: Path) -> list[str]:
            for one in (folder, folder / "run"):
                one.chmod(0o777)
            account = unprivileged_account().command_prefix()
            where = _where(place(folder), wire, guests)
            return [*account, str(self._command), *options, *pidfile(folder), *where]

        running = start(command, Namespace(), lambda path: _card(path, wire))
        running.guest_address = "127.0.0.1"
        running.guest_mtu = mtu or running.guest_mtu
        return running


def _where(path: Path, wire: Wire, guests: int) -> list[str]:
    if wire is Wire.STREAM:
        return ["--stream", str(path)]
    if wire is Wire.VHOST_USER:
        # Plugs are there as well, for those who are idle beside the guests.
        return [str(path), *(f"--vhost-user={vhost_user_socket(path, number)}" for number in range(guests))]
    return [str(path)]


def _card(path: Path, wire: Wire) -> cards.Card:
    if wire is Wire.STREAM:
        return cards.stream(path)
    if wire is Wire.VHOST_USER:
        return cards.vhost_user(lambda number: vhost_user_socket(path, number))
    return cards.vde(path)
