"""What the numbers were taken on, without names of hosts or people."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.systems import System

__all__ = ["describe", "slug"]

_ARCHITECTURES = {"x86_64": "x86", "amd64": "x86", "aarch64": "arm"}


def describe(systems: Sequence[System]) -> dict[str, str]:
    """Processor, kernel and versions; a program that is not there is said to be missing."""
    found = {
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "memory": f"{_memory_octets() / 2**30:.0f} GiB",
        "virtual": "yes" if _is_virtual() else "no",
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        # What an unprivileged process may ask for as a socket's buffer, and gets without asking.
        "wmem_max, wmem_default": ", ".join(_setting(name) for name in ("wmem_max", "wmem_default")),
        "distribution": platform.freedesktop_os_release().get("PRETTY_NAME", "unknown"),
        "Python": platform.python_version(),
        "rustc": _version(["rustc", "--version"]),
        "QEMU": _version(["qemu-system-x86_64", "--version"]),
        "iperf3": _version(["iperf3", "--version"]),
        "C compiler": _version(["cc", "--version"]),
    }
    for system in systems:
        found[system.name] = "missing" if system.unavailable_reason() else system.version()
    return found


def slug(machine: Mapping[str, str]) -> str:
    """A folder name such as ``x86-2core-vm``."""
    architecture = machine["kernel"].rsplit(" ", 1)[-1]
    architecture = _ARCHITECTURES.get(architecture, re.sub(r"[^a-z0-9]+", "-", architecture.lower()))
    return f"{architecture}-{machine['cores']}core-{'vm' if machine['virtual'] == 'yes' else 'metal'}"


def _processor() -> str:
    for line in _cpuinfo():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or "unknown"


def _is_virtual() -> bool:
    return any(line.startswith("flags") and " hypervisor" in line for line in _cpuinfo())


def _cpuinfo() -> list[str]:
    return Path("/proc/cpuinfo").read_text().splitlines()


def _memory_octets() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _setting(name: str) -> str:
    return Path("/proc/sys/net/core", name).read_text().strip()


def _version(command: list[str]) -> str:
    if shutil.which(command[0]) is None:
        return "missing"
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = done.stdout.splitlines()
    return lines[0].strip() if lines else "unknown"
