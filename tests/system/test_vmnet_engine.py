"""The engine's port on the simulated framework, in volume: every frame arrives or is counted."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.netns import Namespace
from tests.support.vmnet_sim import Fabric, build

pytestmark = pytest.mark.root

ROOT = Path(__file__).parents[2]


def carry_out(
    mac: Namespace, fabric: Fabric, task: str, number: int, faults: str = "", *, sanitize: bool = False
) -> Any:
    library = build(sanitize=sanitize)
    done = subprocess.run(
        mac.command(sys.executable, "-m", "tests.support.vmnet_engine", str(library), task, str(number)),
        env={**os.environ, **fabric.environment(faults=faults), **(_sanitizer() if sanitize else {})},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def _sanitizer() -> dict[str, str]:
    """AddressSanitizer for a program that was not made for it; what an interpreter leaves is its own affair."""
    runtime = f"-print-file-name=libclang_rt.asan-{platform.machine()}.so"
    named = subprocess.run(["clang", runtime], capture_output=True, text=True, check=True)
    return {"LD_PRELOAD": named.stdout.strip(), "ASAN_OPTIONS": "detect_leaks=0:verify_asan_link_order=0"}


@pytest.mark.parametrize("faults", ["", "write_status=1007,write_fail_every=3"])
def test_everything_goes_out_in_order(mac: Namespace, fabric: Fabric, faults: str) -> None:
    done = carry_out(mac, fabric, "out", 5_000, faults)
    assert done == {"counted": {"sent": 5_000, "queued": 0}, "in_order": True, "whole": True, "said": []}


@pytest.mark.parametrize(
    ("status", "reason", "name"),
    [
        (1003, "refused", "VMNET_INVALID_ARGUMENT"),
        (1006, "refused", "VMNET_PACKET_TOO_BIG"),
        (1001, "write_failed", "VMNET_FAILURE"),
        (1005, "write_failed", "VMNET_INVALID_ACCESS"),
    ],
)
def test_what_does_not_go_out_is_counted_and_told_once(
    mac: Namespace, fabric: Fabric, status: int, reason: str, name: str
) -> None:
    done = carry_out(mac, fabric, "out", 5_000, f"write_status={status},write_fail_every=4")
    counted = done["counted"]
    assert counted["sent"] + counted[reason] == 5_000 and counted["sent"] > 0 < counted[reason]
    assert set(counted) == {"sent", "queued", reason}
    assert done["in_order"] and done["whole"]
    (said,) = done["said"]
    assert said.startswith(f"vmnet_write gives {name} ({status}); ")


@pytest.mark.parametrize(
    "faults",
    ["", "estimate=low", "estimate=high,spurious_events=2", "read_status=1007,read_fail_every=4"],
)
def test_everything_comes_in_in_order(mac: Namespace, fabric: Fabric, faults: str) -> None:
    assert carry_out(mac, fabric, "in", 5_000, faults) == {"whole": True}


def test_a_thousand_interfaces_leave_nothing(mac: Namespace, fabric: Fabric) -> None:
    done = carry_out(mac, fabric, "cycles", 1_000)
    first, last = done["descriptors"]
    assert first == last
    assert done["grown_kib"] < 1_024


@pytest.mark.parametrize("task", ["cycles", "out", "in"])
def test_no_memory_is_used_that_is_not_there(mac: Namespace, fabric: Fabric, task: str) -> None:
    carry_out(mac, fabric, task, 100, sanitize=True)


def test_nobody_works_when_nothing_happens(mac: Namespace, fabric: Fabric) -> None:
    done = carry_out(mac, fabric, "idle", 1_000)
    assert done["seconds"] < 0.005
    assert done["waits"] <= 2
