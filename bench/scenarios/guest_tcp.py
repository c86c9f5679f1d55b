"""TCP between a real guest and the host, over ``-netdev vde``: what a user of the network gets.

The guest is emulated (TCG), has one processor and the same command line for both systems. Its own work is most
of the time, so the two systems lie closer together here than plug to plug. Each system's guest stays up between
rounds, idle while the other's is measured: so the streams of a round follow one another without a boot between.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench.compare import Relation, Row, Subject, Target
from bench.errors import BenchError
from bench.netns import Namespace, namespaces_unavailable_reason
from bench.scenarios.base import Answer, Bench
from bench.systems import GATEWAY, PREFIX_LENGTH, Running, System, Uplink
from vde_vmnet.demo.accounts import unprivileged_account
from vde_vmnet.demo.guest import Guest, GuestConfig, vde_network
from vde_vmnet.demo.guest_image import build_image, unavailable_reason
from vde_vmnet.errors import VdeVmnetError

__all__ = ["GuestTcp"]

_GUEST = GATEWAY.rsplit(".", 1)[0] + ".2"
_MAC = "52:54:00:be:7c:02"
#: What iperf3 may take longer than its test: connecting, exchanging results.
_MARGIN_SECONDS = 20.0
_AS_FAST = Target(Subject.RATIO, Relation.AT_LEAST, 1.0)


class GuestTcp:
    """One guest, one stream in each direction, one after the other."""

    name = "guest-tcp"
    title = "TCP between a guest (-netdev vde, TCG) and the host"
    rows = (
        Row("to_guest", "host to guest", "Gbit/s", _AS_FAST),
        Row("to_host", "guest to host", "Gbit/s", _AS_FAST),
        Row("to_guest_cpu", "host to guest, processor time of the switch", "s per GB"),
        Row("to_host_cpu", "guest to host, processor time of the switch", "s per GB"),
    )

    def __init__(self) -> None:
        self._online: dict[str, Running] = {}

    def unavailable_reason(self) -> str | None:
        if shutil.which("iperf3") is None:
            return "the program iperf3 is missing; on Debian: apt-get install iperf3"
        return namespaces_unavailable_reason() or unavailable_reason()

    def measure(self, system: System, bench: Bench) -> Answer:
        running = self._online.get(system.name)
        if running is None:
            bench.closing.callback(self._online.clear)
            running = self._online[system.name] = _bring_online(system, bench.closing)
        values: dict[str, float] = {}
        detail: dict[str, object] = {}
        for key, options in (("to_guest", []), ("to_host", ["--reverse"])):
            values |= self._stream(key, options, running, bench, detail)
        running.check()
        return Answer(values, detail)

    def _stream(
        self, key: str, options: list[str], running: Running, bench: Bench, detail: dict[str, object]
    ) -> dict[str, float]:
        assert running.namespace is not None
        seconds = bench.effort.tcp_seconds
        before = running.activity()
        result = _iperf3(running.namespace, seconds, options)
        spent = running.activity().since(before)
        received = result["end"]["sum_received"]
        detail[key] = {
            "octets": received["bytes"],
            "seconds": received["seconds"],
            "retransmits": result["end"]["sum_sent"].get("retransmits"),
            "cpu_seconds": spent.seconds,
        }
        if received["bytes"] == 0:
            raise BenchError(f"{key}: iperf3 moved nothing")
        return {
            key: received["bits_per_second"] / 1e9,
            f"{key}_cpu": spent.seconds / (received["bytes"] / 1e9),
        }


def _bring_online(system: System, closing: ExitStack) -> Running:
    running = closing.enter_context(system.start(Uplink.HOST))
    evidence = Path(closing.enter_context(tempfile.TemporaryDirectory()))
    try:
        config = GuestConfig(
            image=build_image(extras=("iperf3",)),
            evidence=evidence,
            network=vde_network(running.directory, _MAC),
            account=unprivileged_account(),
        )
        guest = closing.enter_context(Guest(config))
        guest.wait_ready()
        guest.check(f"ip link set eth0 up && ip addr add {_GUEST}/{PREFIX_LENGTH} dev eth0")
        guest.check("iperf3 -s -D")
        guest.check(f"ping -c 1 -w 5 {GATEWAY}")
    except VdeVmnetError as error:
        raise BenchError(f"the guest on {system.name}: {error}") from error
    return running


def _iperf3(namespace: Namespace, seconds: int, options: list[str]) -> dict[str, Any]:
    command = [*namespace.prefix(), "iperf3", "--json", "--client", _GUEST, "--time", str(seconds), *options]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=seconds + _MARGIN_SECONDS
        )
        result: dict[str, Any] = json.loads(done.stdout)
    except (subprocess.TimeoutExpired, ValueError) as error:
        raise BenchError(f"iperf3: {error}") from error
    if "error" in result:
        raise BenchError(f"iperf3: {result['error']}")
    return result
