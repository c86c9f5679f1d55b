"""The only wiring: configuration in, running network out, everything closed in reverse.

``run`` goes through the stages of ``privileges.py`` top to bottom. Privileged, it forks: the worker serves
(``worker.py``), this process stays as the keeper; the other way round for an uplink that does not survive a
fork. Unprivileged there is nothing to keep, and it serves itself.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
from contextlib import ExitStack
from dataclasses import dataclass

from vde_vmnet import privileges, recovery, uplinks
from vde_vmnet.addresses import Forward, Reservation
from vde_vmnet.config.model import DaemonConfig, network_id
from vde_vmnet.control.opening import open_control
from vde_vmnet.errors import InternalError, UplinkError, VdeVmnetError
from vde_vmnet.import_paths import HeldPaths
from vde_vmnet.keeper import (
    ChildKeeper,
    Keeper,
    KeeperChannel,
    Stopped,
    hold_stop_signals,
    stop_raises,
    stop_waits,
)
from vde_vmnet.listening import open_sockets
from vde_vmnet.management import open_console
from vde_vmnet.notify import announce_ready
from vde_vmnet.opened import Segment
from vde_vmnet.pidfile import Pidfile
from vde_vmnet.segment import open_segments
from vde_vmnet.uplinks.base import OpenedUplink, Uplink

__all__ = ["run"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Network:
    """What stage 2 has opened, but for the uplink."""

    segments: list[Segment]
    uplink: Uplink
    undo: recovery.UndoRecord
    pidfile: Pidfile | None

    def reserve(self, one: Reservation, on: bool) -> None:
        """In the process with the record."""
        self.uplink.reserve(one, on=on)

    def forward(self, rule: Forward, on: bool) -> None:
        """The same."""
        self.uplink.forward(rule, on=on)

    def release_record(self) -> None:
        """In the process that is not the keeper: locks live and die with the keeper."""
        self.undo.release_in_child()
        if self.pidfile is not None:
            self.pidfile.release_in_child()

    def release_sockets(self) -> None:
        """In the keeper: close what is the worker's alone."""
        for segment in self.segments:
            segment.release_in_keeper()


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
    privileged = os.geteuid() == 0 or uplink.needs_keeper
    with ExitStack() as closing:
        try:
            with stop_raises():
                network = _open(config, uplink, identity, gid, closing, privileged=privileged)
                if not uplink.survives_fork:
                    return _be_served(config, network, identity, gid, closing, kept=privileged)
                opened = uplink.open(network.undo)
                hold_stop_signals()
        except Stopped as stopped:
            _log.info("%s while the network was being opened; taking it down", stopped)
            return 0
        if not privileged:
            return _serve(config, network, opened, identity, gid, None)
        return _keep(config, network, opened, identity, gid)


def _open(
    config: DaemonConfig,
    uplink: Uplink,
    identity: privileges.Identity,
    gid: int,
    closing: ExitStack,
    *,
    privileged: bool,
) -> _Network:
    """Stage 2 without the uplink. ``closing`` gets what must be taken down, in order."""
    pidfile = None
    if config.pidfile is not None:
        with stop_waits():
            pidfile = Pidfile.claim(config.pidfile)
            closing.callback(pidfile.remove)
    if privileged:
        recovery.sweep()
    segments = open_segments(config, identity, gid, closing, has_uplink=uplink.name != "none")
    segments += open_sockets(config, identity, gid, closing)
    segments += open_console(config, identity, closing)
    segments += open_control(config, identity, gid, closing, uplink=uplink.name)
    if privileged:
        undo = recovery.UndoRecord.create(network_id(config.switch.key))
        for segment in segments:
            segment.record(undo)
    else:
        undo = recovery.UndoRecord.in_memory(network_id(config.switch.key))
    closing.callback(undo.run)
    return _Network(segments, uplink, undo, pidfile)


def _keep(
    config: DaemonConfig, network: _Network, opened: OpenedUplink, identity: privileges.Identity, gid: int
) -> int:
    """Fork the worker; be its keeper."""
    ours, theirs = socket.socketpair()
    sys.stdout.flush()
    sys.stderr.flush()
    worker = os.fork()
    if worker == 0:
        ours.close()
        network.release_record()
        # Not a return: the keeper's clean-up on the way out is not the worker's.
        os._exit(_worker_status(config, network, opened, identity, gid, theirs))
    theirs.close()
    opened.release_in_keeper()
    network.release_sockets()

    def open_guest_mac(mac: str) -> tuple[int, str]:
        endpoint = network.uplink.open_guest_mac(mac, network.undo)
        return endpoint.fd, endpoint.name

    with ours:
        return Keeper(
            ours,
            worker,
            on_ready=lambda: _tell_ready(network, os.getpid()),
            open_guest_mac=open_guest_mac,
            reserve=network.reserve,
            lead_forward=opened.lead_forward,
            forward=network.forward,
            reload=network.uplink.reload,
        ).run()


def _be_served(
    config: DaemonConfig,
    network: _Network,
    identity: privileges.Identity,
    gid: int,
    closing: ExitStack,
    *,
    kept: bool,
) -> int:
    """Be the worker, of an uplink that does not survive a fork; ``kept``: fork the keeper first.

    The exit status is the worker's own. Raises Stopped, and VdeVmnetError, when everything is undone.
    """
    if not kept:
        return _open_and_serve(config, network, identity, gid, None)
    ours, theirs = socket.socketpair()
    sys.stdout.flush()
    sys.stderr.flush()
    worker = os.getpid()
    keeper = os.fork()
    if keeper == 0:
        theirs.close()
        os._exit(_keeper_status(network, ours, worker, closing))
    ours.close()
    network.release_record()
    undoing = closing.pop_all()  # the keeper's from here on; the objects in it live as long as we do
    try:
        status = _open_and_serve(config, network, identity, gid, KeeperChannel(theirs))
    finally:
        theirs.close()
        _, ended = os.waitpid(keeper, 0)
        del undoing
    if ended != 0:
        code = os.waitstatus_to_exitcode(ended)
        how = f"by {signal.Signals(-code).name}" if code < 0 else f"with status {code}"
        raise InternalError(
            f"The keeper ended {how}, so that what needs root to be undone is left",
            next_step="Start the daemon again: it removes what this one left",
        )
    return status


def _open_and_serve(
    config: DaemonConfig,
    network: _Network,
    identity: privileges.Identity,
    gid: int,
    keeper: KeeperChannel | None,
) -> int:
    def prepare() -> None:
        if keeper is not None:
            keeper.prepare()
        else:
            network.uplink.prepare(network.undo)

    try:
        opened = network.uplink.open(network.undo, prepare)
        try:
            return _serve(config, network, opened, identity, gid, keeper)
        finally:
            opened.close()
    except (VdeVmnetError, Stopped):
        raise
    except BaseException:  # noqa: BLE001 - as for a forked worker: a bug has a status of its own
        _log.exception("The worker failed; please report this")
        return 70


def _keeper_status(network: _Network, channel: socket.socket, worker: int, closing: ExitStack) -> int:
    """The life of a keeper that is the worker's child, as an exit status."""

    def no_guest_mac(mac: str) -> tuple[int, str]:
        raise UplinkError(f"No descriptor for {mac}: the uplink hears every guest")

    try:
        with channel, closing:  # whatever happens in here, everything is undone
            network.release_sockets()
            return ChildKeeper(
                channel,
                worker,
                on_ready=lambda: _tell_ready(network, worker),
                open_guest_mac=no_guest_mac,
                reserve=network.reserve,
                forward=network.forward,
                reload=network.uplink.reload,
                prepare=lambda: network.uplink.prepare(network.undo),
            ).run()
    except BaseException:  # noqa: BLE001 - the end of a forked process: there is no caller to raise to
        _log.exception("The keeper failed; please report this")
        return 70
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def _tell_ready(network: _Network, pid: int) -> None:
    if network.pidfile is not None:
        network.pidfile.write(pid)
    announce_ready(os.environ)


def _worker_status(
    config: DaemonConfig,
    network: _Network,
    opened: OpenedUplink,
    identity: privileges.Identity,
    gid: int,
    channel: socket.socket,
) -> int:
    """The worker's life as an exit status; errors are reported here, since the keeper cannot see them."""
    try:
        return _serve(config, network, opened, identity, gid, KeeperChannel(channel))
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
    config: DaemonConfig,
    network: _Network,
    opened: OpenedUplink,
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
    # What is loaded later may lie where the service user does not come.
    ways = HeldPaths.open()
    privileges.drop(identity, gid)
    ways.use()

    def ready() -> None:
        if keeper is not None:
            keeper.ready()
        else:
            _tell_ready(network, os.getpid())

    def reserve(one: Reservation, on: bool) -> None:
        if keeper is not None:
            keeper.reserve(one, on=on)
        else:
            network.uplink.reserve(one, on=on)

    def forward(rule: Forward, on: bool) -> None:
        if keeper is not None:
            keeper.forward(rule, on=on)
        else:
            network.uplink.forward(rule, on=on)

    reload = keeper.reload if keeper is not None else network.uplink.reload
    worker.serve(
        listeners,
        opened,
        keeper,
        ready,
        reserve=reserve,
        forward=forward,
        reload=reload,
        busy_poll=config.busy_poll,
        json=config.json,
    )
    return 0
