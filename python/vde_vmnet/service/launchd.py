"""The property lists with which launchd starts the networks, and what launchctl is told about them. Pure.

Labels, file names, paths, log files and arguments are the original's (its ``launchd/*.plist``; a label there
ends with ".plist" like its file), so that scripts that know them keep working. What differs, and why:

- we are the switch, so ``KeepAlive`` does not wait for the pidfile of a ``vde_switch`` unless there is one;
- ``ProcessType`` is Interactive: launchd throttles a daemon without it to about a third of its throughput
  (measured for socket_vmnet, https://github.com/lima-vm/socket_vmnet/pull/54).
"""

from __future__ import annotations

import plistlib
from pathlib import PurePosixPath
from typing import Any

from vde_vmnet.service.networks import ServiceNetwork

__all__ = [
    "DIRECTORY",
    "PropertyList",
    "logs",
    "look_command",
    "property_lists",
    "start_commands",
    "stop_command",
]

DIRECTORY = PurePosixPath("/Library/LaunchDaemons")
_LAUNCHCTL = "/bin/launchctl"
#: The account and group that the original's vde_switch runs as.
_SWITCH_USER, _SWITCH_GROUP = "daemon", "staff"


class PropertyList:
    """One service of launchd."""

    def __init__(self, label: str, properties: dict[str, Any]) -> None:
        self.label = label
        self.path = DIRECTORY / label
        self.properties = {"Label": label, **properties}

    def render(self) -> str:
        """The file's text, in the order of the properties."""
        return plistlib.dumps(self.properties, sort_keys=False).decode()


def property_lists(
    network: ServiceNetwork, prefix: PurePosixPath, *, with_vde_switch: bool = False
) -> tuple[PropertyList, ...]:
    """What starts ``network``; a ``vde_switch`` for it comes first."""
    if not with_vde_switch:
        return (_daemon(network, prefix, (), keep_alive=True),)
    pidfile = f"/var/run/vde{network.suffix}.pid"
    # The switch belongs to its own user, who alone can plug in again when it restarts; and a switch that is
    # late must not find us in its place.
    options = ("--vde-switch=plug", f"--user={_SWITCH_USER}")
    return (
        _switch(network, prefix, pidfile),
        _daemon(network, prefix, options, keep_alive={"PathState": {pidfile: True}}),
    )


def _daemon(
    network: ServiceNetwork, prefix: PurePosixPath, options: tuple[str, ...], *, keep_alive: object
) -> PropertyList:
    program = str(prefix / "bin/vde_vmnet")
    return PropertyList(
        f"io.github.lima-vm.vde_vmnet{network.suffix}.plist",
        {
            "Program": program,
            "ProgramArguments": [program, *options, *network.arguments()],
            **_logs(f"/var/run/vde_vmnet{network.suffix}"),
            "RunAtLoad": True,
            "UserName": "root",
            "KeepAlive": keep_alive,
            "ProcessType": "Interactive",
        },
    )


def _switch(network: ServiceNetwork, prefix: PurePosixPath, pidfile: str) -> PropertyList:
    program = str(prefix / "bin/vde_switch")
    group = network.group or _SWITCH_GROUP
    return PropertyList(
        f"io.github.virtualsquare.vde-2.vde_switch{network.suffix}.plist",
        {
            "Program": program,
            "ProgramArguments": [
                program,
                *("--sock", network.switch, "--pidfile", pidfile),
                *("--group", group, "--dirmode", "0770", "--nostdin"),
            ],
            **_logs(f"/var/run/vde{network.suffix}"),
            "RunAtLoad": True,
            "UserName": _SWITCH_USER,
            "GroupName": group,
            "ProcessType": "Interactive",
        },
    )


def _logs(stem: str) -> dict[str, str]:
    return {"StandardErrorPath": f"{stem}.stderr", "StandardOutPath": f"{stem}.stdout"}


def logs(service: PropertyList) -> tuple[str, ...]:
    """The files that launchd makes for the service's output."""
    return (service.properties["StandardErrorPath"], service.properties["StandardOutPath"])


def start_commands(path: PurePosixPath) -> tuple[tuple[str, ...], ...]:
    """What loads and starts the service of the file ``path`` (launchctl(1)).

    Enabled first: a service that was disabled once, with ``unload -w`` for instance, does not bootstrap.
    """
    return (
        (_LAUNCHCTL, "enable", f"system/{path.name}"),
        (_LAUNCHCTL, "bootstrap", "system", str(path)),
        (_LAUNCHCTL, "kickstart", "-kp", f"system/{path.name}"),
    )


def stop_command(path: PurePosixPath) -> tuple[str, ...]:
    """What stops and unloads it; fails when it is not loaded."""
    return (_LAUNCHCTL, "bootout", f"system/{path.name}")


def look_command(path: PurePosixPath) -> tuple[str, ...]:
    """What fails when it is not loaded. ``bootout`` returns before a service that takes its time has ended."""
    return (_LAUNCHCTL, "print", f"system/{path.name}")
