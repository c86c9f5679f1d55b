"""Addresses that stay, and the environment of another user."""

import os
from pathlib import Path

import pytest

from vde_vmnet.addresses import MacAddress
from vde_vmnet.errors import ConfigurationError, PrivilegeError
from vde_vmnet.launch.identity import (
    Account,
    command_account,
    environment_of,
    machine_id,
    may_write,
    stable_mac,
)

ALICE = Account("alice", 1000, 1000, "/home/alice", "/bin/zsh")


def test_an_address_is_stable_and_locally_administered() -> None:
    addresses = {stable_mac(f"vm{number}", uid=1000, machine="m") for number in range(2000)}
    assert len(addresses) == 2000
    for text in addresses:
        assert str(MacAddress.parse(text)) == text
        assert int(text[:2], 16) & 3 == 2
    # Must never change: guests' leases and udev rules hang on it.
    assert stable_mac("debian", uid=1000, machine="m") == "06:ea:53:f8:90:81"


def test_user_and_machine_count() -> None:
    one = stable_mac("debian", uid=1000, machine="m")
    assert (
        len({one, stable_mac("debian", uid=1001, machine="m"), stable_mac("debian", uid=1000, machine="n")})
        == 3
    )
    assert stable_mac(os.fsdecode(b"\xff"), uid=0, machine="m")


def test_this_machine_has_a_name() -> None:
    assert machine_id() == machine_id() != ""


def test_the_environment_is_that_user_s() -> None:
    given = {"HOME": "/root", "USER": "root", "LOGNAME": "root", "SUDO_UID": "1000", "PATH": "/bin", "X": "y"}
    assert environment_of(None, given) == given
    assert environment_of(ALICE, given) == {
        "HOME": "/home/alice",
        "USER": "alice",
        "LOGNAME": "alice",
        "SHELL": "/bin/zsh",
        "PATH": "/bin",
        "X": "y",
    }


@pytest.fixture
def root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)


@pytest.mark.usefixtures("root")
def test_root_runs_commands_as_who_called_sudo() -> None:
    found = command_account(None, {"SUDO_UID": "65534"})
    assert found is not None and found.name == "nobody"
    assert command_account(None, {}) is None
    assert command_account(None, {"SUDO_UID": "0"}) is None
    assert command_account("root", {"SUDO_UID": "65534"}) is None
    named = command_account("nobody", {})
    assert named is not None and named.uid == 65534
    for user, environment in (("no-such-user", {}), (None, {"SUDO_UID": "4294967000"})):
        with pytest.raises(ConfigurationError, match="does not exist"):
            command_account(user, environment)


def test_others_run_them_as_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 65534)
    assert command_account(None, {"SUDO_UID": "1"}) is None
    assert command_account("nobody", {}) is None
    with pytest.raises(PrivilegeError, match="needs root"):
        command_account("root", {})


@pytest.mark.root
def test_whether_another_user_may_write(tmp_path: Path) -> None:
    daemon = command_account("daemon", {})
    assert daemon is not None
    file = Path("/dev/shm") / f"vdet-{os.getpid()}"
    file.touch()
    try:
        for mode, expected in ((0o600, False), (0o666, True)):
            file.chmod(mode)
            assert may_write(daemon, file) is expected and may_write(None, file)
        assert os.geteuid() == 0 and os.getegid() == 0
    finally:
        file.unlink()
