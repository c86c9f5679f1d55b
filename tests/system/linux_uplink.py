"""What the system tests of the Linux uplink share: the uplink's process, a guest, and a picture of a host."""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.support.netns import Namespace

__all__ = ["RefusedError", "UplinkProcess", "ask_for_lease", "picture", "processes", "state_directory"]

ROOT = Path(__file__).parents[2]
_ids = itertools.count(0x10000000)

#: Applies what DHCP gave, and tells it in words of its own.
LEASE_SCRIPT = """#!/bin/busybox sh
[ "$1" = bound ] || exit 0
ip address flush dev "$interface" scope global
ip address add "$ip/$mask" dev "$interface"
[ -z "$router" ] || ip route add default via "$router"
echo "LEASE $ip/$mask router=$router dns=$dns domain=$domain hostname=$hostname lease=$lease"
"""


class RefusedError(Exception):
    """The uplink did not open."""

    def __init__(self, answer: dict[str, Any]) -> None:
        super().__init__(answer["message"])
        self.kind: str = answer["kind"]


@contextlib.contextmanager
def state_directory() -> Iterator[Path]:
    """A state directory that the services' user can pass through, as it can through /run."""
    with tempfile.TemporaryDirectory(prefix="vde_vmnet-") as name:
        path = Path(name)
        path.chmod(0o755)
        yield path


class UplinkProcess:
    """A process that holds an open uplink. Raises RefusedError when it does not open.

    Without ``wait`` that comes with the first look at ``opened``.
    """

    def __init__(
        self, host: Namespace, state: Path, *, guest: Namespace | None = None, wait: bool = True, **asked: Any
    ) -> None:
        asked.setdefault("id", f"{next(_ids):08x}")
        asked["state"] = str(state)
        if guest is not None:
            asked["guest"] = guest.path
        self.id: str = asked["id"]
        self.device = f"vmnet-{self.id}"
        self.process = subprocess.Popen(
            host.command(sys.executable, "-m", "tests.system.linux_process", json.dumps(asked)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT / "python")},
        )
        host.on_close.append(self.close)
        self.log = ""
        if wait:
            _ = self.opened

    @functools.cached_property
    def opened(self) -> dict[str, Any]:
        """What the process said when the uplink was open."""
        return self._answer("open")

    def open_guest_mac(self, mac: str) -> str:
        """Name of the endpoint."""
        self._tell(f"guest {mac}")
        return str(self._answer("guest")["name"])

    def stop(self) -> bool:
        """Close as the keeper does; whether everything was undone."""
        self._tell("stop")
        complete = bool(self._answer("closed")["complete"])
        self._end()
        return complete

    def kill(self) -> None:
        """`kill -9`."""
        self.process.send_signal(signal.SIGKILL)
        self._end()

    def close(self) -> None:
        """For fixtures: end it if it lives."""
        if self.process.poll() is None:
            self.kill()
        else:
            self._end()

    def _tell(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def _answer(self, event: str) -> dict[str, Any]:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            answer: dict[str, Any] = json.loads(line)
            if answer["event"] == "log":
                self.log += answer["text"]
            elif answer["event"] == "error":
                if event != "guest":
                    self._end()
                raise RefusedError(answer)
            else:
                assert answer["event"] == event
                return answer
        self._end()
        raise AssertionError(f"the uplink's process ended with status {self.process.returncode}")

    def _end(self) -> None:
        self.process.wait(10)
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.close()


def ask_for_lease(guest: Namespace, tmp_path: Path, *options: str) -> str:
    """Run a DHCP client in the guest; the line that its script wrote, or "" when nobody answered."""
    script = tmp_path / "lease.sh"
    script.write_text(LEASE_SCRIPT)
    script.chmod(0o755)
    said = guest.run(
        "busybox", "udhcpc", "-i", "eth0", "-f", "-n", "-q", "-t", "3", "-T", "1", "-s", str(script), *options,
        check=False,
    )  # fmt: skip
    return next((line for line in said.splitlines() if line.startswith("LEASE ")), "")


def picture(host: Namespace) -> dict[str, str]:
    """Everything of a namespace that an uplink touches, for comparison before and after."""
    return {
        "links": host.run("ip", "-br", "link"),
        "addresses": host.run("ip", "-br", "address"),
        "routes": host.run("ip", "route", "show", "table", "all"),
        "routes6": host.run("ip", "-6", "route", "show", "table", "all"),
        "rules": host.run("nft", "list", "ruleset"),
        "sysctls": host.run("sh", "-c", "grep -r . /proc/sys/net/ipv4/conf /proc/sys/net/ipv4/ip_forward"
                            " /proc/sys/net/ipv6/conf 2>/dev/null | grep -v stable_secret | sort"),
        "processes": str([processes(host, program) for program in ("dnsmasq", "nft", "python")]),
    }  # fmt: skip


def processes(host: Namespace, program: str) -> list[int]:
    """The processes of a namespace that run a program."""
    found = []
    for pid in host.run("ip", "netns", "pids", host.name).split():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if Path(f"/proc/{pid}/comm").read_text().strip() == program:
                found.append(int(pid))
    return found
