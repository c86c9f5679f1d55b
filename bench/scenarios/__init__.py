"""The scenarios by groups, in the order in which they run and stand in the table."""

from __future__ import annotations

from collections.abc import Mapping

from bench.compare import QEMU_TAP, REFERENCE
from bench.scenarios.base import Answer, Bench, Effort, Scenario
from bench.scenarios.capture_cost import CaptureCost
from bench.scenarios.footprint import Footprint
from bench.scenarios.guest_tcp import GuestTcp
from bench.scenarios.guest_to_guest import GuestToGuest
from bench.scenarios.idle_guests import IdleGuests
from bench.scenarios.idle_neighbours import IdleNeighbours
from bench.scenarios.idle_plugs import IdlePlugs
from bench.scenarios.latency import Latency, LatencyAwake
from bench.scenarios.many_plugs import ManyPlugs
from bench.scenarios.scaling import Scaling
from bench.scenarios.startup import Startup
from bench.scenarios.stuck_client import StuckClient
from bench.scenarios.throughput import Throughput
from bench.scenarios.user_tcp import UserTcp
from bench.scenarios.vhost_frames import VhostFrames
from bench.scenarios.vhost_tcp import VhostTcp
from bench.systems import Uplink, Wire

__all__ = ["GROUPS", "SCENARIOS", "Answer", "Bench", "Effort", "Scenario"]

GROUPS: Mapping[str, tuple[Scenario, ...]] = {
    "plugs": (
        Throughput(1, 64, at_least=1.35),
        Throughput(1, 1514, at_least=1.2),
        Throughput(4, 64, at_least=4.0),
        Throughput(4, 64, at_least=4.0, as_they_come=True),
        Throughput(4, 1514),
        Throughput(4, 1514, at_least=3.0, as_they_come=True),
        Latency(),
        LatencyAwake(),
        Scaling(),
    ),
    "guests": (
        GuestTcp(Wire.VDE, at_least=1.25),
        GuestTcp(Wire.STREAM, at_least=1.5),
        UserTcp("user-tcp"),
        UserTcp("user-tcp-long", uplink=Uplink.USER_LONG),
        UserTcp("user-vhost-tcp", wire=Wire.VHOST_USER),
    ),
    "vhost-user": (
        VhostTcp("vhost-tcp", QEMU_TAP, Wire.TAP, to_guest=1.1, to_host=1.1),
        VhostTcp("vhost-tcp-alike", QEMU_TAP, Wire.TAP_WITHOUT_MSIX),
        VhostTcp("vhost-switch-tcp", REFERENCE, Wire.VDE, to_guest=2.0, to_host=3.0),
        GuestToGuest(),
        VhostFrames(),
    ),
    "idle": (
        IdlePlugs(),
        IdleNeighbours(),
        IdleGuests(Wire.VDE),
        IdleGuests(Wire.VHOST_USER),
    ),
    "robustness": (StuckClient(), ManyPlugs()),
    "observers": (CaptureCost(64), CaptureCost(1514)),
    "resources": (Startup(), Footprint()),
}
SCENARIOS: tuple[Scenario, ...] = tuple(one for group in GROUPS.values() for one in group)
