"""A real guest and the host, and TCP streams between them: what the scenarios with a guest have in common.

The guest is emulated (TCG), has one processor and the same command line for all systems but for ``-netdev``. It
stays up between rounds, idle while another system is measured: so the streams of a round follow one another
without a boot between.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench.errors import BenchError
from bench.netns import namespaces_unavailable_reason
from bench.segment import GATEWAY, PREFIX_LENGTH, guest_address
from bench.systems import Running, System, Uplink, Wire
from bench.systems.cards import GUEST_MEMORY_MIB
from vde_vmnet.demo.accounts import unprivileged_account
from vde_vmnet.demo.guest import Guest, GuestConfig
from vde_vmnet.demo.guest_image import build_image, unavailable_reason
from vde_vmnet.errors import VdeVmnetError

__all__ = ["Online", "boot", "guest_unavailable_reason", "streams"]

#: A boot takes some three seconds of one processor.
_BOOT_SECONDS = 60.0
_BOOT_SECONDS_EACH = 10.0
_USUAL_MTU = 1500
#: What iperf3 may take longer than its test: connecting, exchanging results.
_MARGIN_SECONDS = 20.0
#: A stream that could not begin is tried again.
_TRIES = 3
_AGAIN_SECONDS = 0.5


def guest_unavailable_reason() -> str | None:
    """Why there can be no guest here, as one sentence, or None."""
    if shutil.which("iperf3") is None:
        return "the program iperf3 is missing; on Debian: apt-get install iperf3"
    return namespaces_unavailable_reason() or unavailable_reason()


def boot(running: Running, closing: ExitStack, count: int = 1) -> list[Guest]:
    """Boot guests on ``running`` that answer iperf3, until ``closing`` is closed; all at the same time.

    Raises BenchError.
    """
    evidence = Path(closing.enter_context(tempfile.TemporaryDirectory()))
    try:
        guests = []
        for number in range(count):
            config = GuestConfig(
                image=build_image(extras=("iperf3",)),
                evidence=evidence,
                network=running.card(number),
                name=f"guest{number}",
                account=unprivileged_account(),
                memory_mib=GUEST_MEMORY_MIB,
                prefix=_prefix(running),
            )
            guests.append(closing.enter_context(Guest(config)))
        for number, guest in enumerate(guests):
            guest.wait_ready(_BOOT_SECONDS + _BOOT_SECONDS_EACH * count)
            _set_up(guest, number, running)
    except VdeVmnetError as error:
        raise BenchError(f"the guest: {error}") from error
    return guests


def _prefix(running: Running) -> tuple[str, ...]:
    if not running.guest_inside:
        return ()
    assert running.namespace is not None
    return tuple(running.namespace.prefix())


def _set_up(guest: Guest, number: int, running: Running) -> None:
    guest.check(f"ip link set eth0 up && ip addr add {guest_address(number)}/{PREFIX_LENGTH} dev eth0")
    if running.guest_mtu != _USUAL_MTU:
        guest.check(f"ip link set eth0 mtu {running.guest_mtu}")
    guest.check("iperf3 -s -D")
    if running.namespace is not None:
        guest.check(f"ip route add default via {GATEWAY}")
        # passt answers no pings without being allowed to by the host.
        guest.check(f"arping -c 1 -w 5 -I eth0 {GATEWAY}")


class Online:
    """Systems with guests on them, each from its first round until the last round of all."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[Running, list[Guest]]] = {}

    def get(
        self, system: System, closing: ExitStack, uplink: Uplink, wire: Wire, guests: int = 1
    ) -> tuple[Running, list[Guest]]:
        """Started and booted if it has not been, until ``closing`` is closed. Raises BenchError."""
        if system.name not in self._kept:
            closing.callback(self._kept.clear)
            running = closing.enter_context(system.start(uplink, wire, guests))
            self._kept[system.name] = running, boot(running, closing, guests)
        return self._kept[system.name]


def streams(running: Running, seconds: int, detail: dict[str, object]) -> dict[str, float]:
    """One stream in each direction, one after the other: Gbit/s, and the system's processor seconds for a GB.

    Raises BenchError.
    """
    values: dict[str, float] = {}
    for key, options in (("to_guest", []), ("to_host", ["--reverse"])):
        before = running.activity()
        result = _stream(running, seconds, options)
        spent = running.activity().since(before)
        received = result["end"]["sum_received"]
        if received["bytes"] == 0:
            raise BenchError(f"{key}: iperf3 moved nothing")
        detail[key] = {
            "octets": received["bytes"],
            "seconds": received["seconds"],
            "retransmits": result["end"]["sum_sent"].get("retransmits"),
            "cpu_seconds": spent.seconds,
        }
        values[key] = received["bits_per_second"] / 1e9
        values[f"{key}_cpu"] = spent.seconds / (received["bytes"] / 1e9)
    running.check()
    return values


def _stream(running: Running, seconds: int, options: list[str]) -> dict[str, Any]:
    for _ in range(_TRIES - 1):
        try:
            return _iperf3(running, seconds, options)
        except BenchError:
            # The guest's iperf3 takes one at a time, and may not have ended the one before yet.
            running.leave_alone(_AGAIN_SECONDS)
    return _iperf3(running, seconds, options)


def _iperf3(running: Running, seconds: int, options: list[str]) -> dict[str, Any]:
    assert running.namespace is not None
    command = ["iperf3", "--json", "--client", running.guest_address, "--time", str(seconds), *options]
    try:
        done = subprocess.run(
            [*running.namespace.prefix(), *command],
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds + _MARGIN_SECONDS,
        )
        result: dict[str, Any] = json.loads(done.stdout)
    except (subprocess.TimeoutExpired, ValueError) as error:
        raise BenchError(f"iperf3: {error}") from error
    if "error" in result:
        raise BenchError(f"iperf3: {result['error']}")
    return result
