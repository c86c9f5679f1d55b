"""A simulated Mac: a namespace with the framework's fabric, in which the daemon runs as on macOS.

with SimulatedMac() as mac, mac.daemon("--vmnet-gateway=192.168.105.1") as daemon, TapGuest(daemon) as guest:
    lease = guest.lease()
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support import as_user, vmnet_launcher
from tests.support.daemon import wait_until
from tests.support.netns import Namespace, wire
from tests.support.vmnet_sim import Fabric, build
from tests.system.linux_uplink import LEASE_SCRIPT
from vde_vmnet.config.model import network_id
from vde_vmnet.demo.daemon_process import DaemonProcess
from vde_vmnet.recovery import STATE_DIRECTORY

__all__ = ["GATEWAY", "SimulatedMac", "TapGuest"]

GATEWAY = "192.168.105.1"
_LAUNCHER = vmnet_launcher.__file__


class SimulatedMac:
    """A context manager. Leaving it asserts that nobody broke the framework's contract, if all went well."""

    def __init__(self) -> None:
        self._closing = ExitStack()
        with ExitStack() as unfinished:
            self.namespace = unfinished.enter_context(Namespace("mac"))
            # Where br_netfilter is loaded, the fabric's pf would also see what a bridge only passes on.
            quiet = "for one in /proc/sys/net/bridge/*-call-*; do echo 0 > $one; done || :"
            self.namespace.run("sh", "-c", quiet)
            self.fabric = unfinished.enter_context(Fabric(self.namespace))
            self.place = Path(tempfile.mkdtemp(prefix="vdet-mac-"))
            unfinished.callback(shutil.rmtree, self.place, ignore_errors=True)
            self.place.chmod(0o755)
            self._closing = unfinished.pop_all()
        #: Lines of the report that a test caused on purpose.
        self.expected_report = ""

    @functools.cached_property
    def lan(self) -> Namespace:
        """At the other end of ``en0``: 203.0.113.10, where this Mac is 203.0.113.1. Made when asked for."""
        other = self._closing.enter_context(Namespace("lan"))
        wire(self.namespace, "en0", other, "eth0")
        self.namespace.run("ip", "address", "add", "203.0.113.1/24", "dev", "en0")
        other.run("ip", "address", "add", "203.0.113.10/24", "dev", "eth0")
        return other

    def environment(self, macos: str = "26", faults: str = "") -> dict[str, str]:
        """Of a program that runs on this Mac."""
        return {**self.fabric.environment(macos, faults), "DEBUG": "1"}

    def process(
        self, *options: str, macos: str = "26", faults: str = "", name: str = "sw", user: str | None = None
    ) -> DaemonProcess:
        """The daemon, just started; ``user``: as whom, without privilege, in a folder of their own."""
        place, log = self.place, self.place / f"{name}.log"
        log.unlink(missing_ok=True)
        start: tuple[str, ...] = (_LAUNCHER,)
        if user is not None:
            place = self.place / user
            place.mkdir(exist_ok=True)
            shutil.chown(place, user)
            start = as_user.program(user)
        return DaemonProcess(
            place / name,
            (*(() if user else (f"--vde-group={os.getegid()}",)), *options),
            pidfile=place / f"{name}.pid",
            log=log,
            prefix=self.namespace.command(),
            environment=self.environment(macos, faults),
            program=(*start, "--library", str(build(macos)), "--"),
        )

    @contextlib.contextmanager
    def daemon(
        self, *options: str, macos: str = "26", faults: str = "", name: str = "sw", user: str | None = None
    ) -> Iterator[DaemonProcess]:
        """A daemon that is ready; asserts that it ends with status 0 and leaves nothing."""
        process = self.process(*options, macos=macos, faults=faults, name=name, user=user)
        try:
            process.wait_ready()
            yield process
        finally:
            status = process.stop()
        assert status == 0, process.words()
        assert self.left(name) == []

    def refused(
        self, *options: str, macos: str = "26", faults: str = "", user: str | None = None
    ) -> tuple[int, str]:
        """Exit status and words of a daemon that does not start."""
        process = self.process(*options, macos=macos, faults=faults, name="refused", user=user)
        status = process.process.wait(30)
        assert self.left("refused") == []
        return status, process.log.read_text()

    def run(self, *argv: str, macos: str = "26") -> subprocess.CompletedProcess[str]:
        """Another command of ``vde_vmnet`` on this Mac, to its end."""
        return subprocess.run(
            self.namespace.command(*vmnet_launcher.command(build(macos), *argv)),
            env={**os.environ, **self.environment(macos)},
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )

    def left(self, name: str) -> list[str]:
        """What a daemon has left behind."""
        records = STATE_DIRECTORY.glob(f"{network_id(self.place / name)}.*")
        return [path.name for path in (*self.place.glob(name), *self.place.glob(f"{name}.pid"), *records)]

    def close(self) -> None:
        """Take it down."""
        self._closing.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._closing:
            if kind is None:
                self.fabric.settle()
                assert self.fabric.report() == self.expected_report, self.fabric.report()


class TapGuest:
    """A namespace whose ``eth0`` is plugged into a daemon's switch by vde_plug2tap. A context manager."""

    def __init__(self, daemon: DaemonProcess, number: int = 1) -> None:
        self.mac = f"52:54:00:00:00:{number:02x}"
        self.namespace = Namespace(f"guest{number}")
        self._plug = subprocess.Popen(
            self.namespace.command("vde_plug2tap", f"--sock={daemon.directory}", "eth0"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.namespace.on_close.append(self._end)
        wait_until(lambda: self.namespace.succeeds("ip", "link", "show", "eth0"), "eth0 is there")
        self.run("ip", "link", "set", "eth0", "address", self.mac)
        self.run("ip", "link", "set", "eth0", "up")

    def run(self, *argv: str, check: bool = True) -> str:
        """A program in the guest."""
        return self.namespace.run(*argv, check=check)

    def lease(self, place: Path, tries: int = 5) -> str:
        """Ask for an address and use it; the line that says which, empty when nobody answers."""
        script = place / "lease.sh"
        script.write_text(LEASE_SCRIPT)
        script.chmod(0o755)
        said = self.run(
            *("busybox", "udhcpc", "-i", "eth0", "-f", "-n", "-q", "-T", "1", "-t", str(tries)),
            *("-s", str(script)),
            check=False,
        )
        return next((line for line in said.splitlines() if line.startswith("LEASE ")), "")

    def pings(self, address: str, *, seconds: int = 2) -> bool:
        """Whether it answers."""
        return self.namespace.succeeds("ping", "-c", "1", "-W", str(seconds), address)

    def _end(self) -> None:
        self._plug.kill()
        self._plug.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.namespace.close()
