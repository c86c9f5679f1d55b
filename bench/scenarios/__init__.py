"""The scenarios, in the order in which they run and stand in the table."""

from __future__ import annotations

from bench.scenarios.base import Answer, Bench, Effort, Scenario
from bench.scenarios.footprint import Footprint
from bench.scenarios.guest_tcp import GuestTcp
from bench.scenarios.idle_neighbours import IdleNeighbours
from bench.scenarios.latency import Latency
from bench.scenarios.many_plugs import ManyPlugs
from bench.scenarios.startup import Startup
from bench.scenarios.stuck_client import StuckClient
from bench.scenarios.throughput import Throughput
from bench.systems import Wire

__all__ = ["SCENARIOS", "Answer", "Bench", "Effort", "Scenario"]

SCENARIOS: tuple[Scenario, ...] = (
    Throughput(1, 64, at_least=1.2),
    Throughput(1, 1514, at_least=1.2),
    Throughput(4, 64),
    Throughput(4, 1514),
    Throughput(4, 1514, at_least=3.0, as_they_come=True),
    Latency(),
    GuestTcp(Wire.VDE, at_least=1.0),
    GuestTcp(Wire.STREAM, at_least=1.2),
    IdleNeighbours(),
    StuckClient(),
    ManyPlugs(),
    Startup(),
    Footprint(),
)
