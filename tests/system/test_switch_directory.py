"""The switch directory: who may have it, what is left of the dead, what is nobody's business."""

import os
import socket
from pathlib import Path

import pytest

from vde_vmnet.config.model import SwitchConfig
from vde_vmnet.errors import ConfigurationError, ConflictError, PrivilegeError, VdeVmnetError
from vde_vmnet.sockets import MAX_DIRECTORY_LENGTH, SwitchDirectory, is_stale


def claim(path: Path, mode: int = 0o770) -> SwitchDirectory:
    return SwitchDirectory.claim(SwitchConfig(path, mode=mode), uid=os.getuid(), gid=os.getgid())


def dead_socket(path: Path, kind: socket.SocketKind = socket.SOCK_STREAM) -> None:
    with socket.socket(socket.AF_UNIX, kind) as made:
        made.bind(os.fspath(path))


def test_made_used_removed(tmp_path: Path) -> None:
    directory = claim(tmp_path / "sw", 0o750)
    assert directory.path.stat().st_mode & 0o7777 == 0o2750
    directory.listen()
    assert (directory.path / "ctl").stat().st_mode & 0o777 == 0o640
    directory.close()
    directory.remove()
    assert list(tmp_path.iterdir()) == []


def test_an_existing_directory_stays(tmp_path: Path) -> None:
    (tmp_path / "sw").mkdir()
    (tmp_path / "sw" / "note.txt").write_text("mine")
    directory = claim(tmp_path / "sw")
    directory.remove()
    assert (tmp_path / "sw" / "note.txt").read_text() == "mine"


def test_leftovers_of_a_killed_switch_go_and_so_does_its_directory(tmp_path: Path) -> None:
    path = tmp_path / "sw"
    path.mkdir()
    dead_socket(path / "ctl")
    dead_socket(path / "001.7", socket.SOCK_DGRAM)
    dead_socket(path / ".04711-00000", socket.SOCK_DGRAM)
    dead_socket(path / "other.sock")
    directory = claim(path)
    assert [entry.name for entry in path.iterdir()] == ["other.sock"]
    (path / "other.sock").unlink()
    directory.remove()
    assert not path.exists()


def test_sockets_of_the_living_stay(tmp_path: Path) -> None:
    path = tmp_path / "sw"
    path.mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as alive:
        alive.bind(os.fspath(path / ".04711-00000"))
        assert not is_stale(path / ".04711-00000")
        claim(path).remove()
        assert (path / ".04711-00000").exists()


def test_a_second_daemon_is_refused(tmp_path: Path) -> None:
    directory = claim(tmp_path / "sw")
    with pytest.raises(ConflictError, match="in use by a running switch"):
        claim(tmp_path / "sw")
    directory.remove()


def test_another_switch_that_listens_there_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "sw"
    path.mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
        other.bind(os.fspath(path / "ctl"))
        other.listen()
        with pytest.raises(ConflictError, match="in use by a running switch"):
            claim(path)
        assert (path / "ctl").exists()


def long_path(tmp_path: Path) -> Path:
    return Path("/tmp") / ("x" * (MAX_DIRECTORY_LENGTH - 4))


def a_file(tmp_path: Path) -> Path:
    (tmp_path / "file").write_text("")
    return tmp_path / "file"


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (long_path, ConfigurationError, "93 bytes; at most 92"),
        (a_file, ConfigurationError, "is not a directory"),
        (lambda tmp: a_file(tmp) / "sw", ConfigurationError, "is not a directory"),
        (lambda tmp: tmp / "no" / "sw", ConfigurationError, "does not exist"),
        (lambda tmp: Path("/proc/sw"), VdeVmnetError, "/proc"),
    ],
    ids=["too-long", "a-file", "below-a-file", "no-parent", "not-writable"],
)
def test_refused(tmp_path: Path, make, error: type[VdeVmnetError], message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(error, match=message):
        claim(make(tmp_path))


@pytest.mark.root
def test_somebody_else_s_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "sw").mkdir()
    os.chown(tmp_path / "sw", 12345, 12345)
    with pytest.raises(PrivilegeError, match="belongs to user id 12345"):
        claim(tmp_path / "sw")
    assert (tmp_path / "sw").stat().st_mode & 0o777 == 0o755
