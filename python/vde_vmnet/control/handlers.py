"""What each operation does, and the table of them."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Callable
from typing import TypeVar

import msgspec

import vde_vmnet
from vde_vmnet import log
from vde_vmnet.control import metrics, models
from vde_vmnet.control.access import may_change
from vde_vmnet.control.captures import Captures
from vde_vmnet.control.feed import Feed, Record, Subscription, What
from vde_vmnet.control.network import Facts, Network
from vde_vmnet.control.operations import Operation, Parameter, Refused, Request, Stream
from vde_vmnet.control.steering import Steered
from vde_vmnet.control.telling import done, peer_of
from vde_vmnet.control.view import View
from vde_vmnet.log import about

__all__ = ["Handlers"]

_log = logging.getLogger(__name__)

_Model = TypeVar("_Model", models.Event, models.LogLine)

_PORT = Parameter("number", "Number of the port.", int, highest=65535)
_SINCE = Parameter("since", "Begin after this number, as far as it is remembered.", int, "query")
_LINES = Parameter("lines", "How many at most.", int, "query", lowest=1, highest=1000)
_EVENTS = "text/event-stream"


class Handlers:
    """Of one network."""

    def __init__(self, network: Network, facts: Facts, feed: Feed) -> None:
        self._network = network
        self._facts = facts
        self._feed = feed
        self._steered = Steered(network, facts)
        self._captures = Captures(network)
        self._view = View(network, facts)

    def operations(self) -> list[Operation]:
        """All but the document that describes them."""
        return [
            Operation("GET", "/network", "What runs.", self._info, models.NetworkInfo),
            Operation("GET", "/ports", "Every port with something on it.", self._ports, models.Ports),
            Operation("GET", "/ports/{number}", "One port.", self._port, models.Port, parameters=(_PORT,)),
            *(
                Operation(
                    "POST",
                    f"/ports/{{number}}/{verb}",
                    summary,
                    handler,
                    models.Done,
                    parameters=(_PORT,),
                    changes=True,
                    refusals=("conflict",),
                )
                for verb, summary, handler in (
                    ("down", "Forward nothing from or to a port.", self._down),
                    ("up", "Forward again.", self._up),
                    ("kick", "Unplug whoever is plugged in there; they may come back.", self._kick),
                )
            ),
            Operation("GET", "/fdb", "The stations that the switch has learned.", self._fdb, models.Fdb),
            Operation("GET", "/leases", "The addresses that guests have.", self._leases, models.Leases),
            Operation("GET", "/counters", "All counters at one moment.", self._counters, models.CountersReply),
            Operation(
                "GET",
                "/events",
                "What happens, as server-sent events.",
                self._events,
                None,
                event=models.Event,
                parameters=(_SINCE,),
                media_type=_EVENTS,
            ),
            Operation("GET", "/log", "How much is logged.", self._level, models.LogLevel),
            Operation(
                "PUT",
                "/log",
                "Log more, or less.",
                self._set_level,
                models.LogLevel,
                body=models.LogLevel,
                changes=True,
            ),
            Operation(
                "GET", "/logs", "The last lines of the log.", self._lines, models.LogLines, parameters=(_LINES,)
            ),
            Operation(
                "GET",
                "/logs/follow",
                "The log as it is written, as server-sent events.",
                self._follow,
                None,
                event=models.LogLine,
                parameters=(_SINCE,),
                media_type=_EVENTS,
            ),
            *self._steered.operations(),
            Operation(
                "POST",
                "/reload",
                "Read again what can be: the host's name servers, and what users are called.",
                self._reload,
                models.Reloaded,
                changes=True,
                refusals=("unavailable",),
            ),
            *self._captures.operations(),
            Operation("POST", "/shutdown", "Take the network down.", self._shutdown, models.Done, changes=True),
        ]

    def beside(self, described: bytes) -> list[Operation]:
        """``described`` is the OpenAPI document."""

        async def openapi(_: Request) -> bytes:
            return described

        return [
            Operation("GET", "/openapi.json", "This document.", openapi, None),
            *self.metrics_only(self._network, self._facts, self._feed),
        ]

    @staticmethod
    def metrics_only(network: Network, facts: Facts, feed: Feed) -> list[Operation]:
        """For those who reach the TCP port."""
        view = View(network, facts)

        async def text(_: Request) -> bytes:
            snapshot = metrics.Snapshot(
                version=vde_vmnet.__version__,
                uplink=facts.uplink,
                started=network.started,
                ports=view.counters().ports,
                down=frozenset(network.down),
                stations=len(network.engine.fdb()),
                leases=len(network.leases.current(time.time())),
                events=dict(feed.counts),
            )
            return metrics.render(snapshot).encode()

        return [Operation("GET", "/metrics", "For Prometheus.", text, None, media_type=metrics.CONTENT_TYPE)]

    # -- looking --------------------------------------------------------------------------------------

    async def _info(self, request: Request) -> models.NetworkInfo:
        return self._view.network(may_change=may_change(peer_of(request), self._facts.masters))

    async def _ports(self, _: Request) -> models.Ports:
        return models.Ports(ports=await self._view.ports())

    async def _port(self, request: Request) -> models.Port:
        number = request.parameters["number"]
        for port in await self._view.ports():
            if port.number == number:
                return port
        raise _nobody(number)

    async def _fdb(self, _: Request) -> models.Fdb:
        return models.Fdb(entries=self._view.fdb())

    async def _leases(self, _: Request) -> models.Leases:
        return models.Leases(leases=self._view.leases(self._steered.reserved()))

    async def _counters(self, _: Request) -> models.CountersReply:
        return self._view.counters()

    async def _level(self, _: Request) -> models.LogLevel:
        return models.LogLevel(level=log.get_level())

    async def _lines(self, request: Request) -> models.LogLines:
        most = request.parameters["lines"] or 1000
        return models.LogLines(lines=[_line(one) for one in self._feed.kept("lines", most=most)])

    async def _events(self, request: Request) -> Stream:
        return self._stream("events", request, _event)

    async def _follow(self, request: Request) -> Stream:
        return self._stream("lines", request, _line)

    def _stream(self, what: What, request: Request, model: Callable[[Record], _Model]) -> Stream:
        abort: Callable[[], None] = request.scope["control"]["abort"]
        peer = peer_of(request)

        def drop() -> None:
            abort()
            _log.warning(
                "A reader of %s was dropped: it does not read (pid %s)",
                what,
                peer.pid if peer is not None else "unknown",
                extra=about("dropped", reason="it does not read", pid=peer.pid if peer is not None else None),
            )

        def begin() -> Subscription:
            return self._feed.subscribe(what, since=request.parameters["since"], on_drop=drop)

        return Stream(_EVENTS, self._pieces(begin, model))

    async def _pieces(
        self, begin: Callable[[], Subscription], model: Callable[[Record], _Model]
    ) -> AsyncIterator[bytes]:
        reader = begin()  # not before: a stream whose client has gone already is never begun, nor ended
        try:
            async for record in reader.records():
                data = msgspec.json.encode(model(record))
                yield b"id: %d\ndata: %b\n\n" % (record.seq, data)
        finally:
            self._feed.unsubscribe(reader)

    # -- changing -------------------------------------------------------------------------------------

    async def _down(self, request: Request) -> models.Done:
        return self._set_port(request, up=False)

    async def _up(self, request: Request) -> models.Done:
        return self._set_port(request, up=True)

    def _set_port(self, request: Request, *, up: bool) -> models.Done:
        number = request.parameters["number"]
        if number not in self._network.down and number not in self._numbers():
            raise _nobody(number)
        self._network.engine.set_port(port=number, up=up)
        if up:
            self._network.down.discard(number)
        else:
            self._network.down.add(number)
        return done(request, f"Port {number} is {'up' if up else 'down'}", "port_set", port=number)

    async def _kick(self, request: Request) -> models.Done:
        number = request.parameters["number"]
        if number not in self._numbers():
            raise _nobody(number)
        guests = [endpoint for endpoint, guest in self._view.guests().items() if guest.port == number]
        kicked = [one for one in guests if any(listener.kick(one) for listener in self._network.listeners)]
        if not kicked:
            raise Refused(
                "conflict",
                f"Nobody on port {number} can be unplugged: it is the uplink, or a door that guests come in by",
                "Name the port of a guest; to end the network use shutdown",
            )
        return done(request, f"Unplugged who was on port {number}", "changed", port=number)

    def _numbers(self) -> set[int]:
        return {one["port"] for one in self._network.engine.counters().values()}

    async def _set_level(self, request: Request) -> models.LogLevel:
        level = request.body.level
        if level != log.get_level():
            log.set_level(level)
            done(request, f"The log's level is {level}", "changed")
        return models.LogLevel(level=level)

    async def _reload(self, request: Request) -> models.Reloaded:
        self._view.forget()
        said = self._network.reload()
        done(request, said or "Nothing was to be read again")
        return models.Reloaded(changed=[said] if said else [])

    async def _shutdown(self, request: Request) -> models.Done:
        told = done(request, "The network is being taken down")
        self._network.stop("the control socket asks to")
        return told


def _nobody(number: int) -> Refused:
    return Refused("not_found", f"Nothing is plugged in on port {number}", "See the ports with GET /v1/ports")


def _line(record: Record) -> models.LogLine:
    return models.LogLine(
        seq=record.seq,
        time=record.time,
        level=record.level,
        message=record.message,
        fields=record.fields,
    )


def _event(record: Record) -> models.Event:
    told = {key: value for key, value in record.fields.items() if key in models.Event.__struct_fields__}
    kind = record.fields["event"]
    plain = {"seq": record.seq, "time": record.time, "kind": kind, "message": record.message}
    return msgspec.convert({**told, **plain}, models.Event)
