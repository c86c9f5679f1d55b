"""What each VDESWITCH names, opened in stage 2: a directory to serve in, a switch to join, a pair's socket.

Here is the decision of ``--vde-switch=auto``, and what each case needs of the keeper and of the worker. A
new way to plug in is one more class with the rooms of ``opened.Segment``.
"""

from __future__ import annotations

import logging
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from vde_vmnet import privileges, sockets
from vde_vmnet.config.model import DaemonConfig, SwitchConfig, SwitchRole
from vde_vmnet.errors import ConflictError, PrivilegeError
from vde_vmnet.keeper import stop_waits
from vde_vmnet.opened import MakeListener, Segment
from vde_vmnet.point_to_point import open_pair
from vde_vmnet.ports.base import SEGMENT_PORTS
from vde_vmnet.ports.numbers import VdePorts
from vde_vmnet.recovery import RemoveDirectory, UndoRecord, Unlink
from vde_vmnet.vde_client import PlugTarget, VdeClient

__all__ = ["open_segments"]

_log = logging.getLogger(__name__)


def open_segments(
    config: DaemonConfig, identity: privileges.Identity, gid: int, closing: ExitStack, *, has_uplink: bool
) -> list[Segment]:
    """Open every VDESWITCH; ``closing`` gets what must be taken down.

    Raises ConflictError, PrivilegeError, ConfigurationError, UnavailableError.
    """
    # Nothing to plug in with ``auto``.
    isolated = config.is_alone and not has_uplink
    ports = VdePorts()
    return [
        _open_segment(one, identity, gid, closing, isolated=isolated, ports=ports, place=place)
        for one, place in zip(config.switches, reversed(SEGMENT_PORTS), strict=False)
    ]


def _open_segment(
    config: SwitchConfig,
    identity: privileges.Identity,
    gid: int,
    closing: ExitStack,
    *,
    isolated: bool,
    ports: VdePorts,
    place: int,
) -> Segment:
    if config.point_to_point:
        return open_pair(config, identity, gid, closing, place)
    if _plugs(config, isolated=isolated):
        client = _plug_in(config, identity, gid)
        closing.callback(client.close)
        return _Plugged(client, place)
    if config.port is not None:
        _log.warning("[%d] of VDESWITCH has no effect: no switch is there, so we are the switch", config.port)
    with stop_waits():
        directory = sockets.SwitchDirectory.claim(config, uid=identity.uid, gid=gid)
        closing.callback(directory.remove)
    return _Served(directory, ports)


def _plugs(config: SwitchConfig, *, isolated: bool) -> bool:
    if config.role is not SwitchRole.AUTO:
        return config.role is SwitchRole.PLUG
    if not sockets.has_live_switch(config.directory):
        return False
    if isolated or sockets.is_claimed(config.directory):
        why = "there is no uplink to plug in" if isolated else "it is a vde_vmnet with a network of its own"
        raise ConflictError(
            f'Switch directory "{config.directory}" is in use by a running switch, and {why}',
            next_step=f"Plug your guest into it (sock={config.directory}), stop it, choose another directory,"
            " or insist on joining it with --vde-switch=plug",
        )
    return True


def _plug_in(config: SwitchConfig, identity: privileges.Identity, gid: int) -> VdeClient:
    target = PlugTarget(
        directory=config.directory, port=config.port, gid=gid if config.group is not None else None
    )
    try:
        return privileges.with_least_privilege(
            identity, gid, config.directory, partial(VdeClient.plug_in, target)
        )
    except PermissionError:
        owner = _owner(config.directory)
        raise PrivilegeError(
            f'The VDE switch at "{config.directory}" does not let "{identity.name}", as whom the daemon serves,'
            " plug in",
            next_step=f"Serve as its user (--user={owner}), or give the switch a group of that user"
            " (vde_switch -m 660 -g GROUP) and name it with --vde-group",
        ) from None


def _owner(path: Path) -> str:
    try:
        return path.owner()
    except (KeyError, OSError):
        return "OWNER"


class _Served:
    """We are the switch."""

    def __init__(self, directory: sockets.SwitchDirectory, ports: VdePorts) -> None:
        self._directory = directory
        self._ports = ports

    def record(self, undo: UndoRecord) -> None:
        if self._directory.made:
            undo.push(RemoveDirectory(str(self._directory.path)))
        undo.push(Unlink(str(self._directory.path / sockets.CONTROL_NAME)))

    def release_in_keeper(self) -> None:
        """Nothing: the lock on the directory is the network's as long as anybody lives."""

    def listener(self) -> MakeListener:
        from vde_vmnet.ports.vde_switch import VdeSwitchListener

        return partial(VdeSwitchListener, self._directory, ports=self._ports)


class _Plugged:
    """We are a client of somebody else's switch."""

    def __init__(self, client: VdeClient, place: int) -> None:
        self._client = client
        self._place = place

    def record(self, undo: UndoRecord) -> None:
        """Nothing: a plug vanishes with its sockets."""

    def release_in_keeper(self) -> None:
        self._client.close()

    def listener(self) -> MakeListener:
        from vde_vmnet.ports.vde_plug import VdePlugListener

        return partial(VdePlugListener, self._client, port=self._place)
