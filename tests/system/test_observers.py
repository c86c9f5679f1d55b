"""The commands that show and change a running network, against the real daemon; top in a real terminal."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import ioctl
from pathlib import Path

import pytest

from tests.support import as_user
from tests.support.vde_peer import VdePeer, frame
from vde_vmnet.demo.daemon_process import DaemonProcess

MODULE = ("-m", "vde_vmnet")
OPTIONS = ("--backend=none", f"--vde-group={os.getegid()}")


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A folder that the service user may enter."""
    with tempfile.TemporaryDirectory(prefix="vde-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture(scope="module")
def daemon(place: Path) -> Iterator[DaemonProcess]:
    process = DaemonProcess(place / "sw", OPTIONS, pidfile=place / "pid", log=place / "log")
    with process:
        process.wait_ready()
        yield process


def call(*argv: str | Path, program: tuple[str, ...] = MODULE) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *program, *map(str, argv)], capture_output=True, text=True, check=False, timeout=30
    )


def said(*argv: str | Path) -> str:
    done = call(*argv)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def rows(*argv: str | Path) -> list[dict[str, str]]:
    """What a script reads."""
    head, *lines = [line.split("\t") for line in said(*argv).splitlines()]
    assert all(len(line) == len(head) for line in lines)
    return [dict(zip(head, line, strict=True)) for line in lines]


@contextmanager
def guest(daemon: DaemonProcess, number: int) -> Iterator[VdePeer]:
    """A plugged-in client that has said who it is."""
    with VdePeer(daemon.directory, description=f"guest {number}") as peer, VdePeer(daemon.directory) as other:
        peer.send(frame(-1, number, b"hello"))
        other.receive()
        yield peer


def test_ports_and_stations(daemon: DaemonProcess) -> None:
    with guest(daemon, 1):
        (mine,) = [row for row in rows("ports", daemon.directory) if row["MAC"] == "02:00:00:00:00:01"]
        assert (mine["KIND"], mine["STATE"], mine["RX_FRAMES"], mine["RX_BYTES"]) == ("vde", "up", "1", "60")
        assert f"({os.getpid()}, " in mine["PEER"]
        (station,) = rows("fdb", daemon.directory)
        assert (station["MAC"], station["PORT"]) == ("02:00:00:00:00:01", mine["PORT"])
        listed = json.loads(said("ports", "--json", daemon.directory))
        assert [one["macs"] for one in listed if one["number"] == int(mine["PORT"])] == [["02:00:00:00:00:01"]]


def test_status(daemon: DaemonProcess) -> None:
    with guest(daemon, 2) as peer:
        text = said("status", daemon.directory)
        facts, table = text.split("\n\n")
        pairs = dict(line.split("\t", 1) for line in facts.splitlines())
        assert pairs["network"] == str(daemon.directory)
        assert f"pid {daemon.process.pid}" in pairs["daemon"]
        assert pairs["uplink"] == "none"
        assert table.splitlines()[0].split("\t")[-3:] == ["FROM_GUEST", "TO_GUEST", "DROPS"]
        peer.send(*[frame(-1, 2, size=1000)] * 20)
        plain = json.loads(said("status", "--json", daemon.directory))
        assert set(plain) == {"network", "ports", "counters", "rates", "total_rate"}
        assert set(plain["rates"]) == {str(one["number"]) for one in plain["ports"]}


def test_status_again_and_again(daemon: DaemonProcess) -> None:
    argv = [sys.executable, *MODULE, "status", "--json", "--watch", "--interval=0.1", str(daemon.directory)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as watching:
        assert watching.stdout is not None
        looks = [json.loads(watching.stdout.readline()) for _ in range(3)]
        watching.send_signal(signal.SIGINT)
        assert watching.wait(10) == 130
    times = [one["counters"]["time"] for one in looks]
    assert times == sorted(times) and len(set(times)) == 3


def test_who_reads_no_further_is_no_error(daemon: DaemonProcess) -> None:
    argv = [sys.executable, *MODULE, "status", "--watch", "--interval=0.1", str(daemon.directory)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as watching:
        assert watching.stdout is not None and watching.stderr is not None
        watching.stdout.readline()
        watching.stdout.close()
        assert watching.stderr.read() == b""
        assert watching.wait(10) == 128 + signal.SIGPIPE


def test_events_and_changes(daemon: DaemonProcess) -> None:
    argv = [sys.executable, *MODULE, "events", "--json", "--since=0", str(daemon.directory)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as following:
        assert following.stdout is not None
        with guest(daemon, 3) as peer:
            (row,) = [row for row in rows("ports", daemon.directory) if row["MAC"] == "02:00:00:00:00:03"]
            port = row["PORT"]
            assert said("port", "down", port, daemon.directory)
            states = {one["PORT"]: one["STATE"] for one in rows("ports", daemon.directory)}
            assert states[port] == "down"
            assert said("port", "up", port, daemon.directory)
            peer.send(frame(-1, 3, b"here again"))
            assert said("kick", "02:00:00:00:00:03", daemon.directory), "by MAC address"
        events = [json.loads(following.stdout.readline())]
        while "kicked" not in events[-1]["message"]:
            events.append(json.loads(following.stdout.readline()))
        following.terminate()
    about = [event["kind"] for event in events if event["port"] == int(port)]
    assert about[-1] == "port_down" and {"port_up", "first_mac", "port_set"} <= set(about), events
    # What is remembered can be had later; a count ends it.
    first = said("events", "--since=0", "--count=1", daemon.directory).rstrip("\n").split("\t")
    assert len(first) == 5 and first[1].isdecimal()


def test_log_and_its_level(daemon: DaemonProcess) -> None:
    lines = said("logs", daemon.directory).splitlines()
    assert lines and all(len(line.split("\t")) == 4 for line in lines)
    assert len(said("logs", "--lines=1", daemon.directory).splitlines()) == 1
    before = said("log-level", daemon.directory).strip()
    assert said("log-level", "debug", daemon.directory).strip() == "debug"
    assert said("log-level", before, daemon.directory).strip() == before
    loud = call("log-level", "loud", daemon.directory)
    assert loud.returncode == 1 and "debug, info, warning, error" in loud.stderr


def test_what_an_uplink_cannot_do_is_said(daemon: DaemonProcess) -> None:
    refused = call("reserve", "add", "02:00:00:00:00:01=10.0.0.1", daemon.directory)
    assert refused.returncode in (3, 5) and "ERROR" in refused.stderr
    assert rows("reserve", "list", daemon.directory) == []
    assert rows("forward", "list", daemon.directory) == []


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("kick",), "PORT"),
        (("kick", "nobody"), '"nobody" is no port'),
        (("kick", "64000"), "64000"),
        (("port", "sideways", "1"), "neither down nor up"),
        (("reserve", "add", "nonsense"), "MAC=IP"),
        (("reserve", "keep", "x"), "add, remove, list"),
        (("forward", "add", "80"), "PORT:GUEST:PORT"),
        (("events", "--count=x"), "--count"),
        (("status", "--watch", "--interval=0"), "--interval"),
        (("ports", "--nonsense"), "--nonsense"),
        (("top",), "needs a terminal"),
    ],
)
def test_wrong_usage(daemon: DaemonProcess, argv: tuple[str, ...], words: str) -> None:
    done = call(*argv, *(() if argv == ("kick",) else (daemon.directory,)))
    assert done.returncode == 1, done.stderr
    assert words in done.stderr and "Traceback" not in done.stderr


def test_no_network_there(place: Path) -> None:
    for command in ("status", "ports", "fdb", "leases", "events", "logs"):
        done = call(command, place / "none")
        assert done.returncode == 3, done.stderr
        assert "runs at" in done.stderr


@pytest.mark.root
def test_who_may_not_is_told_which_group_may(daemon: DaemonProcess) -> None:
    for command in ("status", "leases"):
        done = call(command, daemon.directory, program=as_user.program("daemon"))
        assert done.returncode == 4, done.stderr
        assert '"daemon" may not' in done.stderr and "group root" in done.stderr
        assert "usermod -aG root daemon" in done.stderr


@pytest.mark.root
def test_networks_are_found(place: Path) -> None:
    """In a mount namespace in which no other network is registered."""
    script = (
        "mount -t tmpfs -o mode=755 none /run/vde_vmnet && echo ready && exec cat"
        if Path("/run/vde_vmnet").is_dir()
        else "mkdir /run/vde_vmnet && mount -t tmpfs -o mode=755 none /run/vde_vmnet && echo ready && exec cat"
    )
    with (
        subprocess.Popen(
            ["unshare", "-m", "sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as holder,
    ):
        assert holder.stdout is not None and holder.stdout.readline() == "ready\n"
        inside = ("nsenter", "-m", "-t", str(holder.pid), "--wd=/")

        def found(*argv: str) -> subprocess.CompletedProcess[str]:
            command = [*inside, sys.executable, *MODULE, *argv]
            return subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)

        def network(name: str) -> DaemonProcess:
            return DaemonProcess(
                *(place / name, OPTIONS),
                pidfile=place / f"{name}.pid",
                log=place / f"{name}.log",
                prefix=inside,
            )

        nothing = found("status")
        assert nothing.returncode == 3 and "No network runs" in nothing.stderr
        with network("first") as first:
            first.wait_ready()
            assert f"network\t{place}/first\n" in found("status").stdout
            assert found("completion", "--networks").stdout == f"{place}/first\n"
            with network("second") as second:
                second.wait_ready()
                several = found("status")
                assert several.returncode == 1
                assert f"Several networks run: {place}/first, {place}/second" in several.stderr
                # One that is killed leaves a link that leads nowhere.
                for pid in (second.process.pid, *children(second.process.pid)):
                    os.kill(pid, signal.SIGKILL)
                second.process.wait(10)
            assert found("ports").returncode == 0
        holder.communicate()


def children(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


class Terminal:
    """A terminal of 100 columns and 12 lines, with top on it."""

    def __init__(self, directory: Path) -> None:
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            argv = [sys.executable, *MODULE, "top", "--interval=0.1", str(directory)]
            os.execve(sys.executable, argv, {**os.environ, "LC_ALL": "C.UTF-8"})  # noqa: S606
        self.said = ""
        self.resize(100, 12)

    def resize(self, width: int, height: int) -> None:
        ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    def until(self, wanted: str, seconds: float = 20.0) -> None:
        """Read until it is said from now on."""
        self.said, deadline = "", time.monotonic() + seconds
        while wanted not in self.said:
            ready, _, _ = select.select([self.fd], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"no {wanted!r} in {self.said[-300:]!r}"
            try:
                self.said += os.read(self.fd, 65536).decode(errors="replace")
            except OSError:
                raise AssertionError(f"it has ended: {self.said[-300:]!r}") from None

    def type(self, keys: str) -> None:
        os.write(self.fd, keys.encode())

    @property
    def raw(self) -> bool:
        return not termios.tcgetattr(self.fd)[3] & termios.ICANON

    def end(self) -> tuple[str, int]:
        """All that is said until the end, and the exit status."""
        rest = self.said
        while True:
            try:
                piece = os.read(self.fd, 65536)
            except OSError:
                break
            if not piece:
                break
            rest += piece.decode(errors="replace")
        _, status = os.waitpid(self.pid, 0)
        os.close(self.fd)
        return rest, os.waitstatus_to_exitcode(status)


def test_top(daemon: DaemonProcess) -> None:
    with guest(daemon, 4) as peer:
        top = Terminal(daemon.directory)
        top.until("FROM GUEST")
        assert "\x1b[?1049h" in top.said and str(daemon.directory)[:90] in top.said
        assert top.raw
        peer.send(*[frame(-1, 4, size=1000)] * 5)
        top.until("kbit/s")
        top.type("i")
        top.until("sorted by from guest")
        top.type(" ")
        top.until("paused")
        top.resize(60, 8)
        os.kill(top.pid, signal.SIGWINCH)
        top.until("sorted by")
        top.type("q")
        rest, status = top.end()
    assert status == 0
    assert rest.endswith("\x1b[?25h\x1b[?1049l")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_top_gives_the_terminal_back_whatever_ends_it(daemon: DaemonProcess, number: signal.Signals) -> None:
    top = Terminal(daemon.directory)
    top.until("q quit")
    os.kill(top.pid, number)
    rest, status = top.end()
    assert status == 128 + number
    assert rest.endswith("\x1b[?25h\x1b[?1049l")


def test_top_when_the_network_ends(place: Path) -> None:
    with DaemonProcess(place / "short", OPTIONS, pidfile=place / "pid2", log=place / "log2") as daemon:
        daemon.wait_ready()
        top = Terminal(daemon.directory)
        top.until("q quit")
        assert said("shutdown", daemon.directory)
        daemon.process.wait(10)
        rest, status = top.end()
    assert status == 3
    after = rest.rsplit("\x1b[?1049l", 1)[1]
    assert "ERROR" in after and str(daemon.directory) in after
