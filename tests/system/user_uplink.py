"""The daemon as an ordinary user, with the uplink that needs no privilege, and a world around it."""

from __future__ import annotations

import shutil
import socket
import tempfile
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.e2e.world import World
from tests.support.netns import Namespace
from tests.support.package import package_for_all
from tests.support.station import Station
from vde_vmnet.demo.accounts import unprivileged_account
from vde_vmnet.demo.daemon_process import DaemonProcess
from vde_vmnet.demo.netns import entered

__all__ = ["GATEWAY", "UserNetwork", "wait_for_address6"]

GATEWAY = "192.168.105.1"


class UserNetwork:
    """Host, world, and a daemon without privilege. A context manager; leaving it asserts a clean end."""

    def __init__(self, *options: str, prefix: tuple[str, ...] = (), taken: int = 0) -> None:
        """``prefix`` goes before what gives privilege up; ``taken`` is a port that the host has in use."""
        self._closing = ExitStack()
        with ExitStack() as unfinished:
            self.host = unfinished.enter_context(Namespace("host"))
            self.world = unfinished.enter_context(World(self.host))
            self.place = Path(tempfile.mkdtemp(prefix="vdet-user-"))
            unfinished.callback(shutil.rmtree, self.place, ignore_errors=True)
            self.place.chmod(0o777)
            if taken:
                with entered(self.host.path):
                    unfinished.enter_context(socket.create_server(("127.0.0.1", taken)))
            account = unprivileged_account()
            package = unfinished.enter_context(package_for_all())
            self.daemon = DaemonProcess(
                self.place / "ctl",
                (f"--vmnet-gateway={GATEWAY}", *options),
                pidfile=self.place / "pid",
                log=self.place / "log",
                prefix=self.host.command(*self.world.resolver(), *prefix, *account.command_prefix()),
                environment={"DEBUG": "1", "PYTHONPATH": str(package)},
            )
            unfinished.callback(self._end)
            self.daemon.wait_ready()
            self._closing = unfinished.pop_all()

    def station(self, number: int, *, name: str = "") -> Station:
        """One more guest; not yet entered."""
        return Station(self.place / "ctl", number, name=name)

    def descriptors(self) -> int:
        """How many the daemon has open."""
        return len(list(Path(f"/proc/{self.daemon.process.pid}/fd").iterdir()))

    def log(self) -> str:
        """Everything it has written so far."""
        return self.daemon.log.read_text(errors="replace")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._closing:
            if kind is None and self.daemon.process.poll() is None:
                assert self.daemon.stop() == 0, self.daemon.words()

    def _end(self) -> None:
        self.daemon.process.kill()
        self.daemon.process.wait()


def wait_for_address6(station: Station, prefix: str) -> None:
    """Until the station has made itself an address of the prefix and knows that nobody else has it."""
    start = prefix.rstrip(":")
    while not any(
        start in line and "tentative" not in line
        for line in station.namespace.run("ip", "-6", "-o", "address", "show", "dev", "eth0").splitlines()
    ):
        station.namespace.run("ip", "-6", "route", "get", "::1")
