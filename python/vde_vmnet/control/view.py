"""The network as models: what the engine counts, what listeners know, and what leases say, put together."""

from __future__ import annotations

import asyncio
import ctypes
import pwd
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from ipaddress import IPv4Address
from pathlib import Path
from typing import TYPE_CHECKING

import vde_vmnet
from vde_vmnet import log
from vde_vmnet.control import models
from vde_vmnet.control.network import Facts, Network
from vde_vmnet.ports.base import UPLINK_PORT, Guest
from vde_vmnet.wire.leases import Lease

if TYPE_CHECKING:
    from vde_vmnet._engine import EndpointCounters

__all__ = ["View", "add_up"]

#: A user database on the network may take long, and the network must not wait for it.
_NAME_SECONDS = 1.0
#: The uplink's place, and the one below it for what an uplink brings along.
_UPLINK = (UPLINK_PORT, UPLINK_PORT - 1)


def add_up(counters: Iterable[EndpointCounters]) -> models.Counters:
    """The sums over endpoints."""
    sums: Counter[str] = Counter()
    drops: Counter[str] = Counter()
    for one in counters:
        for key in ("rx_frames", "rx_bytes", "tx_frames", "tx_bytes", "queued_frames"):
            sums[key] += one[key]
        drops.update(one["drops"])
    return models.Counters(
        rx_frames=sums["rx_frames"],
        rx_bytes=sums["rx_bytes"],
        tx_frames=sums["tx_frames"],
        tx_bytes=sums["tx_bytes"],
        queued_frames=sums["queued_frames"],
        drops={reason: count for reason, count in sorted(drops.items()) if count},
    )


class View:
    """Looks at one network; each call is a moment."""

    def __init__(self, network: Network, facts: Facts) -> None:
        self._network = network
        self._facts = facts
        self._users: dict[int, str | None] = {}

    def network(self, *, may_change: bool) -> models.NetworkInfo:
        """What runs."""
        network, facts = self._network, self._facts
        now = time.time()
        report = network.opened.report
        mtu = report.get("vmnet_mtu")
        metrics = [one for one in map(_metrics_address, network.listeners) if one is not None]
        return models.NetworkInfo(
            api=models.API,
            version=vde_vmnet.__version__,
            name=facts.name,
            id=facts.id,
            pid=facts.pid,
            user=facts.user,
            started=network.started,
            uptime_seconds=max(0.0, now - network.started),
            uplink=models.Uplink(
                kind=facts.uplink,
                mode=_text(report, "mode"),
                gateway=_text(report, "vmnet_start_address"),
                netmask=_text(report, "vmnet_subnet_mask"),
                dhcp_end=_text(report, "vmnet_end_address"),
                mtu=int(mtu) if mtu is not None else None,
                device=_text(report, "device"),
                facts=dict(network.opened.facts),
            ),
            listeners=[
                models.Listener(how=how)
                for how in (one.how_to_plug_in() for one in network.listeners)
                if how is not None
            ],
            control=str(facts.control or ""),
            metrics=next(iter(metrics), None),
            log_level=log.get_level(),
            may_change=may_change,
        )

    async def ports(self) -> list[models.Port]:
        """Every port with something on it, by number."""
        guests = self.guests()
        await self._learn_users({guest.uid for guest in guests.values() if guest.uid is not None})
        by_port = self._by_port()
        leases = self._leases_by_mac()
        macs = defaultdict(list)
        for entry in self._network.engine.fdb():
            macs[entry["port"]].append(entry["mac"])
        return [
            self._port(number, endpoints, guests, sorted(macs[number]), leases)
            for number, endpoints in sorted(by_port.items())
        ]

    def _port(
        self,
        number: int,
        endpoints: dict[int, EndpointCounters],
        guests: Mapping[int, Guest],
        macs: list[str],
        leases: Mapping[str, list[Lease]],
    ) -> models.Port:
        # Behind the uplink is the rest of the world.
        known = [] if number in _UPLINK else [lease for mac in macs for lease in leases.get(mac, ())]
        names = [lease.name for lease in known if lease.name is not None]
        first = next(iter(sorted(endpoints)))
        return models.Port(
            number=number,
            kind=self.kind(number, endpoints, guests),
            up=number not in self._network.down,
            name=names[0] if names else endpoints[first]["name"],
            macs=macs,
            addresses=[str(lease.address) for lease in known],
            endpoints=[
                models.Endpoint(
                    number=endpoint,
                    name=counters["name"],
                    since=guests[endpoint].since if endpoint in guests else None,
                    peer=self._peer(guests[endpoint]) if endpoint in guests else None,
                    counters=add_up([counters]),
                )
                for endpoint, counters in sorted(endpoints.items())
            ],
            counters=add_up(endpoints.values()),
        )

    def counters(self) -> models.CountersReply:
        """All counters at one moment."""
        guests = self.guests()
        by_port = self._by_port()
        return models.CountersReply(
            time=time.time(),
            total=add_up(one for endpoints in by_port.values() for one in endpoints.values()),
            ports=[
                models.PortCounters(
                    port=number,
                    kind=self.kind(number, endpoints, guests),
                    name=endpoints[min(endpoints)]["name"],
                    counters=add_up(endpoints.values()),
                )
                for number, endpoints in sorted(by_port.items())
            ],
        )

    def fdb(self) -> list[models.FdbEntry]:
        """The stations that the switch has learned."""
        leases = self._leases_by_mac()
        found = []
        for entry in self._network.engine.fdb():
            known = leases.get(entry["mac"], [])
            found.append(
                models.FdbEntry(
                    mac=entry["mac"],
                    port=entry["port"],
                    age_seconds=entry["age_seconds"],
                    addresses=[str(lease.address) for lease in known],
                    name=next((lease.name for lease in known if lease.name is not None), None),
                )
            )
        return sorted(found, key=lambda entry: (entry.port, entry.mac))

    def leases(self, reserved: Mapping[str, IPv4Address]) -> list[models.Lease]:
        """The addresses that guests have; ``reserved`` are those that are kept, by MAC address."""
        where = {entry["mac"]: entry["port"] for entry in self._network.engine.fdb()}
        return [
            models.Lease(
                address=str(lease.address),
                mac=lease.mac,
                name=lease.name,
                expires=lease.expires,
                port=where.get(lease.mac or ""),
                reserved=reserved.get(lease.mac or "") == lease.address,
            )
            for lease in self._network.leases.current(time.time())
        ]

    def guests(self) -> dict[int, Guest]:
        """Who is plugged in, by endpoint."""
        found: dict[int, Guest] = {}
        for listener in self._network.listeners:
            found.update(listener.guests())
        return found

    @staticmethod
    def kind(number: int, endpoints: Iterable[int], guests: Mapping[int, Guest]) -> models.PortKind:
        """What is plugged in on a port."""
        if number in _UPLINK:
            return "uplink"
        return next((guests[one].kind for one in sorted(endpoints) if one in guests), "other")

    def _by_port(self) -> dict[int, dict[int, EndpointCounters]]:
        found: dict[int, dict[int, EndpointCounters]] = defaultdict(dict)
        for endpoint, counters in self._network.engine.counters().items():
            found[counters["port"]][endpoint] = counters
        return found

    def _leases_by_mac(self) -> dict[str, list[Lease]]:
        found = defaultdict(list)
        for lease in self._network.leases.current(time.time()):
            if lease.mac is not None:
                found[lease.mac].append(lease)
        return found

    def forget(self) -> None:
        """What users are called is looked up again."""
        self._users.clear()

    # -- who is at the other end -----------------------------------------------------------------------

    def _peer(self, guest: Guest) -> models.Peer | None:
        if guest.pid is None and guest.uid is None:
            return None
        user = self._users.get(guest.uid) if guest.uid is not None else None
        return models.Peer(pid=guest.pid, uid=guest.uid, user=user, command=_command(guest.pid))

    async def _learn_users(self, uids: set[int]) -> None:
        unknown = uids - self._users.keys()
        if not unknown:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(_NAME_SECONDS):
                self._users |= await asyncio.get_running_loop().run_in_executor(None, _user_names, unknown)


def _user_names(uids: set[int]) -> dict[int, str | None]:
    found: dict[int, str | None] = {}
    for uid in uids:
        found[uid] = None
        with suppress(KeyError):
            found[uid] = pwd.getpwuid(uid).pw_name
    return found


def _command(pid: int | None) -> str | None:
    """The name of a process' program."""
    if pid is None:
        return None
    if sys.platform == "darwin":
        # proc_name(), <libproc.h>; its names have 32 bytes.
        name = ctypes.create_string_buffer(64)
        length = ctypes.CDLL(None).proc_name(pid, name, len(name))
        return name.raw[:length].decode(errors="replace") if length > 0 else None
    try:
        return Path(f"/proc/{pid}/comm").read_text(errors="replace").strip() or None
    except OSError:
        return None


def _text(report: Mapping[str, str | int], key: str) -> str | None:
    value = report.get(key)
    return None if value is None else str(value)


def _metrics_address(listener: object) -> str | None:
    found: str | None = getattr(listener, "metrics_address", None)
    return found
