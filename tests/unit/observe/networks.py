"""Answers of a network that does not run, for tests of what is made of them."""

from __future__ import annotations

from vde_vmnet.control import models

__all__ = ["STARTED", "counters", "network", "port", "reply"]

STARTED = 1_800_000_000.0


def counters(frames: int = 0, size: int = 100, **drops: int) -> models.Counters:
    """As many frames each way, of that size."""
    return models.Counters(
        rx_frames=frames, rx_bytes=frames * size, tx_frames=frames, tx_bytes=frames * size, drops=drops
    )


def port(
    number: int,
    name: str = "guest",
    kind: models.PortKind = "vde",
    *,
    up: bool = True,
    command: str | None = "qemu-system-x86",
    count: models.Counters | None = None,
) -> models.Port:
    """A guest's place, with one QEMU behind it."""
    peer = models.Peer(pid=4000 + number, uid=1000, user="anne", command=command)
    return models.Port(
        number=number,
        kind=kind,
        up=up,
        name=name,
        macs=[f"52:54:00:00:00:{number % 256:02x}"],
        addresses=[f"192.168.105.{number % 256}"],
        endpoints=[models.Endpoint(number=number, name=name, peer=peer)] if command else [],
        counters=count or models.Counters(),
    )


def reply(time: float, **by_port: models.Counters) -> models.CountersReply:
    """``p1=counters(…)``: those of port 1. The total is that of the first."""
    return models.CountersReply(
        time=time,
        total=next(iter(by_port.values()), models.Counters()),
        ports=[
            models.PortCounters(port=int(name[1:]), kind="vde", name=name, counters=one)
            for name, one in by_port.items()
        ],
    )


def network(name: str = "/run/vde.ctl") -> models.NetworkInfo:
    """A shared network of the kernel, up for an hour."""
    return models.NetworkInfo(
        api=1,
        version="0.1.0",
        name=name,
        id="1a2b3c4d",
        pid=4711,
        user="nobody",
        started=STARTED,
        uptime_seconds=3723.0,
        uplink=models.Uplink(
            kind="linux", mode="shared", gateway="192.168.105.1", dhcp_end="192.168.105.254", mtu=1500
        ),
        listeners=[models.Listener(how=f"-netdev vde,id=net0,sock={name}")],
        control=f"{name}.control",
    )
