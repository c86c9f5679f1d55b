"""Ways in from outside: which host ports lead to which guest, opened in the stack, right as leases change.

Connections that are under way stay with the guest that they reached.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network
from typing import TYPE_CHECKING

from vde_vmnet.addresses import Forward, NamedForward
from vde_vmnet.errors import VdeVmnetError
from vde_vmnet.uplinks import host_ports

if TYPE_CHECKING:
    from vde_vmnet._engine import Engine

__all__ = ["Forwards"]

_log = logging.getLogger(__name__)

#: Where the host listens when nothing was said: for itself only.
_DEFAULT_HOST = IPv4Address("127.0.0.1")
#: More guests than a /20 has.
_MOST = 4096


class Forwards:
    """All forwards of one network. ``open`` makes them work; from then on ``lease`` keeps them right."""

    def __init__(self, fixed: Sequence[Forward], named: Sequence[NamedForward]) -> None:
        self._fixed = fixed
        self._named = list(named)
        self._network: IPv4Network | None = None
        #: Of the guests that have one; a forward that is added later begins with it.
        self._leases: dict[tuple[str, str | None], str] = {}
        self._active: dict[NamedForward, Forward] = {}
        self._engine: Engine | None = None
        self._endpoint = -1

    def check(self, network: IPv4Network, *, loopback: bool) -> None:
        """``loopback``: whether guests may reach the host's.

        Raises ConfigurationError when a guest's address is not of the network.
        """
        rules: tuple[Forward | NamedForward, ...] = (*self._fixed, *self._named)
        for rule in rules:
            # libslirp cannot tell an answer from a packet of the guest's own.
            if rule.protocol == "udp" and not loopback and (rule.host or _DEFAULT_HOST).is_loopback:
                _log.warning(
                    "--forward %s: clients on this host get no answers without --allow=%s", rule, _DEFAULT_HOST
                )
        host_ports.check_guests(self._fixed, network)
        self._network = network

    def open(self, engine: Engine, endpoint: int) -> None:
        """At the stack, once it is there.

        Raises ConflictError (a port is taken, also one whose guest has no address yet), PrivilegeError (a low
        port), UplinkError (the address is not this host's).
        """
        self._engine, self._endpoint = engine, endpoint
        for one in self._named:
            self._probe(one)
        for rule in self._fixed:
            self._switch(rule, on=True)

    def add(self, rule: Forward | NamedForward) -> None:
        """See WaysIn."""
        if isinstance(rule, Forward):
            assert self._network is not None  # noqa: S101 - check() comes before there is a network
            host_ports.check_guests([rule], self._network)
            self._switch(rule, on=True)
            return
        self._probe(rule)
        self._named.append(rule)
        for (mac, name), address in list(self._leases.items()):
            self._lead([rule], mac, address, name)

    def remove(self, rule: Forward | NamedForward) -> None:
        """See WaysIn."""
        if isinstance(rule, Forward):
            self._switch(rule, on=False)
            return
        self._named.remove(rule)
        former = self._active.pop(rule, None)
        if former is not None:
            self._switch(former, on=False)

    def lease(self, mac: str, address: str, name: str | None) -> None:
        """A guest was given this address."""
        self._leases = {who: where for who, where in self._leases.items() if who[0] != mac and where != address}
        self._leases[mac, name] = address
        if len(self._leases) > _MOST:
            del self._leases[next(iter(self._leases))]
        self._lead(self._named, mac, address, name)

    def _lead(self, rules: Sequence[NamedForward], mac: str, address: str, name: str | None) -> None:
        for one in rules:
            if not one.is_for(mac, name):
                continue
            rule, former = one.to(IPv4Address(address)), self._active.get(one)
            if rule == former:
                continue
            try:
                if former is not None:
                    self._switch(former, on=False)
                    del self._active[one]
                self._switch(rule, on=True)
            except VdeVmnetError as error:
                _log.error("%s", error)
                continue
            self._active[one] = rule
            _log.info("Forwarding %s to %s", one, address)

    def _switch(self, rule: Forward, *, on: bool) -> None:
        assert self._engine is not None  # noqa: S101 - nobody has a lease before there is a network
        try:
            self._engine.forward(
                endpoint=self._endpoint,
                udp=rule.protocol == "udp",
                host=(str(rule.host or _DEFAULT_HOST), rule.host_port),
                guest=(str(rule.guest), rule.guest_port),
                on=on,
            )
        except OSError as error:
            raise host_ports.translated(error, rule, _DEFAULT_HOST) from error

    @staticmethod
    def _probe(one: NamedForward) -> None:
        """Whether the host's port could be had now."""
        host_ports.take(one, _DEFAULT_HOST).close()
