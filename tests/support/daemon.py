"""The real daemon in a network namespace, as a user starts it; what it leaves behind; evidence of failures."""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.netns import Namespace
from vde_vmnet.config.model import network_id
from vde_vmnet.demo.accounts import unprivileged_account
from vde_vmnet.demo.daemon_process import DaemonProcess

__all__ = ["GATEWAY", "Daemon", "Picture", "keep_evidence", "wait_until", "watch_end"]

GATEWAY = "192.168.105.1"
STATE = Path("/run/vde_vmnet")
EVIDENCE = Path(__file__).parents[1] / "evidence"

#: Folders with evidence of what is running now.
_live: list[Path] = []


def keep_evidence(test: str) -> Path | None:
    """Copy what the running daemons and guests have written to ``tests/evidence/TEST``; None without any."""
    if not _live:
        return None
    place = EVIDENCE / re.sub(r"[^\w.=-]+", "_", test).strip("_")
    shutil.rmtree(place, ignore_errors=True)
    for number, folder in enumerate(_live):
        shutil.copytree(folder, place / str(number) if number else place, dirs_exist_ok=True)
    return place


class Daemon:
    """``vde_vmnet`` in ``host``, ready when the constructor returns; a context manager that stops it.

    Leaving it normally asserts that it ends with status 0 unless it was ended before. The switch
    directory lies where an unprivileged QEMU reaches it. All packets of the namespace are captured.
    """

    def __init__(
        self,
        host: Namespace,
        *options: str,
        prefix: Sequence[str] = (),
    ) -> None:
        """``options`` come after ``--vde-group`` of the unprivileged user; ``prefix`` goes before the
        command, inside the namespace."""
        self.host = host
        self.options = options
        self._prefix = prefix
        self._closing = ExitStack()
        with ExitStack() as unfinished:
            self.place = Path(tempfile.mkdtemp(prefix="vdet-"))
            unfinished.callback(shutil.rmtree, self.place, ignore_errors=True)
            self.place.chmod(0o755)
            self.directory = self.place / "ctl"
            self.evidence = self.place / "evidence"
            self.evidence.mkdir()
            _live.append(self.evidence)
            unfinished.callback(_live.remove, self.evidence)
            _start_capture(host, self.evidence / "host.pcap", unfinished)
            self.process = self._start()
            unfinished.callback(self._end)
            try:
                #: Seconds from start to pidfile.
                self.ready_seconds = self.process.wait_ready()
            except BaseException:
                keep_evidence(os.environ.get("PYTEST_CURRENT_TEST", "unknown").split("::")[-1].split(" ")[0])
                raise
            self._closing = unfinished.pop_all()

    def _start(self) -> DaemonProcess:
        return DaemonProcess(
            self.directory,
            (f"--vde-group={unprivileged_account().group}", *self.options),
            pidfile=self.place / "pid",
            log=self.evidence / "daemon.log",
            prefix=self.host.command(*self._prefix),
            environment={"DEBUG": "1"},
        )

    def restart(self) -> None:
        """Start it again with the same options after it has ended; ready when this returns."""
        assert self.process.process.poll() is not None, "it still runs"
        self.process = self._start()
        self.ready_seconds = self.process.wait_ready()

    @property
    def keeper(self) -> int:
        """Its pid, which is also what the pidfile says."""
        return self.process.process.pid

    @property
    def worker(self) -> int:
        """Pid of the process that serves: the child of the keeper that is the same program."""
        children = Path(f"/proc/{self.keeper}/task/{self.keeper}/children").read_text().split()
        program = Path(f"/proc/{self.keeper}/exe").readlink()
        (worker,) = [int(pid) for pid in children if Path(f"/proc/{pid}/exe").readlink() == program]
        return worker

    @property
    def device(self) -> str:
        """Name of its TAP."""
        return f"vmnet-{network_id(self.directory)}"

    def log(self) -> str:
        """Everything it has written so far."""
        return self.process.log.read_text(errors="replace")

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End it by a signal; its exit status."""
        return self.process.stop(number)

    def kill(self, *pids: int) -> None:
        """`kill -9` these processes of the daemon and wait until all of the daemon has ended."""
        everything = [self.keeper, self.worker]
        waits = [watch_end(pid) for pid in everything]
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        for wait in waits:
            wait()
        self.process.process.wait(20)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._closing:
            if kind is None and self.process.process.poll() is None:
                status = self.stop()
                assert status == 0, f"the daemon ended with {status}: {self.process.words()}"

    def _end(self) -> None:
        if self.process.process.poll() is None:
            self.process.process.kill()
        self.process.process.wait()


def watch_end(pid: int, seconds: float = 20.0) -> Callable[[], None]:
    """A function that waits until the process, which lives now, has ended."""
    fd = os.pidfd_open(pid)

    def wait() -> None:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        ended = poll.poll(seconds * 1000)
        os.close(fd)
        assert ended, f"process {pid} is still there after {seconds} s"

    return wait


def _start_capture(host: Namespace, file: Path, closing: ExitStack) -> None:
    """tcpdump on every device of the namespace; capturing when this returns."""
    capture = subprocess.Popen(
        host.command(
            "tcpdump",
            "-i",
            "any",
            "-p",
            "-U",
            "--immediate-mode",
            "-n",
            "-s",
            "256",
            "-Z",
            "root",
            "-w",
            str(file),
        ),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )

    def end() -> None:
        capture.terminate()
        capture.communicate(timeout=10)

    closing.callback(end)
    assert capture.stderr is not None
    said = ""
    while "listening on" not in said:
        line = capture.stderr.readline()
        assert line, f"tcpdump ended: {said}"
        said += line


@dataclass(frozen=True)
class Picture:
    """What a daemon could leave on a host; two of them are equal when it left nothing."""

    links: tuple[str, ...]
    addresses: tuple[str, ...]
    routes: str
    rules: str
    settings: str
    processes: tuple[str, ...]
    files: tuple[str, ...]

    @classmethod
    def take(cls, host: Namespace, place: Path) -> Picture:
        """``place``: the folder in which switch directory and pidfile lie (not ``evidence`` in it)."""
        links = json.loads(host.run("ip", "-j", "-d", "link"))
        addresses = json.loads(host.run("ip", "-j", "address"))
        pids = host.run("ip", "netns", "pids", host.name).split()
        evidence = place / "evidence"
        found = [path for path in place.rglob("*") if path != evidence and evidence not in path.parents]
        # Other networks' records may be there too: those of the other tests of this machine.
        found += STATE.glob(f"{network_id(place / 'ctl')}.*") if STATE.exists() else []
        return cls(
            links=tuple(sorted(f"{link['ifname']} {link['flags']} {link.get('master')}" for link in links)),
            addresses=tuple(
                sorted(
                    f"{link['ifname']} {address['local']}/{address['prefixlen']}"
                    for link in addresses
                    for address in link["addr_info"]
                )
            ),
            routes=host.run("ip", "route", "show", "table", "all"),
            rules=host.run("nft", "list", "ruleset"),
            settings=host.run(
                "sysctl", "-a", "--pattern", r"forwarding|ip_forward|accept_ra$|rp_filter|proxy_arp"
            ),
            processes=tuple(
                sorted(name for pid in pids if (name := _program(pid)) not in ("", "tcpdump", "ip", "nft"))
            ),
            files=tuple(sorted(map(str, found))),
        )


def _program(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def wait_until(holds: Callable[[], bool], what: str, seconds: float = 10.0) -> None:
    """For what gives no event: look again every 20 ms. Fails the test after ``seconds``."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"{what}: not after {seconds} s"
        select.poll().poll(20)
