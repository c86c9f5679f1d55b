"""A network's answers as tables: one function for each command. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from vde_vmnet.control import models
from vde_vmnet.observe.snapshot import Rate, bits, drops_text
from vde_vmnet.observe.tables import Column, Table, clean, duration, moment

__all__ = ["facts", "fdb", "leases", "peer_text", "ports", "status_ports"]

_DROPS = Column("DROPS", right=True, wrap=True)


def _lines(values: Iterable[str]) -> str:
    return ", ".join(values)


def peer_text(port: models.Port) -> str:
    """Who is at the other end: ``qemu-system-x86 (4711, anne)``."""
    found = []
    for endpoint in port.endpoints:
        peer = endpoint.peer
        if peer is None or peer.pid is None:
            continue
        user = peer.user or ("" if peer.uid is None else str(peer.uid))
        found.append(f"{clean(peer.command or '?')} ({peer.pid}{f', {user}' if user else ''})")
    return _lines(found)


def ports(found: Sequence[models.Port]) -> Table:
    """What is plugged in, with counters since the start."""
    rows = tuple(
        (
            *_head(port),
            *(peer_text(port), str(port.counters.rx_frames), str(port.counters.rx_bytes)),
            *(str(port.counters.tx_frames), str(port.counters.tx_bytes), str(port.counters.queued_frames)),
            drops_text(port.counters.drops),
        )
        for port in found
    )
    counted = (
        Column("RX_FRAMES", right=True, spare=6),
        Column("RX_BYTES", right=True),
        Column("TX_FRAMES", right=True, spare=6),
        Column("TX_BYTES", right=True),
        Column("QUEUED", right=True, spare=7),
    )
    return Table((*_columns(found), *counted, _DROPS), rows, "Nothing is plugged in")


def _columns(found: Sequence[models.Port]) -> tuple[Column, ...]:
    """Those of ``_head`` and the peer; that a port is down is said on every terminal."""
    return (
        Column("PORT"),
        Column("KIND", spare=3),
        Column("STATE", spare=4 if all(port.up for port in found) else 0),
        Column("NAME", wrap=True),
        Column("MAC", spare=2),
        Column("ADDRESS"),
        Column("PEER", wrap=True, spare=1),
    )


def _head(port: models.Port) -> tuple[str, ...]:
    name = clean(port.name)
    up = "up" if port.up else "down"
    return str(port.number), port.kind, up, name, _lines(port.macs), _lines(port.addresses)


def status_ports(found: Sequence[models.Port], measured: Mapping[int, Rate]) -> Table:
    """The same for one screen: rates in the place of counters."""
    rows = []
    for port in found:
        now = measured.get(port.number)
        rows.append(
            (
                *_head(port),
                peer_text(port),
                bits(now.rx_bytes) if now else "",
                bits(now.tx_bytes) if now else "",
                drops_text(port.counters.drops),
            )
        )
    measured_columns = (Column("FROM_GUEST", right=True), Column("TO_GUEST", right=True))
    return Table((*_columns(found), *measured_columns, _DROPS), tuple(rows), "Nothing is plugged in")


def facts(network: models.NetworkInfo, now: Rate | None, total: models.Counters) -> list[tuple[str, str]]:
    """The head of ``status``: what runs, as pairs of words."""
    uplink = network.uplink
    way = [uplink.kind, uplink.mode or "", uplink.gateway or "", uplink.device or ""]
    if uplink.dhcp_end:
        way.append(f"DHCP to {uplink.dhcp_end}")
    if uplink.mtu:
        way.append(f"MTU {uplink.mtu}")
    pairs = [
        ("network", network.name),
        ("daemon", f"vde_vmnet {network.version}, pid {network.pid}, as {network.user}"),
        ("up", f"{duration(network.uptime_seconds)}, since {moment(network.started)}"),
        ("uplink", _lines(part for part in way if part)),
        *(("plug in", listener.how) for listener in network.listeners),
    ]
    if now is not None:
        traffic = f"{bits(now.rx_bytes)} received, {bits(now.tx_bytes)} sent"
        pairs.append(("traffic", f"{traffic}, {now.drops:.0f} dropped/s"))
    pairs.append(("drops", drops_text(total.drops)))
    return [(key, clean(value)) for key, value in pairs]


def fdb(found: Iterable[models.FdbEntry]) -> Table:
    """The stations that the switch has learned."""
    rows = tuple(
        (
            *(one.mac, str(one.port), f"{one.age_seconds:.0f}"),
            *(_lines(one.addresses), clean(one.name or "")),
        )
        for one in found
    )
    columns = (
        Column("MAC"),
        Column("PORT", right=True),
        Column("AGE", right=True),
        Column("ADDRESS"),
        Column("NAME"),
    )
    return Table(columns, rows, "No station has been heard of yet")


def leases(found: Iterable[models.Lease]) -> Table:
    """The addresses that guests have."""
    rows = tuple(
        (
            one.address,
            one.mac or "",
            clean(one.name or ""),
            "never" if one.expires is None else moment(one.expires),
            "" if one.port is None else str(one.port),
            "yes" if one.reserved else "",
        )
        for one in found
    )
    columns = tuple(map(Column, ("ADDRESS", "MAC", "NAME", "EXPIRES", "PORT", "RESERVED")))
    return Table(columns, rows, "No leases")
