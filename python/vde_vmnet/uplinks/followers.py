"""Forwards that the keeper has lead to guests whose address is whatever they are handed out: which one where.

Connections that are under way stay with the guest that they reached.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address

from vde_vmnet.addresses import Forward, NamedForward
from vde_vmnet.errors import VdeVmnetError

__all__ = ["Followers", "LaterFollowers"]

_log = logging.getLogger(__name__)


class Followers:
    """Kept right by ``lease``, in the worker: the names in leases are guests' own words."""

    def __init__(self, named: Sequence[NamedForward], lead: Callable[[int, IPv4Address], None]) -> None:
        """``lead`` has the forward at this place in ``named`` lead to an address from now on; it may raise
        VdeVmnetError."""
        self._named = named
        self._lead = lead
        self._led: dict[int, IPv4Address] = {}

    def lease(self, mac: str, address: str, name: str | None) -> None:
        """A guest was given this address."""
        for place, one in enumerate(self._named):
            if not one.is_for(mac, name):
                continue
            now = IPv4Address(address)
            if self._led.get(place) == now:
                continue
            try:
                self._lead(place, now)
            except VdeVmnetError as error:
                _log.error("%s", error)
                continue
            self._led[place] = now
            _log.info("Forwarding %s to %s", one, now)


class LaterFollowers:
    """The same for forwards that are added while the network runs, where one leads to an address only: it is
    closed, and opened to the guest's next address."""

    def __init__(self, forward: Callable[[Forward, bool], None]) -> None:
        """``forward`` opens a way in, or (False) closes it; it may raise VdeVmnetError."""
        self._forward = forward
        #: Each with what it is now; None where that could not be opened.
        self._led: dict[NamedForward, Forward | None] = {}

    def add(self, rule: NamedForward, address: IPv4Address) -> None:
        """To the guest that has, or is to have, this address now. Raises what ``forward`` raises."""
        now = rule.to(address)
        self._forward(now, True)
        self._led[rule] = now

    def remove(self, rule: NamedForward) -> None:
        """One that was added. Raises what ``forward`` raises; it is there still then."""
        now = self._led[rule]
        if now is not None:
            self._forward(now, False)
        del self._led[rule]

    def lease(self, mac: str, address: str, name: str | None) -> None:
        """A guest was given this address."""
        for rule, former in list(self._led.items()):
            now = rule.to(IPv4Address(address))
            if not rule.is_for(mac, name) or now == former:
                continue
            try:
                if former is not None:
                    self._forward(former, False)
                    self._led[rule] = None
                self._forward(now, True)
            except VdeVmnetError as error:
                _log.error("%s", error)
                continue
            self._led[rule] = now
            _log.info("Forwarding %s to %s", rule, address)
