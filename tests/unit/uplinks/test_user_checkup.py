"""What ``doctor`` says of the user-mode uplink, from kernel settings that a folder holds."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from vde_vmnet.uplinks.check import Level
from vde_vmnet.uplinks.linux import link, programs
from vde_vmnet.uplinks.user import checkup, library

LOADED = library.Library("4.7.0", {})  # type: ignore[typeddict-item]


@pytest.fixture
def usual(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An ordinary user on a machine that has everything; gives the folder of settings."""
    monkeypatch.setattr(library, "find", lambda: LOADED)
    monkeypatch.setattr(programs, "find", lambda name: f"/usr/sbin/{name}")
    monkeypatch.setattr(link, "TUN_DEVICE", Path(os.devnull))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    setting(tmp_path, "net.ipv4.ping_group_range", "0\t2147483647\n")
    setting(tmp_path, "user.max_user_namespaces", "15000\n")
    return tmp_path


def setting(sysctls: Path, name: str, value: str) -> None:
    path = sysctls / name.replace(".", "/")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value)


def test_nothing_is_in_the_way(usual: Path) -> None:
    found = {one.what: one for one in checkup.checks(usual)}
    assert found["user uplink"].said == "libslirp 4.7.0"
    assert {found[f"user uplink, {what}"].level for what in ("names", "ping")} == {Level.OK}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("user.max_user_namespaces", "0\n"),
        ("kernel.unprivileged_userns_clone", "0\n"),
        ("kernel.apparmor_restrict_unprivileged_userns", "1\n"),
    ],
)
def test_no_namespaces_for_ordinary_users(
    usual: Path, name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting(usual, name, value)
    (found,) = (one for one in checkup.checks(usual) if one.what == "user uplink, names")
    assert found.level is Level.WARNING and name in found.said
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    (found,) = (one for one in checkup.checks(usual) if one.what == "user uplink, names")
    assert found.level is Level.OK


@pytest.mark.parametrize("allowed", ["1\t0\n", ""])
def test_no_ping(usual: Path, allowed: str) -> None:
    setting(usual, "net.ipv4.ping_group_range", allowed)
    (found,) = (one for one in checkup.checks(usual) if one.what == "user uplink, ping")
    assert found.level is Level.NOTE and "sysctl" in found.next_step


def test_what_is_missing(usual: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "find", lambda name: None)
    (found,) = (one for one in checkup.checks(usual) if one.what == "user uplink, names")
    assert found.level is Level.WARNING and "dnsmasq" in found.said
    monkeypatch.setattr(library, "find", lambda: "libslirp is not installed")
    (found,) = checkup.checks(usual)
    assert found.level is Level.NOTE and "libslirp0" in found.next_step
