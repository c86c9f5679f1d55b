"""Reservations and forwards, added and removed while the network runs. What the command line said stays."""

from __future__ import annotations

import time
from ipaddress import IPv4Address

from vde_vmnet.addresses import Forward, MacAddress, NamedForward, Reservation
from vde_vmnet.control import models
from vde_vmnet.control.models import ErrorCode
from vde_vmnet.control.network import Facts, Network
from vde_vmnet.control.operations import Operation, Parameter, Refused, Request
from vde_vmnet.control.telling import done

__all__ = ["Steered"]


_MAC = Parameter("mac", "MAC address of a guest.", str, pattern="^[0-9A-Fa-f]{2}([:-][0-9A-Fa-f]{2}){5}$")
#: More is a list for a DHCP server of its own.
_MOST = 1024

_Rule = Forward | NamedForward


class Steered:
    """Of one network."""

    def __init__(self, network: Network, facts: Facts) -> None:
        self._network = network
        self._given = facts.reservations
        self._given_forwards = facts.forwards
        self._reservations: dict[MacAddress, Reservation] = {}
        self._forwards: list[_Rule] = []

    def reserved(self) -> dict[str, IPv4Address]:
        """The address that is kept for each MAC address."""
        return {str(one.mac): one.address for one in (*self._given, *self._reservations.values())}

    def operations(self) -> list[Operation]:
        """The table's part."""
        refusals: tuple[ErrorCode, ...] = ("conflict", "unavailable")
        return [
            Operation("GET", "/reservations", "The addresses that are kept.", self._list, models.Reservations),
            Operation(
                "POST",
                "/reservations",
                "Keep an address for a guest, from its next lease on.",
                self._reserve,
                models.Done,
                body=models.Reservation,
                changes=True,
                refusals=refusals,
            ),
            Operation(
                "DELETE",
                "/reservations/{mac}",
                "Keep it no longer; for one that was added while the network ran.",
                self._unreserve,
                models.Done,
                parameters=(_MAC,),
                changes=True,
                refusals=refusals,
            ),
            Operation("GET", "/forwards", "The host's ports that lead to guests.", self._ways, models.Forwards),
            Operation(
                "POST",
                "/forwards",
                "Open a way in to a guest.",
                self._forward,
                models.Done,
                body=models.Forward,
                changes=True,
                refusals=refusals,
            ),
            Operation(
                "DELETE",
                "/forwards",
                "Close it; for one that was added while the network ran.",
                self._unforward,
                models.Done,
                body=models.Forward,
                changes=True,
                refusals=("not_found", *refusals),
            ),
        ]

    # -- reservations ---------------------------------------------------------------------------------

    async def _list(self, _: Request) -> models.Reservations:
        found = [
            models.Reservation(mac=str(one.mac), address=str(one.address), name=one.name)
            for one in (*self._given, *self._reservations.values())
        ]
        return models.Reservations(reservations=found)

    async def _reserve(self, request: Request) -> models.Done:
        wanted: models.Reservation = request.body
        text = f"{wanted.mac}={wanted.address}" + (f",{wanted.name}" if wanted.name is not None else "")
        try:
            one = Reservation.parse(text)
        except ValueError as error:
            raise Refused("invalid_request", str(error), "Correct it") from None
        if len(self._reservations) >= _MOST:
            raise Refused("conflict", f"{_MOST} were added already", "Remove one first")
        for other in (*self._given, *self._reservations.values()):
            if one.mac == other.mac or one.address == other.address or (one.name and one.name == other.name):
                raise Refused(
                    "conflict",
                    f"{other.address} is kept for {other.mac}" + (f" as {other.name}" if other.name else ""),
                    "Remove that first, or choose others",
                )
        self._network.reserve(one, True)
        self._reservations[one.mac] = one
        return done(request, f"{one.address} is kept for {one.mac}")

    async def _unreserve(self, request: Request) -> models.Done:
        mac = MacAddress(request.parameters["mac"].lower().replace("-", ":"))
        one = self._reservations.get(mac)
        if one is None:
            if any(given.mac == mac for given in self._given):
                raise _of_the_command_line("--reserve")
            raise Refused("not_found", f"Nothing is kept for {mac}", "See GET /v1/reservations")
        self._network.reserve(one, False)
        del self._reservations[mac]
        return done(request, f"{one.address} is kept for {mac} no longer")

    # -- forwards -------------------------------------------------------------------------------------

    async def _ways(self, _: Request) -> models.Forwards:
        return models.Forwards(forwards=[_model(one) for one in (*self._given_forwards, *self._forwards)])

    async def _forward(self, request: Request) -> models.Done:
        rule = _rule(request.body)
        if rule in self._given_forwards or rule in self._forwards:
            raise Refused("conflict", f"{rule} is there already", "See GET /v1/forwards")
        if len(self._forwards) >= _MOST:
            raise Refused("conflict", f"{_MOST} were added already", "Remove one first")
        self._switch(rule, on=True)
        self._forwards.append(rule)
        return done(request, f"Forwarding {rule}")

    async def _unforward(self, request: Request) -> models.Done:
        rule = _rule(request.body)
        if rule not in self._forwards:
            if rule in self._given_forwards:
                raise _of_the_command_line("--forward")
            raise Refused("not_found", f"{rule} is not forwarded", "See GET /v1/forwards")
        self._switch(rule, on=False)
        self._forwards.remove(rule)
        return done(request, f"Forwarding {rule} no longer")

    def _switch(self, rule: _Rule, *, on: bool) -> None:
        ways = self._network.opened.ways_in
        if ways is not None:
            ways.add(rule) if on else ways.remove(rule)
        elif isinstance(rule, Forward):
            self._network.forward(rule, on)
        elif on:
            self._network.followers.add(rule, self._address(rule))
        else:
            self._network.followers.remove(rule)

    def _address(self, rule: NamedForward) -> IPv4Address:
        """The guest's, by a lease or a reservation."""
        for lease in self._network.leases.current(time.time()):
            if isinstance(lease.address, IPv4Address) and rule.is_for(lease.mac or "", lease.name):
                return lease.address
        for one in (*self._given, *self._reservations.values()):
            if rule.is_for(str(one.mac), one.name):
                return one.address
        raise Refused(
            "unavailable",
            f"{rule}: no guest of that name or MAC address has a lease or a reservation",
            "Add it when the guest is up, reserve an address for it, or give one",
        )


def _of_the_command_line(option: str) -> Refused:
    return Refused(
        "conflict", f"This one was given by {option}", f"Start the daemon again without that {option}"
    )


def _rule(wanted: models.Forward) -> _Rule:
    host = "" if wanted.host is None else f"{wanted.host}:"
    text = f"{wanted.protocol}:{host}{wanted.host_port}:{wanted.guest}:{wanted.guest_port}"
    try:
        named = NamedForward.parse(text)
        if isinstance(named.guest, str) and named.guest.replace(".", "").isdecimal():
            return named.to(IPv4Address(named.guest))
    except ValueError as error:
        raise Refused("invalid_request", str(error), "Correct it") from None
    return named


def _model(rule: _Rule) -> models.Forward:
    return models.Forward(
        protocol="udp" if rule.protocol == "udp" else "tcp",
        host=None if rule.host is None else str(rule.host),
        host_port=rule.host_port,
        guest=str(rule.guest),
        guest_port=rule.guest_port,
    )
