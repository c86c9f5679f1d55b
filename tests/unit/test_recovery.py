"""The undo record: order, failures, who is alive, what is handed over, and records that cannot be trusted."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from vde_vmnet import recovery, undo_files, undo_steps
from vde_vmnet.errors import ConflictError, InternalError, PrivilegeError, UnavailableError
from vde_vmnet.recovery import (
    Command,
    RemoveDirectory,
    RestoreBootptab,
    RestoreSysctl,
    Step,
    StopProcess,
    UndoRecord,
    Unlink,
    sweep,
)

STEPS: list[Step] = [
    Command(("/bin/true", "x"), ("gone",)),
    Unlink("/run/a"),
    Unlink("/run/a", 1, 2),
    RemoveDirectory("/run/d"),
    StopProcess(12, 34),
    RestoreSysctl("/proc/sys/x", "1", "0", {"/proc/sys/y": "2"}),
    RestoreSysctl("/proc/sys/x", "1"),
    RestoreBootptab("/etc/bootptab", "1a2b3c4d", ("/bin/launchctl", "kickstart")),
]


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def dying(state: Path) -> Callable[[str, Callable[[UndoRecord], None]], None]:
    """Makes a record in a process that then dies as by `kill -9`."""

    def make(name: str, fill: Callable[[UndoRecord], None]) -> None:
        pid = os.fork()
        if pid == 0:
            fill(UndoRecord.create(name, state))
            os.kill(os.getpid(), signal.SIGKILL)
        os.waitpid(pid, 0)

    return make


@pytest.fixture
def helper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


def marking(path: Path, word: str) -> Command:
    return Command(("/bin/sh", "-c", f"echo {word} >> {path}"))


def files(state: Path) -> list[str]:
    return sorted(path.name for path in state.iterdir())


@pytest.mark.parametrize("step", STEPS, ids=lambda step: type(step).__name__)
def test_steps_survive_the_way_to_disk(step: Step) -> None:
    assert undo_steps.from_plain(json.loads(json.dumps(undo_steps.to_plain(step)))) == step


@pytest.mark.parametrize(
    "plain",
    [
        None,
        [],
        {},
        {"step": "unheard of"},
        {"step": "command", "argv": "rm -rf /", "gone": []},
        {"step": "command", "argv": [1], "gone": []},
        {"step": "command", "argv": ["true"]},
        {"step": "command", "argv": ["true"], "gone": [], "more": 1},
        {"step": "stop_process", "pid": "1", "start_ticks": 1},
        {"step": "stop_process", "pid": 1},
        {"step": "unlink", "path": None},
        {"step": "remove_directory"},
        {"step": "restore_sysctl", "path": "a", "value": "1", "former": 0, "followers": {}},
        {"step": "restore_sysctl", "path": "a", "value": "1", "former": None, "followers": {"b": 1}},
    ],
)
def test_what_no_step_looks_like_is_refused(plain: object) -> None:
    with pytest.raises(ValueError, match="is no undo step"):
        undo_steps.from_plain(plain)


def test_steps_are_undone_in_reverse_and_the_record_goes(state: Path, tmp_path: Path) -> None:
    undo = UndoRecord.create("aa", state)
    for word in ("first", "second", "third"):
        undo.push(marking(tmp_path / "log", word))
    assert undo.run()
    assert (tmp_path / "log").read_text().split() == ["third", "second", "first"]
    assert files(state) == [".lock"]
    assert undo.run()
    assert (tmp_path / "log").read_text().split() == ["third", "second", "first"]


def test_a_failure_is_logged_and_the_rest_is_undone(
    state: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    undo = UndoRecord.create("aa", state)
    undo.push(marking(tmp_path / "log", "first"))
    undo.push(Command(("/bin/sh", "-c", "echo no such luck >&2; false")))
    undo.push(Command(("/nonexistent/program",)))
    undo.push(Command(("/bin/sh", "-c", "echo Cannot find device >&2; false"), ("Cannot find device",)))
    assert not undo.run()
    assert (tmp_path / "log").read_text() == "first\n"
    assert [record.levelname for record in caplog.records] == ["ERROR", "ERROR"]
    assert "no such luck" in caplog.text
    assert files(state) == [".lock"]


def test_files_and_directories(state: Path, tmp_path: Path) -> None:
    undo = UndoRecord.create("aa", state)
    full, empty, replaced, gone = (tmp_path / name for name in ("full", "empty", "replaced", "gone"))
    for directory in (full, empty):
        directory.mkdir()
        undo.push(RemoveDirectory(str(directory)))
    (full / "theirs").touch()
    replaced.touch()
    undo.push(Unlink.same_file(replaced))
    (tmp_path / "new").touch()
    (tmp_path / "new").replace(replaced)
    for path in (gone, gone / "below", empty / "ours"):
        undo.push(Unlink(str(path)))
    (empty / "ours").touch()
    undo.push(RemoveDirectory(str(gone)))
    assert undo.run()
    assert full.exists() and not empty.exists() and replaced.exists()


def test_a_process_is_stopped_and_reaped(state: Path, helper: subprocess.Popen[bytes]) -> None:
    undo = UndoRecord.create("aa", state)
    undo.push(StopProcess.of(helper.pid))
    assert undo.run()
    assert not Path(f"/proc/{helper.pid}").exists()


def test_a_process_that_ignores_sigterm_is_killed(
    helper: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(undo_steps, "_TERM_MILLISECONDS", 50)
    with subprocess.Popen(
        ["/bin/sh", "-c", "trap '' TERM; echo ready; read line"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as deaf:
        assert deaf.stdout is not None and deaf.stdout.readline() == b"ready\n"
        StopProcess.of(deaf.pid).undo()
        assert not Path(f"/proc/{deaf.pid}").exists()


def test_a_later_process_of_the_same_number_is_not_ours(helper: subprocess.Popen[bytes]) -> None:
    StopProcess(helper.pid, StopProcess.of(helper.pid).start_ticks - 1).undo()
    assert helper.poll() is None
    StopProcess(2**22 + 1, 5).undo()


def test_a_dead_owner_is_told_from_a_living_one(
    state: Path, tmp_path: Path, dying: Callable[[str, Callable[[UndoRecord], None]], None]
) -> None:
    living = UndoRecord.create("aa", state)
    living.push(marking(tmp_path / "log", "living"))
    dying("bb", lambda undo: undo.push(marking(tmp_path / "log", "dead")))
    assert sweep(state) == ["bb"]
    assert (tmp_path / "log").read_text() == "dead\n"
    assert sweep(state) == []
    with pytest.raises(ConflictError, match="aa is already running"):
        UndoRecord.create("aa", state)
    assert living.run()


def test_create_undoes_its_own_predecessor(
    state: Path, tmp_path: Path, dying: Callable[[str, Callable[[UndoRecord], None]], None]
) -> None:
    dying("aa", lambda undo: undo.push(marking(tmp_path / "log", "dead")))
    assert UndoRecord.create("aa", state).run()
    assert (tmp_path / "log").read_text() == "dead\n"


def test_a_child_that_released_does_not_keep_the_network_alive(state: Path) -> None:
    report, told = os.pipe()
    waiting, go = os.pipe()
    keeper = os.fork()
    if keeper == 0:
        undo = UndoRecord.create("aa", state)
        if os.fork() == 0:
            undo.release_in_child()
            os.close(go)
            os.write(told, b"x")
            os.read(waiting, 1)  # lives on when the keeper has died
            os._exit(0)
        os._exit(0)
    os.waitpid(keeper, 0)
    os.read(report, 1)
    assert sweep(state) == ["aa"]
    for fd in (go, waiting, report, told):
        os.close(fd)


def test_held_descriptors_go_with_the_record_and_with_the_release(state: Path) -> None:
    undo = UndoRecord.create("aa", state)
    read, write = os.pipe()
    undo.hold(write)
    assert undo.run()
    assert os.read(read, 1) == b""
    released = UndoRecord.create("aa", state)
    released.hold(read)
    released.release_in_child()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(read)
    for use in (lambda: released.push(Unlink("/x")), released.run):
        with pytest.raises(InternalError):
            use()


def test_the_lock_is_not_inherited_by_programs(state: Path) -> None:
    undo = UndoRecord.create("aa", state)
    listed = subprocess.run(
        ["/bin/ls", "-l", "/proc/self/fd"], close_fds=False, check=True, capture_output=True, text=True
    )
    assert str(state) not in listed.stdout
    assert undo.run()


def test_the_last_that_needs_a_setting_puts_it_back(state: Path, tmp_path: Path) -> None:
    setting, follower = tmp_path / "setting", tmp_path / "follower"
    setting.write_text("0\n")
    follower.write_text("5\n")
    first, second, third = (UndoRecord.create(name, state) for name in ("aa", "bb", "cc"))
    for undo in (first, second, third):
        undo.set_sysctl(setting, "1", [follower])
    follower.write_text("6\n")
    for undo in (first, third):
        assert undo.run()
        assert setting.read_text() == "1"
    assert second.run()
    assert setting.read_text() == "0"
    assert follower.read_text() == "5"


def test_a_setting_that_others_changed_or_that_was_so_is_left(state: Path, tmp_path: Path) -> None:
    changed, already = tmp_path / "changed", tmp_path / "already"
    changed.write_text("0")
    already.write_text("1")
    undo = UndoRecord.create("aa", state)
    undo.set_sysctl(changed, "1")
    undo.set_sysctl(already, "1")
    changed.write_text("7")
    assert undo.run()
    assert (changed.read_text(), already.read_text()) == ("7", "1")


def test_a_dead_network_hands_its_setting_to_a_living_one(
    state: Path, tmp_path: Path, dying: Callable[[str, Callable[[UndoRecord], None]], None]
) -> None:
    setting = tmp_path / "setting"
    setting.write_text("0")
    dying("aa", lambda undo: undo.set_sysctl(setting, "1"))
    living = UndoRecord.create("bb", state)
    living.set_sysctl(setting, "1")
    assert sweep(state) == ["aa"]
    assert setting.read_text() == "1"
    assert living.run()
    assert setting.read_text() == "0"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": 99}', '{"version": 1, "network": "aa"}'])
def test_an_unreadable_record_is_set_aside(state: Path, text: str, caplog: pytest.LogCaptureFixture) -> None:
    assert UndoRecord.create("bb", state).run()
    path = state / f"aa.{undo_files.namespace()}.json"
    path.write_text(text)
    assert sweep(state) == []
    assert path.with_suffix(".corrupt").read_text() == text
    assert "Set aside the unreadable undo record" in caplog.text
    assert UndoRecord.create("aa", state).run()


def rewritten(state: Path, name: str, **changes: object) -> None:
    """Change fields of a dead record, and its file's name with them."""
    (path,) = state.glob(f"{name}.*.json")
    plain = json.loads(path.read_text()) | changes
    path.unlink()
    (state / f"{name}.{plain['namespace']}.json").write_text(json.dumps(plain))


def test_a_record_of_an_earlier_boot_is_removed_and_not_carried_out(
    state: Path, tmp_path: Path, dying: Callable[[str, Callable[[UndoRecord], None]], None]
) -> None:
    dying("aa", lambda undo: undo.push(marking(tmp_path / "log", "dead")))
    rewritten(state, "aa", boot="another")
    assert sweep(state) == []
    assert not list(state.glob("*.json"))
    assert not (tmp_path / "log").exists()


def test_of_a_namespace_that_has_ended_only_files_are_undone(
    state: Path, tmp_path: Path, dying: Callable[[str, Callable[[UndoRecord], None]], None]
) -> None:
    def fill(undo: UndoRecord) -> None:
        undo.push(marking(tmp_path / "log", "dead"))
        undo.push(Unlink(str(tmp_path / "socket")))

    (tmp_path / "socket").touch()
    dying("aa", fill)
    rewritten(state, "aa", namespace=1)
    assert sweep(state) == []
    assert not list(state.glob("*.json"))
    assert not (tmp_path / "log").exists()
    assert not (tmp_path / "socket").exists()


def test_files_of_an_ended_namespace_stay_while_the_same_network_runs(
    state: Path, tmp_path: Path, dying: Callable[[str, Callable[[UndoRecord], None]], None]
) -> None:
    (tmp_path / "socket").touch()
    dying("aa", lambda undo: undo.push(Unlink(str(tmp_path / "socket"))))
    rewritten(state, "aa", namespace=1)
    running = UndoRecord.create("aa", state)
    assert sweep(state) == []
    assert (tmp_path / "socket").exists()
    assert running.run()


def test_a_living_other_namespace_is_left_alone(
    state: Path,
    tmp_path: Path,
    dying: Callable[[str, Callable[[UndoRecord], None]], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dying("aa", lambda undo: undo.push(marking(tmp_path / "log", "dead")))
    monkeypatch.setattr(recovery, "namespace", lambda: 2)
    assert sweep(state) == []
    assert len(list(state.glob("*.json"))) == 1


def test_directories_that_cannot_be_trusted_or_written(tmp_path: Path) -> None:
    assert sweep(tmp_path / "absent") == []
    open_to_all = tmp_path / "open"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    for use in (lambda: UndoRecord.create("aa", open_to_all), lambda: sweep(open_to_all)):
        with pytest.raises(PrivilegeError, match="writable by no other"):
            use()
    with pytest.raises(UnavailableError, match="Cannot use the state directory"):
        UndoRecord.create("aa", Path("/proc/sys/vde_vmnet"))
    denied = undo_files.translated(PermissionError(errno.EACCES, "Permission denied"), "Cannot write /run/x")
    assert isinstance(denied, PrivilegeError)
    assert str(denied) == "Cannot write /run/x: Permission denied. Run with sudo"


def test_a_record_that_vanished_is_undone_from_memory(state: Path, tmp_path: Path) -> None:
    undo = UndoRecord.create("aa", state)
    undo.push(marking(tmp_path / "log", "first"))
    for path in state.iterdir():
        path.unlink()
    assert undo.run()
    assert (tmp_path / "log").read_text() == "first\n"


def test_a_record_in_memory(tmp_path: Path) -> None:
    undo = UndoRecord.in_memory("aa")
    undo.push(marking(tmp_path / "log", "first"))
    assert undo.run()
    assert (tmp_path / "log").read_text() == "first\n"
    with pytest.raises(InternalError):
        undo.file("leases")


def test_modes(state: Path) -> None:
    undo = UndoRecord.create("aa", state)
    assert state.stat().st_mode & 0o777 == 0o755
    assert {path.stat().st_mode & 0o777 for path in state.iterdir()} == {0o600}
    assert undo.file("leases").parent == state
    assert undo.run()
