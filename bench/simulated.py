"""macOS's network on Linux, to compare ours with the C programs that came before it: all on the simulator.

Those programs are not part of this project. Who has their source compiles them against
``tests/support/vmnet_sim`` (its README says how) and names them with ``--original`` and ``--original-stream``.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from tests.support.vmnet_launcher import command as launcher
from tests.support.vmnet_sim import Fabric, build

from bench.compare import C_SOCKET_VMNET, C_VDE_VMNET, OURS, Relation, Row, Subject, Target
from bench.errors import BenchError
from bench.guest import boot, guest_unavailable_reason, streams
from bench.netns import Namespace
from bench.scenarios.base import Answer, Bench
from bench.segment import GATEWAY
from bench.systems import Running, System, Uplink, VdeSwitch, Wire, cards, socket_group, start

__all__ = ["CProgram", "VmnetTcp"]

#: The last one without a network API, as all that the C program ran on.
_MACOS = "15"


class _Mac(Namespace):
    """A namespace with the simulated machine in it, which goes with it."""

    def __init__(self) -> None:
        #: Called before the namespace goes, newest first.
        self.on_close: list[Callable[[], None]] = []
        super().__init__()
        try:
            self.fabric = Fabric(self)
        except (AssertionError, OSError) as error:
            super().close()
            raise BenchError(f"the simulated Mac: {error}") from error

    def command(self, *argv: str) -> list[str]:
        """``argv`` so that it runs inside."""
        return [*self.prefix(), *argv]

    def environment(self) -> dict[str, str]:
        return {**os.environ, **self.fabric.environment(_MACOS)}

    def close(self) -> None:
        while self.on_close:
            self.on_close.pop()()
        super().close()


class CProgram:
    """``vde_vmnet`` plugged into Debian's ``vde_switch``, as its users ran it, or ``socket_vmnet``."""

    def __init__(self, name: str, command: Path | None) -> None:
        self.name = name
        self._command = command

    def unavailable_reason(self) -> str | None:
        if self._command is None:
            return f"no {self.name} to compare with; --original or --original-stream names it"
        if not os.access(self._command, os.X_OK):
            return f"{self._command} cannot be run"
        return None if self.name == C_SOCKET_VMNET else VdeSwitch().unavailable_reason()

    def version(self) -> str:
        switch = "" if self.name == C_SOCKET_VMNET else f" with {VdeSwitch().version()}"
        return f"compiled against the simulator{switch}"

    def offers(self, uplink: Uplink, wire: Wire = Wire.VDE) -> bool:
        own = Wire.STREAM if self.name == C_SOCKET_VMNET else Wire.VDE
        return uplink is Uplink.VMNET and wire is own

    def start(self, uplink: Uplink, wire: Wire = Wire.VDE, guests: int = 1) -> Running:  # noqa: ARG002
        assert self._command is not None
        program = str(self._command)
        machine = _Mac()
        if wire is Wire.STREAM:
            return start(
                lambda folder: [program, *_c_options("socket", folder)],
                machine,
                cards.stream,
                machine.environment(),
            )
        with ExitStack() as undo:
            running = undo.enter_context(start(VdeSwitch.command(uplink), machine, cards.vde))
            folder = running.directory.parent
            process = subprocess.Popen(
                machine.command(program, *_c_options("vde", folder, pidfile="pid2")),
                env=machine.environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            running.add(process)
            undo.pop_all()
        return running


def _c_options(family: str, folder: Path, pidfile: str = "pid") -> tuple[str, ...]:
    """The command line of either C program, and of ours in the form of ``socket_vmnet``."""
    group = f"--{family}-group={socket_group()}"
    pid = f"--pidfile={folder / 'run' / pidfile}"
    return group, f"--vmnet-gateway={GATEWAY}", pid, str(folder / "switch")


class VmnetTcp:
    """One guest, one stream in each direction, one after the other."""

    def __init__(self, wire: Wire, at_least: float) -> None:
        by_stream = wire is Wire.STREAM
        self.rival = C_SOCKET_VMNET if by_stream else C_VDE_VMNET
        self.name = "vmnet-stream-tcp" if by_stream else "vmnet-tcp"
        self.title = f"TCP between a guest (-netdev {wire.value}, TCG) and the host, on simulated vmnet"
        as_fast = Target(Subject.RATIO, Relation.AT_LEAST, at_least)
        as_light = Target(Subject.RATIO, Relation.AT_MOST, 1.0)
        self.rows = (
            Row("to_guest", "host to guest", "Gbit/s", as_fast),
            Row("to_host", "guest to host", "Gbit/s", as_fast),
            Row(
                "retransmits",
                "retransmits per GB, both directions",
                target=None if by_stream else Target(Subject.RATIO, Relation.BELOW, 0.1),
            ),
            Row("to_guest_cpu", "host to guest, processor time of all processes", "s per GB", as_light),
            Row("to_host_cpu", "guest to host, processor time of all processes", "s per GB", as_light),
            Row(
                "idle",
                "processor time while idle",
                "ticks of 10 ms",
                Target(Subject.OURS, Relation.AT_MOST, 0),
                has_ratio=False,
            ),
        )
        self._wire = wire
        self._online: dict[str, Running] = {}

    def unavailable_reason(self) -> str | None:
        return guest_unavailable_reason()

    def measure(self, system: System, bench: Bench) -> Answer:
        running = self._online.get(system.name)
        if running is None:
            bench.closing.callback(self._online.clear)
            running = bench.closing.enter_context(
                _start_ours(self._wire) if system.name == OURS else system.start(Uplink.VMNET, self._wire)
            )
            boot(running, bench.closing)
            self._online[system.name] = running
        before = running.activity()
        running.leave_alone(bench.effort.seconds)
        idle = running.activity().since(before).ticks
        detail: dict[str, object] = {}
        values = streams(running, bench.effort.tcp_seconds, detail)
        return Answer({**values, "retransmits": _retransmits(detail), "idle": idle}, detail)


def _start_ours(wire: Wire) -> Running:
    machine = _Mac()
    library = build(_MACOS)

    def command(folder: Path) -> list[str]:
        *options, path = _c_options("vde", folder)
        return launcher(library, *options, f"--stream={path}" if wire is Wire.STREAM else path)

    card = cards.stream if wire is Wire.STREAM else cards.vde
    return start(command, machine, card, machine.environment())


def _retransmits(detail: dict[str, object]) -> float:
    """For a GB, over both directions."""
    total = octets = 0
    for stream in detail.values():
        assert isinstance(stream, dict)
        total += stream["retransmits"] or 0
        octets += stream["octets"]
    return total / (octets / 1e9)
