"""The real daemon as an isolated switch, with real clients: many, short-lived, hostile, and stuck."""

import os
import re
import select
import selectors
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.support.vde_peer import VdePeer, frame
from vde_vmnet.demo.daemon_process import DaemonProcess
from vde_vmnet.demo.watches import FileWatch

BROADCAST = -1
#: As root the daemon serves as nobody; the test's own group lets it, and the tests, in.
OPTIONS = ("--backend=none", f"--vde-group={os.getegid()}")


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[DaemonProcess]:
    process = DaemonProcess(tmp_path / "sw", OPTIONS, pidfile=tmp_path / "pid", log=tmp_path / "log")
    with process:
        process.wait_ready()
        yield process
    assert process.process.returncode == 0, process.words()
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["log"]


def worker_pid(daemon: DaemonProcess) -> int:
    """The process that serves: the keeper's child, or the daemon itself without privilege."""
    pid = daemon.process.pid
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(children[0]) if children else pid


def status_of(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return dict(re.split(r":\s*", line, maxsplit=1) for line in lines)


def descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def introduce(*peers: VdePeer) -> None:
    """Each says hello; afterwards the switch knows all of them."""
    for number, peer in enumerate(peers, 1):
        peer.send(frame(BROADCAST, number, b"hello"))
        for other in peers:
            if other is not peer:
                other.receive()


def test_frames_go_where_they_belong(daemon: DaemonProcess) -> None:
    with VdePeer(daemon.directory) as one, VdePeer(daemon.directory) as two, VdePeer(daemon.directory) as three:
        introduce(one, two, three)
        one.send(frame(2, 1, b"for two"), frame(2, 1, b"", size=9234), frame(2, 1, b"end"))
        got = two.receive(3)
        assert got[0] == frame(2, 1, b"for two") and len(got[1]) == 9234
        assert three.receives_nothing() and one.receives_nothing()


def test_a_flood_of_stations_leaves_the_others_theirs(daemon: DaemonProcess) -> None:
    with VdePeer(daemon.directory) as one, VdePeer(daemon.directory) as two, VdePeer(daemon.directory) as evil:
        introduce(one, two, evil)
        for number in range(50_000):
            evil.send(frame(2, 0x100000 + number))
            if number % 50 == 0:
                two.receive(50 if number else 1)
        one.send(frame(2, 1, b"still"))
        while two.receive()[0] != frame(2, 1, b"still"):
            pass
        assert evil.receives_nothing()  # known, so not flooded to the attacker


def test_a_client_that_stops_reading_costs_the_others_nothing(daemon: DaemonProcess) -> None:
    with VdePeer(daemon.directory) as one, VdePeer(daemon.directory) as two, VdePeer(daemon.directory) as stuck:
        introduce(one, two, stuck)
        for _ in range(200):
            one.send(*[frame(3, 1, size=1514)] * 50)  # far beyond what its socket and queue hold
            one.send(frame(2, 1, b"through"))
            assert two.receive()[0] == frame(2, 1, b"through")


def test_zero_length_and_runt_datagrams_are_ignored(daemon: DaemonProcess) -> None:
    with VdePeer(daemon.directory) as one, VdePeer(daemon.directory) as two:
        introduce(one, two)
        one.send(b"", b"short", frame(2, 1, b"whole"))
        assert two.receive() == [frame(2, 1, b"whole")]


def test_a_client_whose_data_socket_dies_first(daemon: DaemonProcess) -> None:
    with VdePeer(daemon.directory) as one, VdePeer(daemon.directory) as two, VdePeer(daemon.directory) as half:
        introduce(one, two, half)
        half.data.close()
        one.send(frame(3, 1), frame(3, 1), frame(2, 1, b"goes on"))
        assert two.receive() == [frame(2, 1, b"goes on")]


def test_two_hundred_plugs_at_once(daemon: DaemonProcess) -> None:
    peers = [VdePeer(daemon.directory, timeout=20) for _ in range(200)]
    try:
        assert len(list(daemon.directory.glob("[0-9]*"))) == 200
        peers[0].send(frame(BROADCAST, 1, b"all"))
        for peer in peers[1:]:
            assert peer.receive() == [frame(BROADCAST, 1, b"all")]
    finally:
        for peer in peers:
            peer.close()


@pytest.mark.timeout(120)
def test_ten_thousand_cycles_leak_nothing(daemon: DaemonProcess) -> None:
    pid = worker_pid(daemon)

    def cycle(times: int) -> None:
        for _ in range(times):
            VdePeer(daemon.directory).close()
        with VdePeer(daemon.directory) as one, VdePeer(daemon.directory) as two:
            introduce(one, two)  # by now every earlier unplug has been dealt with

    cycle(500)
    descriptors_before, memory_before = descriptors(pid), int(status_of(pid)["VmRSS"].split()[0])
    cycle(10_000)
    assert abs(descriptors(pid) - descriptors_before) <= 4  # the last two plugs may still be going
    assert int(status_of(pid)["VmRSS"].split()[0]) - memory_before < 2048, "KiB"
    assert len(list(daemon.directory.iterdir())) <= 3


def test_small_and_idle(daemon: DaemonProcess) -> None:
    pids = {daemon.process.pid, worker_pid(daemon)}
    memory = sum(int(status_of(pid)["VmRSS"].split()[0]) for pid in pids)
    assert memory < 60 * 1024, "KiB, both processes, shared pages counted twice"

    def ticks() -> int:
        return sum(
            sum(int(field) for field in Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13])
            for pid in pids
        )

    before = ticks()
    # An interval of idleness is what is measured here, so waiting is the test.
    selectors.DefaultSelector().select(2)
    assert ticks() - before == 0


@pytest.mark.root
def test_the_worker_has_nothing_left_of_root(daemon: DaemonProcess) -> None:
    status = status_of(worker_pid(daemon))
    assert set(status["Uid"].split()) == {"65534"} and set(status["Gid"].split()) == {"65534"}
    assert status["Groups"].split() == [str(os.getegid())]
    assert {status[key] for key in ("CapInh", "CapPrm", "CapEff", "CapAmb", "CapBnd")} == {"0" * 16}
    assert status["NoNewPrivs"] == "1"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_stop_signal_ends_it_cleanly_with_clients_plugged_in(
    daemon: DaemonProcess, number: signal.Signals
) -> None:
    with VdePeer(daemon.directory) as peer:
        assert daemon.stop(number) == 0
        assert peer.control.recv(1) == b""
    assert not daemon.directory.exists() and not daemon.pidfile.exists()


@pytest.mark.root
@pytest.mark.parametrize("victim", ["keeper", "worker"])
def test_when_one_process_is_killed_the_other_ends(tmp_path: Path, victim: str) -> None:
    with DaemonProcess(tmp_path / "sw", OPTIONS, pidfile=tmp_path / "pid", log=tmp_path / "log") as daemon:
        daemon.wait_ready()
        worker = worker_pid(daemon)
        with_end = os.pidfd_open(worker)
        os.kill(worker if victim == "worker" else daemon.process.pid, signal.SIGKILL)
        selector = selectors.DefaultSelector()
        selector.register(with_end, selectors.EVENT_READ)
        assert selector.select(10), "the worker did not end"
        os.close(with_end)
        assert daemon.process.wait(10) == (70 if victim == "worker" else -signal.SIGKILL)
        if victim == "worker":
            assert not daemon.directory.exists()
            assert "ended by SIGKILL" in daemon.words()


@pytest.mark.root
def test_a_start_after_kill_minus_nine_finds_what_was_left(tmp_path: Path) -> None:
    start = partial(DaemonProcess, tmp_path / "sw", OPTIONS, pidfile=tmp_path / "pid", log=tmp_path / "log")
    with start() as first:
        first.wait_ready()
        worker = worker_pid(first)
        peer = VdePeer(first.directory)
        first.process.kill()
        first.process.wait()
        os.kill(worker, signal.SIGKILL)
        peer.close()
    with start() as second:
        second.wait_ready()
        with VdePeer(second.directory) as one, VdePeer(second.directory) as two:
            introduce(one, two)
    assert second.process.returncode == 0
    assert [entry.name for entry in tmp_path.iterdir()] == ["log"]


def run(*argv: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # type: ignore[call-overload, no-any-return]
        [sys.executable, "-m", "vde_vmnet", *argv], capture_output=True, text=True, timeout=20, **options
    )


def test_a_second_daemon_on_the_same_directory(daemon: DaemonProcess) -> None:
    second = run(*OPTIONS, str(daemon.directory))
    assert second.returncode == 5 and "in use by a running switch" in second.stderr
    with VdePeer(daemon.directory) as one, VdePeer(daemon.directory) as two:
        introduce(one, two)  # the first is unharmed


def test_a_second_daemon_with_the_same_pidfile(daemon: DaemonProcess, tmp_path: Path) -> None:
    second = run(*OPTIONS, "-p", str(daemon.pidfile), str(tmp_path / "sw2"))
    assert second.returncode == 5 and f"held by a running daemon (pid {daemon.process.pid})" in second.stderr
    assert not (tmp_path / "sw2").exists()
    assert daemon.pidfile.read_text() == f"{daemon.process.pid}\n"


def test_where_vde_switch_serves(tmp_path: Path) -> None:
    directory = tmp_path / "sw"
    directory.mkdir()
    with (
        FileWatch(directory) as watch,
        subprocess.Popen(
            ["vde_switch", "-s", str(directory)], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
        ) as switch,
    ):
        assert select.select([watch.fd], [], [], 10)[0]
        ours = run(*OPTIONS, str(directory))
        assert ours.returncode == 5 and "in use by a running switch" in ours.stderr
        assert (directory / "ctl").exists()
        assert switch.stdin is not None
        switch.stdin.close()  # ends it


@pytest.mark.root
def test_a_directory_that_the_service_user_cannot_reach(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    done = run(*OPTIONS, str(tmp_path / "sw"))
    assert (
        done.returncode == 4 and 'may not be used by "nobody"' in done.stderr and "Traceback" not in done.stderr
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("argv", "status", "message"),
    [
        ((), 1, "No VDESWITCH was given"),
        (("--nonsense", "sw"), 1, "Unrecognized arguments: --nonsense"),
        (("--vmnet-mode=nat", "sw"), 1, 'Unknown vmnet mode "nat"'),
        (("--vde-group=no-such-group", *OPTIONS[:1], "sw"), 1, '--vde-group "no-such-group" does not exist'),
        (("--user=no-such-user", *OPTIONS, "sw"), 1, '--user "no-such-user" does not exist'),
        ((*OPTIONS, "no/such/parent"), 1, "does not exist"),
        ((*OPTIONS, "/etc/passwd"), 1, "is not a directory"),
        ((*OPTIONS, "x" * 100), 1, "at most"),
        ((*OPTIONS, "-p", "no/such/pidfile", "sw"), 1, '--pidfile "'),
    ],
)
def test_bad_usage_is_one_clear_line(tmp_path: Path, argv: tuple[str, ...], status: int, message: str) -> None:
    done = run(*argv, cwd=tmp_path)
    lines = [line for line in done.stderr.splitlines() if "ERROR | " in line]
    assert done.returncode == status and len(lines) == 1 and message in lines[0], done.stderr
    assert list(tmp_path.iterdir()) == []


def test_help_and_version_go_to_standard_output() -> None:
    for option in ("-h", "--help"):
        assert run(option).stdout.startswith("usage: vde_vmnet [OPTION]... [VDESWITCH]...\n")
    for option in ("-v", "--version"):
        assert re.fullmatch(r"\d+\.\d+\.\d+\n", run(option).stdout)


def test_debug_shows_more(tmp_path: Path) -> None:
    environment = {"DEBUG": "1"}
    with DaemonProcess(
        tmp_path / "sw", OPTIONS, pidfile=tmp_path / "pid", log=tmp_path / "log", environment=environment
    ) as daemon:
        daemon.wait_ready()
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as shy:
            shy.connect(os.fspath(daemon.directory / "ctl"))
        with VdePeer(daemon.directory):
            pass
    assert re.search(
        r"^\d{4}-\d\d-\d\d .* DEBUG \| .*left without a word", daemon.log.read_text(), re.MULTILINE
    )
