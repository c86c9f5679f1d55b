"""Counters as Prometheus' text format, 0.0.4. Pure: a snapshot in, text out.

Names, units and help by https://prometheus.io/docs/practices/naming/. Labels are a port's number and kind and a
drop's reason, all from bounded sets of our own: nothing that a guest or client chooses is ever a label.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from vde_vmnet.control.models import Counters, PortCounters

__all__ = ["CONTENT_TYPE", "METRICS", "Metric", "Snapshot", "render"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_Sample = tuple[dict[str, str], float]


@dataclass(frozen=True)
class Snapshot:
    """What is counted, at one moment."""

    version: str
    uplink: str
    started: float
    ports: list[PortCounters]
    #: Numbers of ports that were put down.
    down: frozenset[int]
    #: Stations in the forwarding table.
    stations: int
    leases: int
    #: Events that were seen since the start, by kind.
    events: dict[str, int]


@dataclass(frozen=True)
class Metric:
    """One family."""

    name: str
    kind: Literal["counter", "gauge"]
    help: str
    samples: Callable[[Snapshot], Iterable[_Sample]]


def _labels(port: PortCounters) -> dict[str, str]:
    return {"port": str(port.port), "kind": port.kind}


def _per_port(value: Callable[[Counters], float]) -> Callable[[Snapshot], Iterator[_Sample]]:
    def samples(snapshot: Snapshot) -> Iterator[_Sample]:
        for port in snapshot.ports:
            yield _labels(port), value(port.counters)

    return samples


def _drops(snapshot: Snapshot) -> Iterator[_Sample]:
    for port in snapshot.ports:
        for reason, count in port.counters.drops.items():
            yield {**_labels(port), "reason": reason}, count


def _up(snapshot: Snapshot) -> Iterator[_Sample]:
    for port in snapshot.ports:
        yield _labels(port), float(port.port not in snapshot.down)


def _events(snapshot: Snapshot) -> Iterator[_Sample]:
    for kind, count in sorted(snapshot.events.items()):
        yield {"kind": kind}, count


#: Received is what a port's peer sent to the switch.
METRICS: tuple[Metric, ...] = (
    Metric(
        "vde_vmnet_info",
        "gauge",
        "Version of the daemon and its uplink; always 1.",
        lambda snapshot: [({"version": snapshot.version, "uplink": snapshot.uplink}, 1.0)],
    ),
    Metric(
        "vde_vmnet_start_time_seconds",
        "gauge",
        "When the network was ready, in seconds since 1970.",
        lambda snapshot: [({}, snapshot.started)],
    ),
    Metric("vde_vmnet_port_up", "gauge", "1, or 0 for a port that was taken down.", _up),
    Metric(
        "vde_vmnet_received_frames_total",
        "counter",
        "Frames that a port's peer sent, dropped ones included.",
        _per_port(lambda counters: counters.rx_frames),
    ),
    Metric(
        "vde_vmnet_received_bytes_total",
        "counter",
        "Bytes of those frames.",
        _per_port(lambda counters: counters.rx_bytes),
    ),
    Metric(
        "vde_vmnet_sent_frames_total",
        "counter",
        "Frames that the system took for a port's peer.",
        _per_port(lambda counters: counters.tx_frames),
    ),
    Metric(
        "vde_vmnet_sent_bytes_total",
        "counter",
        "Bytes of those frames.",
        _per_port(lambda counters: counters.tx_bytes),
    ),
    Metric(
        "vde_vmnet_queued_frames",
        "gauge",
        "Frames that wait for a port's peer.",
        _per_port(lambda counters: counters.queued_frames),
    ),
    Metric("vde_vmnet_dropped_frames_total", "counter", "Frames that were dropped, by reason.", _drops),
    Metric(
        "vde_vmnet_stations",
        "gauge",
        "Stations in the forwarding table.",
        lambda snapshot: [({}, snapshot.stations)],
    ),
    Metric(
        "vde_vmnet_leases",
        "gauge",
        "Addresses that guests have from the network's DHCP server.",
        lambda snapshot: [({}, snapshot.leases)],
    ),
    Metric("vde_vmnet_events_total", "counter", "Events since the start, by kind.", _events),
)


def render(snapshot: Snapshot) -> str:
    """The whole text. A family without samples is left out."""
    lines: list[str] = []
    for metric in METRICS:
        samples = list(metric.samples(snapshot))
        if not samples:
            continue
        lines.append(f"# HELP {metric.name} {metric.help}")
        lines.append(f"# TYPE {metric.name} {metric.kind}")
        lines += [f"{metric.name}{_shown(labels)} {_number(value)}" for labels, value in samples]
    return "\n".join([*lines, ""])


def _shown(labels: dict[str, str]) -> str:
    if not labels:
        return ""
    pairs = [f'{name}="{_escaped(value)}"' for name, value in labels.items()]
    return f"{{{','.join(pairs)}}}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else repr(float(value))
