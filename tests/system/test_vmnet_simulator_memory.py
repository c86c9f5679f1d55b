"""Start and stop, a thousand times: no invalid access, no leak; in a C program, and in uplink and engine."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.netns import Namespace
from tests.support.vmnet_client import program
from tests.support.vmnet_sim import Fabric, build

pytestmark = pytest.mark.root
ROOT = Path(__file__).parents[2]

VALGRIND = (
    "valgrind", "--quiet", "--leak-check=full", "--show-leak-kinds=definite,possible", "--error-exitcode=9"
)  # fmt: skip


def run(mac: Namespace, fabric: Fabric, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        mac.command(*command),
        env={**os.environ, **fabric.environment()},
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )


def test_a_thousand_cycles_with_sanitizers_of_addresses_and_behaviour(mac: Namespace, fabric: Fabric) -> None:
    done = run(mac, fabric, str(program("cycles", sanitize=True)), "1000")
    assert (done.returncode, done.stdout, done.stderr) == (0, "1000\n0\n", "")


def test_a_thousand_cycles_of_uplink_and_engine_with_the_sanitizer(mac: Namespace, fabric: Fabric) -> None:
    runtime = subprocess.run(
        ["clang", f"-print-file-name=libclang_rt.asan-{platform.machine()}.so"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    # Leaks are seen by what is allocated after warming up: the interpreter itself never frees all it has.
    options = ("ASAN_OPTIONS=detect_leaks=0", f"LD_PRELOAD={runtime}", "PYTHONMALLOC=malloc")
    library = str(build(sanitize=True))
    process = (sys.executable, "-m", "tests.system.vmnet_cycles_process", library, "1000")
    done = run(mac, fabric, "env", *options, *process)
    assert (done.returncode, done.stderr) == (0, "")
    cycles, objects, allocated = map(int, done.stdout.split())
    assert (cycles, objects) == (1000, 0)
    assert allocated < 16384, "less than twenty bytes a cycle"


def test_the_sanitizer_sees_a_leak(mac: Namespace, fabric: Fabric) -> None:
    done = run(mac, fabric, str(program("misuse", sanitize=True)), "lost_memory")
    assert done.returncode != 0 and "77 byte(s) leaked" in done.stderr


def test_sixteen_cycles_under_valgrind(mac: Namespace, fabric: Fabric) -> None:
    done = run(mac, fabric, *VALGRIND, str(program("cycles")), "16")
    assert (done.returncode, done.stdout, done.stderr) == (0, "16\n0\n", "")
