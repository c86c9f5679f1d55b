"""The pidfile: there only while ready, locked while the process lives."""

import os
from pathlib import Path

import pytest

from vde_vmnet.errors import ConfigurationError, ConflictError
from vde_vmnet.pidfile import Pidfile


def test_in_place_only_between_ready_and_end(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    pidfile = Pidfile.claim(path)
    assert not path.exists()
    pidfile.write(4711)
    assert path.read_text() == "4711\n"
    assert path.stat().st_mode & 0o777 == 0o644
    pidfile.remove()
    assert list(tmp_path.iterdir()) == []


def test_unwritten_leaves_nothing(tmp_path: Path) -> None:
    Pidfile.claim(tmp_path / "pid").remove()
    assert list(tmp_path.iterdir()) == []


def test_a_second_daemon_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    first = Pidfile.claim(path)
    first.write(4711)
    with pytest.raises(ConflictError, match=r"held by a running daemon \(pid 4711\)"):
        Pidfile.claim(path)
    assert path.read_text() == "4711\n"
    first.remove()


def test_of_two_that_start_at_once_the_slower_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    first, second = Pidfile.claim(path), _claim_as_another_process(path)
    first.write(1)
    with pytest.raises(ConflictError):
        second.write(2)
    second.remove()
    assert path.read_text() == "1\n"
    first.remove()


def _claim_as_another_process(path: Path) -> Pidfile:
    # Names carry the pid; the lock belongs to the open file and so differs even within one process.
    pid = os.getpid()
    moved = path.with_name(f".{path.name}.{pid}")
    aside = path.with_name("aside")
    moved.rename(aside)
    second = Pidfile.claim(path)
    moved.rename(path.with_name("second"))
    aside.rename(moved)
    second._waiting = path.with_name("second")
    return second


def test_a_stale_one_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    path.write_text("99999\n")
    pidfile = Pidfile.claim(path)
    pidfile.write(4711)
    assert path.read_text() == "4711\n"
    pidfile.remove()


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="is not a directory"):
        Pidfile.claim(tmp_path / "no" / "pid")
