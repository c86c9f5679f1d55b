"""Edits of /etc/bootptab: in one step, with owner and mode kept, and undone by their record."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from vde_vmnet.addresses import Reservation
from vde_vmnet.bootptab_file import edit, restart
from vde_vmnet.errors import ConflictError, PrivilegeError
from vde_vmnet.recovery import RestoreBootptab, StepError, UndoRecord
from vde_vmnet.uplinks.vmnet import paths, reservations

RESERVED = (Reservation.parse("52:54:00:00:00:01=192.168.105.21,web"),)


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "bootptab"
    told = ("/bin/sh", "-c", f"echo told >> {tmp_path}/told")
    monkeypatch.setattr(paths, "MACOS", paths.MacOsPaths(bootptab=file, restart_bootpd=told))
    return file


def test_owner_and_mode_stay_and_no_byte_is_lost(table: Path) -> None:
    table.write_bytes(b"# caf\xe9\n")
    table.chmod(0o600)
    assert edit(table, lambda text: text + "more\n")
    assert table.read_bytes() == b"# caf\xe9\nmore\n"
    assert stat.S_IMODE(table.stat().st_mode) == 0o600
    assert not edit(table, lambda text: text)
    assert [path.name for path in table.parent.iterdir()] == ["bootptab"]


def test_a_link_is_followed(table: Path, tmp_path: Path) -> None:
    (tmp_path / "real").write_text("%%\n")
    table.symlink_to(tmp_path / "real")
    edit(table, lambda text: f"{text}x\n")
    assert table.is_symlink() and (tmp_path / "real").read_text() == "%%\nx\n"


def test_written_for_a_network_and_undone_by_its_record(table: Path, tmp_path: Path) -> None:
    undo = UndoRecord.create("1a2b3c4d", tmp_path / "state")
    reservations.write("1a2b3c4d", RESERVED, undo)
    assert "192.168.105.21" in table.read_text()
    assert stat.S_IMODE(table.stat().st_mode) == 0o644
    assert undo.run()
    assert not table.exists()
    assert (tmp_path / "told").read_text() == "told\ntold\n"


def test_undone_twice_tells_once(table: Path, tmp_path: Path) -> None:
    step = RestoreBootptab(str(table), "1a2b3c4d", paths.MACOS.restart_bootpd)
    step.undo()
    assert not (tmp_path / "told").exists()


def test_a_contradiction_is_refused_and_nothing_is_changed(table: Path) -> None:
    table.write_text("%%\nnas 1 0:1:2:3:4:5 192.168.105.21\n")
    before = table.read_text()
    with pytest.raises(ConflictError, match=r"--reserve disagrees with .*: nas 1"):
        reservations.write("1a2b3c4d", RESERVED, UndoRecord.in_memory("1a2b3c4d"))
    assert table.read_text() == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_without_the_right_to_write_it(table: Path) -> None:
    table.parent.chmod(0o500)
    with pytest.raises(PrivilegeError, match="Run with sudo"):
        reservations.write("1a2b3c4d", RESERVED, UndoRecord.in_memory("1a2b3c4d"))


def test_a_server_that_cannot_be_told_is_a_warning(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refusing = ("/bin/sh", "-c", "echo not today >&2; exit 3")
    monkeypatch.setattr(paths, "MACOS", paths.MacOsPaths(bootptab=table, restart_bootpd=refusing))
    assert restart(refusing) == "not today"
    assert restart(("/nonexistent",)) is not None
    reservations.write("1a2b3c4d", RESERVED, UndoRecord.in_memory("1a2b3c4d"))
    assert "192.168.105.21" in table.read_text()
    with pytest.raises(StepError, match="not today"):
        RestoreBootptab(str(table), "1a2b3c4d", refusing).undo()
