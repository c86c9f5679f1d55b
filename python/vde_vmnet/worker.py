"""The worker: one event loop that connects listeners, engine and uplink, and ends when it is told to.

It runs as the service user. Everything guests and clients can write arrives here or in the engine.
"""

from __future__ import annotations

import asyncio
import json as json_module
import logging
import os
import resource
import signal
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from ipaddress import IPv4Address
from typing import TYPE_CHECKING

from vde_vmnet._engine import Engine
from vde_vmnet.addresses import Forward, Reservation
from vde_vmnet.control.network import LeaseSource, Network, Overseer
from vde_vmnet.errors import InternalError, UplinkError, VdeVmnetError
from vde_vmnet.keeper import STOP_SIGNALS, KeeperChannel, let_stop_signals_in
from vde_vmnet.log import about
from vde_vmnet.ports.base import UPLINK_PORT, Greeter, Listener
from vde_vmnet.uplinks.base import OpenedUplink
from vde_vmnet.uplinks.followers import Followers, LaterFollowers
from vde_vmnet.uplinks.leases import LeaseTable
from vde_vmnet.uplinks.linux.dnsmasq import LeaseEvent, lease_event

if TYPE_CHECKING:
    from vde_vmnet._engine import Event  # a shape in the stub, not an object of the module

__all__ = ["serve"]

_log = logging.getLogger(__name__)

#: Leases remembered so that a renewal is not news; more guests than a /22 holds are logged twice.
_KNOWN_LEASES = 1024
#: A service line longer than this is cut; dnsmasq's are under 200 bytes.
_SERVICE_LINE = 4096


def serve(
    listeners: Sequence[Callable[[Engine], Listener]],
    opened: OpenedUplink,
    keeper: KeeperChannel | None,
    ready: Callable[[], None],
    *,
    reserve: Callable[[Reservation, bool], None],
    forward: Callable[[Forward, bool], None],
    reload: Callable[[], str],
    busy_poll: int = 0,
    json: bool = False,
) -> None:
    """Serve until a stop signal or until the keeper is gone. ``ready`` is called when guests can plug in.

    ``busy_poll``: for how many microseconds the engine asks for more after traffic before it sleeps.

    ``json``: say what the uplink reports as one line on standard output, just before that.

    ``reserve``: keep an address for a guest, or no longer; ``forward``: open a way in, or close it; ``reload``:
    have services look again, and say what they did. All ask the keeper, where there is one.

    ``listeners`` are made here, once the engine that they hand descriptors to is there.

    Raises UplinkError when the uplink is lost, InternalError when the engine fails.
    """
    _raise_descriptor_limit()
    engine = Engine(busy_poll_seconds=busy_poll / 1e6)
    asyncio.run(_Worker(engine, listeners, opened, keeper, reserve, forward, reload, json=json).run(ready))


def _raise_descriptor_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        if soft != hard:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class _Worker:
    def __init__(
        self,
        engine: Engine,
        listeners: Sequence[Callable[[Engine], Listener]],
        opened: OpenedUplink,
        keeper: KeeperChannel | None,
        reserve: Callable[[Reservation, bool], None],
        forward: Callable[[Forward, bool], None],
        reload: Callable[[], str],
        *,
        json: bool,
    ) -> None:
        self._opened = opened
        self._json = json
        self._keeper = keeper
        self._change_reservation = reserve
        self._change_forward = forward
        self._have_reloaded = reload
        self._engine = engine
        self._listeners = [make(self._engine) for make in listeners]
        self._uplink_endpoint = -1
        self._guest_macs: set[str] = set()
        self._leases: OrderedDict[str, str] = OrderedDict()
        self._lease_table = LeaseTable()
        self._followers = Followers(opened.followed, self._lead_forward)
        self._later_followers = LaterFollowers(self._forward)
        self._service_buffer = b""
        self._ended: asyncio.Future[None]

    async def run(self, ready: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        self._ended = loop.create_future()
        for number in STOP_SIGNALS:
            loop.add_signal_handler(number, self._stop, f"{signal.Signals(number).name} received")
        let_stop_signals_in()
        loop.add_reader(self._engine.event_fd, self._on_engine_events)
        if self._keeper is not None:
            # It speaks only when spoken to, so this is the end of the channel: nobody is left to undo for us.
            loop.add_reader(self._keeper.socket, self._stop, "the keeper is gone")
        if self._opened.service_log_fd is not None:
            os.set_blocking(self._opened.service_log_fd, False)
            loop.add_reader(self._opened.service_log_fd, self._on_service_log)
        leases: LeaseSource = self._opened.leases or self._lease_table
        network = Network(
            self._engine,
            self._listeners,
            self._opened,
            leases,
            self._stop,
            self._reserve,
            self._forward,
            self._later_followers,
            self._reload,
            time.time(),
        )
        for overseer in self._listeners:
            if isinstance(overseer, Overseer):
                overseer.oversee(network)
        try:
            if self._opened.endpoint is not None:
                self._uplink_endpoint = self._opened.endpoint.attach(self._engine, UPLINK_PORT)
            for listener in self._listeners:
                listener.start()
            # The log first: whoever waits for the pidfile finds in it what to do.
            self._report()
            self._ask_keeper(ready)
            await self._ended
        finally:
            for listener in reversed(self._listeners):
                await listener.stop()
            loop.remove_reader(self._engine.event_fd)
            self._engine.close()
            # What is closed after this must not be cut short by an impatient second Ctrl-C.
            for number in STOP_SIGNALS:
                loop.remove_signal_handler(number)
                signal.signal(number, signal.SIG_IGN)

    def _report(self) -> None:
        if self._json:
            sys.stdout.write(f"{json_module.dumps(dict(self._opened.report))}\n")
            sys.stdout.flush()
        for key, value in self._opened.facts:
            _log.info("* %s: %s", key, value)
        for how in filter(None, (listener.how_to_plug_in() for listener in self._listeners)):
            _log.info(
                "Plug a guest in with: %s -device virtio-net-pci,netdev=net0,mac=52:54:00:XX:XX:XX"
                " (a different mac for each guest)",
                how,
            )

    def _stop(self, why: str) -> None:
        if not self._ended.done():
            _log.info("Stopping: %s", why, extra=about("stopping", reason=why))
            self._ended.set_result(None)

    def _fail(self, error: VdeVmnetError) -> None:
        if not self._ended.done():
            self._ended.set_exception(error)

    # -- the engine -----------------------------------------------------------------------------------

    def _on_engine_events(self) -> None:
        for event in self._engine.take_events():
            if event["kind"] == "first_mac":
                self._on_first_mac(event)
            elif event["kind"] == "newcomer":
                greeters = (one for one in self._listeners if isinstance(one, Greeter))
                any(one.newcomer(event["endpoint"], event["address"]) for one in greeters)
            elif event["kind"] == "engine_failed":
                self._fail(
                    InternalError(f"The engine failed: {event['reason']}", next_step="Please report this")
                )
            elif event["kind"] == "trouble":
                told = about("trouble", port=event["port"], endpoint=event["endpoint"])
                _log.warning("%s", event["reason"], extra=told)
            elif event["kind"] == "capture_ended":
                _log.info(
                    "Capture %d has ended, %s: %d frames, %d dropped",
                    *(event["capture"], event["reason"], event["frames"], event["dropped"]),
                )
            elif event["endpoint"] == self._uplink_endpoint:
                self._fail(
                    UplinkError(
                        f"The uplink is gone: {event['reason']}",
                        next_step="Somebody removed its interface; start the daemon again",
                    )
                )
            elif not any(one.endpoint_down(event["endpoint"], event["reason"]) for one in self._listeners):
                _log.debug("Endpoint %d is gone: %s", event["endpoint"], event["reason"])

    def _on_first_mac(self, event: Event) -> None:
        if event["port"] in (UPLINK_PORT, UPLINK_PORT - 1):
            return
        labels = (one.label(event["endpoint"]) for one in self._listeners)
        _log.info(
            "%s has MAC address %s",
            next(filter(None, labels), "A guest"),
            event["mac"],
            extra=about("first_mac", port=event["port"], endpoint=event["endpoint"], mac=event["mac"]),
        )
        if not self._opened.per_guest_mac or self._keeper is None or event["mac"] in self._guest_macs:
            return
        self._guest_macs.add(event["mac"])
        self._ask_keeper(lambda: self._open_guest_mac(event["mac"]))

    def _open_guest_mac(self, mac: str) -> None:
        assert self._keeper is not None  # noqa: S101 - the caller looked
        try:
            fd, name = self._keeper.open_guest_mac(mac)
        except UplinkError as error:
            _log.error("Guest %s will not hear the network: %s", mac, error)
            return
        self._engine.attach(port=UPLINK_PORT, kind="tap", fd=fd, name=name, receive_only=True)

    def _reserve(self, one: Reservation, on: bool) -> None:
        self._ask_keeper(lambda: self._change_reservation(one, on))

    def _lead_forward(self, number: int, address: IPv4Address) -> None:
        assert self._keeper is not None  # noqa: S101 - nothing is followed without one
        keeper = self._keeper
        self._ask_keeper(lambda: keeper.lead_forward(number, address))

    def _forward(self, rule: Forward, on: bool) -> None:
        self._ask_keeper(lambda: self._change_forward(rule, on))

    def _reload(self) -> str:
        said: list[str] = []
        self._ask_keeper(lambda: said.append(self._have_reloaded()))
        return said[0]

    def _ask_keeper(self, ask: Callable[[], None]) -> None:
        """Run one request while nobody else reads the channel. Blocks for milliseconds; frames flow on."""
        loop = asyncio.get_running_loop()
        if self._keeper is None:
            ask()
            return
        loop.remove_reader(self._keeper.socket)
        try:
            ask()
        finally:
            loop.add_reader(self._keeper.socket, self._stop, "the keeper is gone")

    # -- the services beside us -----------------------------------------------------------------------

    def _on_service_log(self) -> None:
        """Read what dnsmasq says. Guests choose part of it (host names), so it is data, never format."""
        fd = self._opened.service_log_fd
        assert fd is not None  # noqa: S101 - the reader exists only with it
        try:
            data = os.read(fd, 65536)
        except BlockingIOError:
            return
        if not data:
            asyncio.get_running_loop().remove_reader(fd)
            if self._keeper is None:
                # The keeper would have noticed.
                self._fail(
                    UplinkError("dnsmasq, which the network needs, has ended", next_step="Start it again")
                )
            return
        *lines, self._service_buffer = (self._service_buffer + data).split(b"\n")
        self._service_buffer = self._service_buffer[-_SERVICE_LINE:]
        for raw in lines:
            line = raw[:_SERVICE_LINE].decode("utf-8", "replace")
            _log.debug("%s", line)
            lease = lease_event(line)
            if lease is not None:
                self._on_lease(lease)

    def _on_lease(self, lease: LeaseEvent) -> None:
        if lease.kind == "ack":
            self._lease_table.given(lease.mac, lease.address, lease.name, time.time())
            self._followers.lease(lease.mac, lease.address, lease.name)
            self._later_followers.lease(lease.mac, lease.address, lease.name)
            if self._opened.on_lease is not None:
                self._opened.on_lease(lease.mac, lease.address, lease.name)
        elif lease.kind in ("release", "decline"):
            self._lease_table.released(lease.address)
        if self._is_news(lease.mac, f"{lease.kind} {lease.address}"):
            event = {"ack": "lease", "release": "release"}.get(lease.kind, "lease_refused")
            _log.info(
                "Lease: %s %s %s %s",
                lease.kind,
                lease.address,
                lease.mac,
                lease.name or "-",
                extra=about(event, mac=lease.mac, address=lease.address, name=lease.name),
            )

    def _is_news(self, mac: str, what: str) -> bool:
        known = self._leases.pop(mac, None)
        self._leases[mac] = what
        if len(self._leases) > _KNOWN_LEASES:
            self._leases.popitem(last=False)
        return known != what
