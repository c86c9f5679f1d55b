"""What killed daemons left: records, sockets, pidfiles; and versions of what is beside us."""

from __future__ import annotations

import fcntl
import os
import subprocess
from pathlib import Path

from vde_vmnet import undo_files
from vde_vmnet.doctor import looking
from vde_vmnet.doctor.leftovers import Pid, Record, checks
from vde_vmnet.doctor.tools import number, qemu_check
from vde_vmnet.uplinks.check import Level

STATE = Path("/run/vde_vmnet")


def test_a_tidy_host() -> None:
    (found,) = checks([Record("aa", lives=True)], [], [Pid(Path("/run/vde.pid"), lives=True)], STATE)
    assert (found.level, found.said) == (Level.OK, "none")


def test_everything_at_once_is_a_finding_each() -> None:
    found = list(
        checks(
            [Record("aa", lives=False), Record("bb", lives=True), Record("cc", lives=False, here=False)],
            [Path("/run/vde.ctl/ctl")],
            [Pid(Path("/run/vde.pid"), lives=False), Pid(Path("/run/vde2.pid"), lives=None)],
            STATE,
        )
    )
    assert [one.level for one in found] == [Level.WARNING] * 3
    assert found[0].said == "1 killed network not tidied up: aa"
    assert "/run/vde.ctl/ctl" in found[1].said
    assert found[2].said.startswith("/run/vde.pid:")
    assert all(one.next_step and one.why for one in found)


def test_what_may_not_be_looked_at_is_said() -> None:
    (found,) = checks([Record("aa", lives=None)], [], [], STATE)
    assert found.level is Level.UNSEEN and "root's" in found.said


def test_records_are_told_apart_by_their_locks(tmp_path: Path) -> None:
    here = undo_files.namespace()
    for name in ("dead", "living"):
        (tmp_path / f"{name}.{here}.json").write_text("{}")
        (tmp_path / f"{name}.{here}.lock").touch()
    (tmp_path / "other.1.json").write_text("{}")
    with (tmp_path / f"living.{here}.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        before = sorted(path.name for path in tmp_path.iterdir())
        found = looking.records(tmp_path)
    assert found == [Record("dead", False), Record("living", True), Record("other", False, here=False)]
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != ".lock") == before
    assert looking.records(tmp_path / "none") == []


def test_pidfiles(tmp_path: Path) -> None:
    ended = subprocess.Popen(["/bin/true"])
    ended.wait()
    (tmp_path / "vde_vmnet.pid").write_text(f"{os.getpid()}\n")
    (tmp_path / "vde_vmnet.bridged.en0.pid").write_text(f"{ended.pid}\n")
    (tmp_path / "vde_strange.pid").write_text("x")
    (tmp_path / "sshd.pid").write_text("1")
    found = {one.path.name: one.lives for one in looking.pidfiles(tmp_path)}
    assert found == {"vde_vmnet.pid": True, "vde_vmnet.bridged.en0.pid": False, "vde_strange.pid": None}


def test_versions() -> None:
    assert number("nftables v1.0.6 (Lester Gooch #5)") == "1.0.6"
    assert number("ip utility, iproute2-6.1.0, libbpf 1.1.2") == "6.1.0"
    assert number("Dnsmasq version 2.90  Copyright") == "2.90"
    assert number("nothing") == ""
    old = qemu_check(("/usr/bin/qemu", "QEMU emulator version 5.2.0 (Debian)"))
    assert old.level is Level.NOTE and "7.2" in old.why
    assert qemu_check(("/usr/bin/qemu", "QEMU emulator version 10.0.2")).level is Level.OK
    assert qemu_check(("/usr/bin/qemu", "")).said == "/usr/bin/qemu"
    assert qemu_check(None).level is Level.NOTE
