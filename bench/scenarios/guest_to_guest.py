"""TCP from one guest to another: both by vhost-user, against both plugged into the rival's switch."""

from __future__ import annotations

import json
from typing import Any

from bench.compare import REFERENCE, Relation, Row, Subject, Target
from bench.errors import BenchError
from bench.guest import Online, guest_unavailable_reason
from bench.scenarios.base import Answer, Bench
from bench.segment import guest_address
from bench.systems import System, Uplink, Wire
from vde_vmnet.demo.errors import GuestError
from vde_vmnet.demo.guest import Guest

__all__ = ["GuestToGuest"]

#: What iperf3 in an emulated guest may take longer than its test.
_MARGIN_SECONDS = 30.0


class GuestToGuest:
    """Two guests, one stream; no host is involved."""

    name = "guest-to-guest"
    rival = REFERENCE
    title = "TCP from guest to guest (TCG), both by -netdev vhost-user against both by -netdev vde"
    rows = (
        Row("guests", "from guest to guest", "Gbit/s", Target(Subject.RATIO, Relation.AT_LEAST, 4.0)),
        Row(
            "guests_cpu",
            "from guest to guest, processor time of the switch",
            "s per GB",
            Target(Subject.RATIO, Relation.AT_MOST, 0.2),
        ),
    )

    def __init__(self) -> None:
        self._online = Online()

    def unavailable_reason(self) -> str | None:
        return guest_unavailable_reason()

    def measure(self, system: System, bench: Bench) -> Answer:
        wire = Wire.VDE if system.name == self.rival else Wire.VHOST_USER
        running, guests = self._online.get(system, bench.closing, Uplink.NONE, wire, guests=2)
        before = running.activity()
        result = _iperf3(guests[1], bench.effort.tcp_seconds)
        spent = running.activity().since(before)
        running.check()
        octets = result["end"]["sum_received"]["bytes"]
        if octets == 0:
            raise BenchError("iperf3 moved nothing from guest to guest")
        values = {
            "guests": result["end"]["sum_received"]["bits_per_second"] / 1e9,
            "guests_cpu": spent.seconds / (octets / 1e9),
        }
        detail = {"octets": octets, "cpu_seconds": spent.seconds, "sent": result["end"]["sum_sent"]}
        return Answer(values, detail)


def _iperf3(client: Guest, seconds: int) -> dict[str, Any]:
    """To the first guest, whose server is there since it booted."""
    command = f"iperf3 --json --interval 0 --client {guest_address()} --time {seconds}"
    try:
        result: dict[str, Any] = json.loads(client.check(command, seconds + _MARGIN_SECONDS))
    except (GuestError, ValueError) as error:
        raise BenchError(f"iperf3 in a guest: {error}") from error
    if "error" in result:
        raise BenchError(f"iperf3 in a guest: {result['error']}")
    return result
