"""Forwards that the keeper has lead to guests whose address is whatever they are handed out: which one where.

Connections that are under way stay with the guest that they reached.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address

from vde_vmnet.addresses import NamedForward
from vde_vmnet.errors import VdeVmnetError

__all__ = ["Followers"]

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
