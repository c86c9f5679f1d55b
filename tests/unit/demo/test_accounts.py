"""As whom a guest runs."""

import os

import pytest

from vde_vmnet.demo.accounts import Credentials, credentials_of, unprivileged_account
from vde_vmnet.errors import UnavailableError


def test_nobody_without_sudo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SUDO_UID", raising=False)
    assert unprivileged_account().name == "nobody"


def test_who_called_sudo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUDO_UID", "1")
    account = unprivileged_account()
    assert (account.name, account.uid) == ("daemon", 1)


def test_root_that_called_sudo_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUDO_UID", "0")
    assert unprivileged_account().uid != 0


@pytest.mark.parametrize("value", ["4294967290", "me"])
def test_a_user_that_is_none(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("SUDO_UID", value)
    with pytest.raises(UnavailableError, match="no unprivileged user"):
        unprivileged_account()


def test_our_own_credentials() -> None:
    ours = credentials_of(os.getpid())
    assert os.getuid() in ours.uids
    assert ours.rootless == (os.getuid() != 0 and ours.capabilities == 0)


@pytest.mark.parametrize(
    ("uids", "capabilities", "rootless"),
    [({1000}, 0, True), ({1000, 0}, 0, False), ({1000}, 1 << 12, False), ({0}, 0, False)],
)
def test_what_counts_as_rootless(uids: set[int], capabilities: int, rootless: bool) -> None:
    credentials = Credentials(frozenset(uids), capabilities, bounding=0, groups=frozenset())
    assert credentials.rootless is rootless
