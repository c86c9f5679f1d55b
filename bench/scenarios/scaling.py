"""From 2 to 64 ports that all talk: frames in all, and what a port costs in memory."""

from __future__ import annotations

from bench.compare import REFERENCE, Curve, Row
from bench.scenarios.base import Answer, Bench
from bench.scenarios.traffic import run_pairs
from bench.systems import System, Uplink

__all__ = ["Scaling"]

_PORTS = (2, 4, 8, 16, 32, 64)
_SIZE = 64
_FIRST_STATION = 1000
_FRAMES = Curve("frames", f"Pairs of plugs at full speed, {_SIZE} B", "ports")
_MEMORY = Curve("memory", "Resident memory", "ports")


class Scaling:
    """Half of the ports send to the other half, one process each, at full speed."""

    name = "scaling"
    rival = REFERENCE
    title = f"{_PORTS[0]} to {_PORTS[-1]} ports, {_SIZE} B"
    rows = (
        *(
            Row(f"frames_{ports}", f"{ports} ports: delivered in all", "frames/s", curve=_FRAMES, at=ports)
            for ports in _PORTS
        ),
        *(
            Row(f"rss_{ports}", f"{ports} ports: RSS, all processes", "MB", curve=_MEMORY, at=ports)
            for ports in _PORTS
        ),
    )

    def unavailable_reason(self) -> str | None:
        return None

    def measure(self, system: System, bench: Bench) -> Answer:
        values: dict[str, float] = {}
        detail: dict[str, object] = {}
        for ports in _PORTS:
            with system.start(Uplink.NONE) as running:
                with bench.clients.start("hoard", running.directory, _FIRST_STATION, ports):
                    values[f"rss_{ports}"] = running.memory().rss / 1e6
                flow = run_pairs(
                    bench.clients,
                    running.directory,
                    pairs=ports // 2,
                    size=_SIZE,
                    seconds=bench.effort.seconds / 2,
                )
                running.check()
            values[f"frames_{ports}"] = flow.frames_per_second
            detail[str(ports)] = flow.detail()
        return Answer(values, detail)
