"""Start and stop, a thousand times: no invalid access, no leak, in library and client."""

from __future__ import annotations

import os
import subprocess

import pytest

from tests.support.netns import Namespace
from tests.support.vmnet_client import program
from tests.support.vmnet_sim import Fabric

pytestmark = pytest.mark.root

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
    )


def test_a_thousand_cycles_with_sanitizers_of_addresses_and_behaviour(mac: Namespace, fabric: Fabric) -> None:
    done = run(mac, fabric, str(program("cycles", sanitize=True)), "1000")
    assert (done.returncode, done.stdout, done.stderr) == (0, "1000\n0\n", "")


def test_the_sanitizer_sees_a_leak(mac: Namespace, fabric: Fabric) -> None:
    done = run(mac, fabric, str(program("misuse", sanitize=True)), "lost_memory")
    assert done.returncode != 0 and "77 byte(s) leaked" in done.stderr


def test_twenty_cycles_under_valgrind(mac: Namespace, fabric: Fabric) -> None:
    done = run(mac, fabric, *VALGRIND, str(program("cycles")), "20")
    assert (done.returncode, done.stdout, done.stderr) == (0, "20\n0\n", "")
