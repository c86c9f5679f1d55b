"""``python -m bench.run``: every scenario, ours and its rival in turn; at the end one table, and plots.

Exit status 0 when everything could be measured, whatever came out (a benchmark is not a test); 1 when something
could not; 2 for wrong usage; 130 when it was interrupted.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path

from bench import machine, report, store
from bench.clients import Clients
from bench.compare import C_SOCKET_VMNET, C_VDE_VMNET, OURS, Sample
from bench.errors import BenchError
from bench.scenarios import GROUPS, Bench, Effort, Scenario
from bench.simulated import CProgram, VmnetTcp
from bench.systems import DpdkRelay, Passt, QemuTap, QemuUser, System, Uplink, VdeSwitch, VdeVmnet, Wire

__all__ = ["main"]

_ROOT = Path(__file__).resolve().parent.parent
_BUILD = _ROOT / "build" / "bench"
_RESULTS = _ROOT / "bench" / "results"

#: Only when the program to compare with is named: most people do not have it.
_ON_REQUEST: tuple[Scenario, ...] = (VmnetTcp(Wire.VDE, 1.3), VmnetTcp(Wire.STREAM, 1.2))
_GROUPS = {**GROUPS, "vmnet": _ON_REQUEST}
_ALL = tuple(scenario for group in _GROUPS.values() for scenario in group)

_FULL = Effort("full", rounds=5, seconds=1.5, pings=10_000, idle_seconds=3.0, tcp_seconds=3)
_QUICK = Effort("quick", rounds=2, seconds=0.7, pings=3_000, idle_seconds=1.0, tcp_seconds=2)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; returns the exit status."""
    options = _parse(arguments)
    if options.list:
        for group, members in _GROUPS.items():
            print(group)
            for scenario in members:
                print(f"  {scenario.name:28}{scenario.title}")
        return 0
    effort = _QUICK if options.quick else _FULL
    if options.rounds is not None:
        effort = replace(effort, rounds=options.rounds)
    c_programs = {C_VDE_VMNET: options.original, C_SOCKET_VMNET: options.original_stream}
    usual = [one for one in _ALL if one not in _ON_REQUEST or c_programs[one.rival]]
    chosen = _chosen(options.only) if options.only else usual
    everybody: list[System] = [
        VdeVmnet(options.daemon),
        VdeSwitch(),
        Passt(),
        QemuTap(),
        QemuUser(),
        DpdkRelay(),
    ]
    everybody += [CProgram(name, path) for name, path in c_programs.items()]
    wanted = {OURS} | {scenario.rival for scenario in chosen}
    systems = [system for system in everybody if system.name in wanted]
    # Asked to end either way, it takes down what it has started.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        run = _measure(chosen, systems, effort)
        if options.add_to:
            run = _added_to(options.add_to, run)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("bench: interrupted, nothing stored", file=sys.stderr)
        return 128 + signal.SIGINT
    print(report.to_markdown(run))
    stored = store.write(
        run, options.add_to or store.place(run, _RESULTS if options.record else _BUILD / "results")
    )
    print(f"Raw result: {os.path.relpath(stored)}")
    # What is committed is shown by the documentation, and has everything.
    if options.add_to or not options.record or not options.only:
        print(f"With plots: {os.path.relpath(store.show(run, stored))}")
    return 0 if run.complete else 1


def _added_to(raw: Path, run: report.Run) -> report.Run:
    """``run`` in the place of those scenarios in a stored one that it has measured. Raises BenchError."""
    before = store.read(raw, {scenario.name: scenario.rows for scenario in _ALL})
    if before.effort != run.effort:
        raise BenchError(f"{raw} was measured with {dict(before.effort)} and this with {dict(run.effort)}")
    measured = {result.name: result for result in (*before.results, *run.results)}
    results = [measured[scenario.name] for scenario in _ALL if scenario.name in measured]
    return replace(run, date=before.date, machine={**before.machine, **run.machine}, results=results)


def _chosen(names: Sequence[str]) -> list[Scenario]:
    wanted = {scenario.name for name in names for scenario in _GROUPS.get(name, ())} | set(names)
    return [scenario for scenario in _ALL if scenario.name in wanted]


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.run", description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--quick", action="store_true", help="two short rounds: to see whether something broke, not to quote")
    add(
        "--rounds",
        type=int,
        metavar="N",
        help=f"pairs of samples (default: {_FULL.rounds}; --quick: {_QUICK.rounds})",
    )
    add(
        "--only",
        action="append",
        metavar="NAME",
        choices=[*_GROUPS, *(scenario.name for scenario in _ALL)],
        help="a scenario or a group of them (--list); repeatable",
    )
    add(
        "--add-to",
        type=Path,
        metavar="RESULT.json",
        help="put what is measured into this stored result, to take a whole run in pieces",
    )
    add("--record", action="store_true", help="store the result in bench/results, to be committed")
    add(
        "--daemon",
        type=Path,
        metavar="PATH",
        default=Path(sys.executable).parent / "vde_vmnet",
        help="the vde_vmnet to measure, such as one of an older checkout",
    )
    for option, program in (("--original", "vde_vmnet"), ("--original-stream", "socket_vmnet")):
        add(
            option,
            type=Path,
            metavar="PATH",
            help=f"the C {program}, compiled against the simulator, to compare with",
        )
    add("--list", action="store_true", help="name the scenarios by groups and end")
    options = parser.parse_args(arguments)
    if options.rounds is not None and options.rounds < 1:
        parser.error("--rounds must be at least 1")
    return options


def _measure(scenarios: Sequence[Scenario], systems: Sequence[System], effort: Effort) -> report.Run:
    for system in systems:
        reason = system.unavailable_reason()
        if system.name == OURS and reason is not None:
            raise BenchError(reason)
        # A system that does not start at all ends the run here and not in every scenario.
        if reason is None and system.offers(Uplink.NONE):
            with system.start(Uplink.NONE):
                pass
    date = datetime.now().astimezone().isoformat(timespec="seconds")
    load = os.getloadavg()
    described = machine.describe(systems)
    clients = Clients(_BUILD / "bin")
    results = [_scenario(scenario, systems, clients, effort) for scenario in scenarios]
    return report.Run(date, asdict(effort), described, load, results)


def _scenario(
    scenario: Scenario, systems: Sequence[System], clients: Clients, effort: Effort
) -> report.ScenarioResult:
    began = time.monotonic()
    samples: list[Sample] = []
    sides = [system for system in systems if system.name in (OURS, scenario.rival)]
    reasons = [*(system.unavailable_reason() for system in sides), scenario.unavailable_reason()]
    failure = next(filter(None, reasons), "")
    try:
        with ExitStack() as closing:
            bench = Bench(clients, effort, closing)
            # A B A B …: what the machine does besides touches both alike.
            for number in range(effort.rounds if not failure else 0):
                for system in sides:
                    _progress(f"{scenario.title}: round {number + 1} of {effort.rounds}, {system.name}")
                    answer = scenario.measure(system, bench)
                    samples.append(Sample(system.name, number, answer.values, answer.detail))
    except BenchError as error:
        failure = " ".join(str(error).split())
    _progress("")
    taken = time.monotonic() - began
    print(f"{scenario.name}: {failure or 'done'} ({taken:.0f} s)", file=sys.stderr, flush=True)
    return report.ScenarioResult(
        scenario.name, scenario.title, scenario.rival, scenario.rows, samples, failure, round(taken, 1)
    )


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
