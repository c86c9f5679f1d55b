"""The only wiring: configuration in, running network out, everything closed in reverse.

``run`` goes through the stages of ``privileges.py`` top to bottom. Privileged, it forks: the worker serves
(``worker.py``), this process stays as the keeper. Unprivileged there is nothing to keep, and it serves
itself.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
from contextlib import ExitStack
from dataclasses import dataclass

from vde_vmnet import privileges, recovery, uplinks
from vde_vmnet.config.model import DaemonConfig, network_id
from vde_vmnet.errors import VdeVmnetError
from vde_vmnet.keeper import Keeper, KeeperChannel, Stopped, stop_raises
from vde_vmnet.listening import open_sockets
from vde_vmnet.management import open_console
from vde_vmnet.pidfile import Pidfile
from vde_vmnet.segment import Segment, open_segments
from vde_vmnet.uplinks.base import OpenedUplink, Uplink

__all__ = ["run"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Network:
    """What stage 2 has opened."""

    segments: list[Segment]
    uplink: Uplink
    opened: OpenedUplink
    undo: recovery.UndoRecord
    pidfile: Pidfile | None


def run(config: DaemonConfig) -> int:
    """Open the network, serve until told to stop, take it down; returns the exit status.

    Raises VdeVmnetError with everything undone.
    """
    identity = privileges.service_identity(config.user, os.environ)
    gid = privileges.socket_group(config.switch.group, identity)
    name = network_id(config.switch.key)
    uplink, why = uplinks.choose(config.backend, config.uplink, name)
    _log.info("Uplink: %s", why)
    # A caller that holds capabilities without being root needs a keeper just as well.
    privileged = os.geteuid() == 0 or uplink.name != "none"
    with ExitStack() as closing:
        try:
            with stop_raises():
                network = _open(config, uplink, identity, gid, closing, privileged=privileged)
        except Stopped as stopped:
            _log.info("%s while the network was being opened; taking it down", stopped)
            return 0
        if not privileged:
            return _serve(network, identity, gid, None)
        return _keep(network, identity, gid)


def _open(
    config: DaemonConfig,
    uplink: Uplink,
    identity: privileges.Identity,
    gid: int,
    closing: ExitStack,
    *,
    privileged: bool,
) -> _Network:
    """Stage 2. ``closing`` gets what must be taken down, in order."""
    pidfile = None
    if config.pidfile is not None:
        pidfile = Pidfile.claim(config.pidfile)
        closing.callback(pidfile.remove)
    if privileged:
        recovery.sweep()
    segments = open_segments(config, identity, gid, closing, has_uplink=uplink.name != "none")
    segments += open_sockets(config, identity, gid, closing)
    segments += open_console(config, identity, closing)
    if privileged:
        undo = recovery.UndoRecord.create(network_id(config.switch.key))
        for segment in segments:
            segment.record(undo)
    else:
        undo = recovery.UndoRecord.in_memory(network_id(config.switch.key))
    closing.callback(undo.run)
    return _Network(segments, uplink, uplink.open(undo), undo, pidfile)


def _keep(network: _Network, identity: privileges.Identity, gid: int) -> int:
    """Fork the worker; be its keeper."""
    ours, theirs = socket.socketpair()
    sys.stdout.flush()
    sys.stderr.flush()
    worker = os.fork()
    if worker == 0:
        ours.close()
        network.undo.release_in_child()
        if network.pidfile is not None:
            network.pidfile.release_in_child()
        # Not a return: the keeper's clean-up on the way out is not the worker's.
        os._exit(_worker_status(network, identity, gid, theirs))
    theirs.close()
    for fd in _handed_over(network.opened):
        os.close(fd)
    for segment in network.segments:
        segment.release_in_keeper()

    def on_ready() -> None:
        if network.pidfile is not None:
            network.pidfile.write(os.getpid())

    def open_guest_mac(mac: str) -> tuple[int, str]:
        endpoint = network.uplink.open_guest_mac(mac, network.undo)
        return endpoint.fd, endpoint.name

    with ours:
        return Keeper(ours, worker, on_ready=on_ready, open_guest_mac=open_guest_mac).run()


def _handed_over(opened: OpenedUplink) -> list[int]:
    """Descriptors that are the worker's alone: a copy here would keep a TAP alive after it."""
    descriptors = [opened.endpoint.fd] if opened.endpoint else []
    return descriptors + ([opened.service_log_fd] if opened.service_log_fd is not None else [])


def _worker_status(network: _Network, identity: privileges.Identity, gid: int, channel: socket.socket) -> int:
    """The worker's life as an exit status; errors are reported here, since the keeper cannot see them."""
    try:
        return _serve(network, identity, gid, KeeperChannel(channel))
    except VdeVmnetError as error:
        _log.error("%s", error)
        return error.exit_code
    except BaseException:  # noqa: BLE001 - the end of a forked process: there is no caller to raise to
        _log.exception("The worker failed; please report this")
        return 70
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def _serve(
    network: _Network,
    identity: privileges.Identity,
    gid: int,
    keeper: KeeperChannel | None,
) -> int:
    """Stages 3 and 4."""
    # Before the drop: the service user may not be able to read the folder we are installed in. The keeper
    # never loads it, nor the engine.
    # asyncio does without ssl where there is none; a daemon that speaks no TLS saves 4 MB of it.
    sys.modules.setdefault("ssl", None)  # type: ignore[arg-type]
    from vde_vmnet import worker

    listeners = [segment.listener() for segment in network.segments]
    privileges.drop(identity, gid)

    def ready() -> None:
        if keeper is not None:
            keeper.ready()
        elif network.pidfile is not None:
            network.pidfile.write(os.getpid())

    worker.serve(listeners, network.opened, keeper, ready)
    return 0
