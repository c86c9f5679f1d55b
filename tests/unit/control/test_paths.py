"""The registry by which commands find networks: who may write it, and what dead ones leave in it."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from vde_vmnet.control import paths


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "networks"
    monkeypatch.setattr(paths, "registry_for", lambda uid: folder if uid == os.geteuid() else tmp_path / "no")
    return folder


@pytest.fixture
def living(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "net.control"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        yield path


def test_the_socket_is_beside_the_switch_directory() -> None:
    assert paths.beside(Path("/run/vde.ctl")) == Path("/run/vde.ctl.control")
    assert paths.beside(Path("/run/vde.ctl"), 7) == Path("/run/vde.ctl.7.control")


def test_living_networks_are_found_and_dead_ones_swept(registry: Path, living: Path, tmp_path: Path) -> None:
    assert list(paths.find()) == []
    entry = paths.enter(living, os.geteuid())
    dead = paths.enter(tmp_path / "dead.control", os.geteuid())
    assert list(paths.find()) == [living]
    assert entry.is_symlink() and not dead.is_symlink()
    paths.enter(living, os.geteuid())  # a second time is no trouble
    assert list(paths.find()) == [living]


def test_a_folder_that_others_can_write_is_not_believed(registry: Path, living: Path) -> None:
    paths.enter(living, os.geteuid())
    registry.chmod(0o777)
    assert list(paths.find()) == []
    with pytest.raises(PermissionError, match="not ours alone"):
        paths.enter(living, os.geteuid())


def test_a_user_s_registry_is_the_one_that_the_system_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    tmp_path.chmod(0o700)
    mine = os.geteuid()
    if mine != 0:
        assert paths.registry_for(mine) == tmp_path / "vde_vmnet"
    assert paths.registry_for(0) == Path("/run/vde_vmnet/networks")
    assert paths.registry_for(mine + 12345).name == f"vde_vmnet-{mine + 12345}"
