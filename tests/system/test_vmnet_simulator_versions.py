"""What each macOS has: names that are missing are missing for dlsym(3), and keys from dictionaries."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.netns import Namespace
from tests.support.vmnet_client import program
from tests.support.vmnet_driver import HOST, SHARED, SUCCESS, Driver
from tests.support.vmnet_sim import INCLUDE, MACOS_VERSIONS, Fabric, build

ROOT = Path(__file__).parents[2]

#: Name: the first macOS that has it.
SINCE = {
    "vmnet_start_interface": "11",
    "vmnet_enable_tso_key": "11",
    "vmnet_interface_add_port_forwarding_rule": "11",
    "vmnet_interface_add_ip_port_forwarding_rule": "13",
    "vmnet_enable_checksum_offload_key": "13",
    "vmnet_read_max_packets_key": "15",
    "vmnet_write_max_packets_key": "15",
    "vmnet_enable_virtio_header_key": "15.4",
    "vmnet_network_create": "26",
    "vmnet_interface_start_with_network": "26",
}

_LOOK = """
import ctypes, sys
library = ctypes.CDLL(sys.argv[1])
print(*(name for name in sys.argv[2:] if hasattr(library, name)))
"""


def found(macos: str, names: list[str]) -> set[str]:
    """Which of the names dlsym(3) finds, in a process of its own."""
    command = [sys.executable, "-c", _LOOK, str(build(macos)), *names]
    return set(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())


@pytest.mark.parametrize("macos", MACOS_VERSIONS)
def test_names_of_a_version(macos: str) -> None:
    order = list(MACOS_VERSIONS)
    expected = {name for name, since in SINCE.items() if order.index(since) <= order.index(macos)}
    assert found(macos, list(SINCE)) == expected


def test_one_handle_finds_every_name_of_the_headers_and_the_runtime() -> None:
    declared = set()
    for header in INCLUDE.rglob("*.h"):
        text = re.sub(r"/\*.*?\*/|#define[^\n]*|typedef[^;]*;", "", header.read_text(), flags=re.DOTALL)
        declared |= set(re.findall(r"\b(\w+)\((?!\^)[^;{}]*\)[^;{}]*;", text)) - {"__attribute__"}
        declared |= set(re.findall(r"\b(vmnet_\w+_key|_xpc_type_\w+)\b", text)) - {"_xpc_type_s"}
    assert len([name for name in declared if name.endswith("_key")]) == 23 and len(declared) > 130
    names = {*declared, "_Block_copy", "_Block_release", "_dispatch_queue_attr_concurrent"}
    names |= {f"_NSConcrete{kind}Block" for kind in ("Stack", "Global", "Malloc")}
    assert found("26", sorted(names)) == names


def test_a_build_of_another_version_is_not_mistaken() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _LOOK, str(build("13"))],
        env={**os.environ, "VMNET_SIM_MACOS": "15"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (
        done.returncode != 0 and "VMNET_SIM_MACOS is 15, but this library was built as macOS 13" in done.stderr
    )


def test_a_fault_that_does_not_exist_is_not_mistaken() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _LOOK, str(build())],
        env={**os.environ, "VMNET_SIM_FAULTS": "start_null,stop_never"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0 and 'there is no fault "stop_never"' in done.stderr


@pytest.mark.root
def test_limits_are_reported_since_macos_15_and_200_before(mac: Namespace, fabric: Fabric) -> None:
    for macos, limit in (("13", 200), ("15", 256)):
        with Driver(mac, fabric, macos) as driver:
            assert driver.start(HOST) == SUCCESS
            assert ("read_max_packets" in driver.facts) == (macos == "15")
            assert driver.ask(f"read {limit}").startswith(SUCCESS)
            assert driver.ask(f"read {limit + 1}").startswith("1008")
            driver.stop()
    fabric.forgive()


@pytest.mark.root
def test_an_ordinary_user_may_since_macos_26_unless_not_entitled(mac: Namespace, fabric: Fabric) -> None:
    for macos, faults, status in (("15.4", "", "1001"), ("26", "", SUCCESS), ("26", "not_entitled", "1010")):
        with Driver(mac, fabric, macos, faults, user="nobody") as driver:
            assert driver.start(SHARED) == status
            if status == SUCCESS:
                driver.stop()


@pytest.mark.root
def test_a_program_on_a_simulated_mac_by_hand() -> None:
    mac = [sys.executable, "-m", "tests.support.vmnet_sim", "--macos", "15", "--"]
    for mistake, status in (("none", 0), ("xpc_leak", 1)):
        done = subprocess.run(
            [*mac, str(program("misuse", "15")), mistake], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode == status
        assert ("an XPC object with 1 reference(s)" in done.stderr) == (status == 1)
