"""The daemon around an uplink that does not survive a fork: who serves, who undoes, and who ends with whom."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.daemon import watch_end
from tests.system.no_fork import BUG, MARK
from vde_vmnet.config.model import network_id
from vde_vmnet.demo.daemon_process import DaemonProcess
from vde_vmnet.recovery import STATE_DIRECTORY

ROOT = Path(__file__).parents[2]
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="without root there is no keeper")


def launch(place: Path, environment: dict[str, str]) -> DaemonProcess:
    return DaemonProcess(
        place / "sw",
        (f"--vde-group={os.getegid()}", "--json"),
        pidfile=place / "pid",
        log=place / "log",
        environment={
            "PYTHONPATH": f"{ROOT}:{ROOT / 'python'}",
            MARK: str(place / "mark"),
            **environment,
        },
        program=("-m", "tests.system.no_fork"),
    )


def start(place: Path) -> DaemonProcess:
    process = launch(place, {})
    process.wait_ready()
    return process


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[DaemonProcess]:
    with start(tmp_path) as process:
        yield process


def keeper_of(daemon: DaemonProcess) -> int:
    pid = daemon.process.pid
    (keeper,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(keeper)


def left(place: Path) -> list[str]:
    records = [path.name for path in STATE_DIRECTORY.glob(f"{network_id(place / 'sw')}.*")]
    return sorted(entry.name for entry in place.iterdir()) + records


def log(daemon: DaemonProcess) -> str:
    return daemon.log.read_text()


def test_the_process_that_was_started_serves(daemon: DaemonProcess, tmp_path: Path) -> None:
    assert f"opened by: {daemon.process.pid}" in log(daemon)
    assert '{"mode": "isolated"}' in log(daemon).splitlines()
    assert daemon.stop() == 0
    assert "closed by the process that opened it: True" in log(daemon)
    assert left(tmp_path) == ["log"]


@needs_root
def test_it_has_no_privilege_and_its_keeper_none_of_its_sockets(daemon: DaemonProcess) -> None:
    pid, keeper = daemon.process.pid, keeper_of(daemon)
    assert "Uid:\t0" not in Path(f"/proc/{pid}/status").read_text()
    assert "Uid:\t0\t0" in Path(f"/proc/{keeper}/status").read_text()
    assert os.getsid(keeper) == keeper
    maps = Path(f"/proc/{keeper}/maps").read_text()
    assert "_engine" not in maps


@needs_root
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_stop_signal_to_either_ends_both(daemon: DaemonProcess, tmp_path: Path, number: int) -> None:
    os.kill(keeper_of(daemon), number)
    assert daemon.process.wait(10) == 0
    assert left(tmp_path) == ["log"]


@needs_root
def test_signals_to_both_at_once_are_one(daemon: DaemonProcess, tmp_path: Path) -> None:
    for pid in (daemon.process.pid, keeper_of(daemon), daemon.process.pid):
        os.kill(pid, signal.SIGTERM)
    assert daemon.process.wait(10) == 0
    assert left(tmp_path) == ["log"]


@needs_root
def test_after_kill_9_of_the_worker_the_keeper_undoes(daemon: DaemonProcess, tmp_path: Path) -> None:
    ended = watch_end(keeper_of(daemon))
    daemon.process.kill()
    ended()
    assert left(tmp_path) == ["log"]


@needs_root
def test_after_kill_9_of_the_keeper_the_worker_ends(daemon: DaemonProcess, tmp_path: Path) -> None:
    os.kill(keeper_of(daemon), signal.SIGKILL)
    assert daemon.process.wait(10) == 70
    assert "The keeper ended by SIGKILL" in log(daemon)
    assert "mark" in left(tmp_path)
    with start(tmp_path) as again:
        assert "when it was killed" in log(again)
    assert left(tmp_path) == ["log"]


@needs_root
def test_kill_9_of_both_is_found_at_the_next_start(daemon: DaemonProcess, tmp_path: Path) -> None:
    keeper = keeper_of(daemon)
    ended = watch_end(keeper)
    os.kill(keeper, signal.SIGKILL)
    daemon.process.kill()
    ended()
    daemon.process.wait()
    assert "mark" in left(tmp_path)
    with start(tmp_path):
        pass
    assert left(tmp_path) == ["log"]


def test_a_bug_has_its_own_status_and_everything_is_undone(tmp_path: Path) -> None:
    process = launch(tmp_path, {BUG: "a bug"})
    assert process.process.wait(10) == 70
    assert "The worker failed; please report this" in log(process)
    assert "RuntimeError: a bug" in log(process)
    assert left(tmp_path) == ["log"]


@needs_root
def test_a_second_daemon_is_refused_and_undoes_only_its_own(daemon: DaemonProcess, tmp_path: Path) -> None:
    other = DaemonProcess(
        tmp_path / "sw", ("--backend=none",), pidfile=tmp_path / "pid2", log=tmp_path / "log2"
    )
    assert other.process.wait(10) == 5
    assert (tmp_path / "mark").exists()
