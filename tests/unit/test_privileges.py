"""Who the daemon serves as; what is dropped is checked on a running one in tests/system."""

import grp
import os
import pwd

import pytest

from vde_vmnet import privileges
from vde_vmnet.errors import ConfigurationError, PrivilegeError

NOBODY = pwd.getpwnam("nobody")


@pytest.fixture
def as_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)


@pytest.fixture
def as_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: NOBODY.pw_uid)
    monkeypatch.setattr(os, "getegid", lambda: NOBODY.pw_gid)
    monkeypatch.setattr(os, "getgroups", lambda: [NOBODY.pw_gid])


@pytest.mark.usefixtures("as_root")
@pytest.mark.parametrize(
    ("user", "environment", "uid"),
    [
        (None, {}, NOBODY.pw_uid),
        (None, {"SUDO_UID": "1"}, 1),
        (None, {"SUDO_UID": "0"}, NOBODY.pw_uid),
        (None, {"SUDO_UID": "4294967294000"}, NOBODY.pw_uid),
        (None, {"SUDO_UID": "bogus"}, NOBODY.pw_uid),
        ("daemon", {"SUDO_UID": "65534"}, pwd.getpwnam("daemon").pw_uid),
        (str(NOBODY.pw_uid), {}, NOBODY.pw_uid),
    ],
)
def test_root_serves_as(user: str | None, environment: dict[str, str], uid: int) -> None:
    assert privileges.service_identity(user, environment).uid == uid


@pytest.mark.usefixtures("as_root")
@pytest.mark.parametrize(("user", "message"), [("root", "full privilege"), ("no-such-user", "does not exist")])
def test_root_refuses_a_user(user: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=f'--user "{user}".*{message}'):
        privileges.service_identity(user, {})


@pytest.mark.usefixtures("as_nobody")
def test_an_ordinary_user_stays_who_they_are() -> None:
    assert privileges.service_identity(None, {"SUDO_UID": "0"}).uid == NOBODY.pw_uid
    assert privileges.service_identity("nobody", {}).uid == NOBODY.pw_uid
    with pytest.raises(PrivilegeError, match="needs root"):
        privileges.service_identity("daemon", {})


def test_socket_group() -> None:
    identity = privileges.Identity("nobody", NOBODY.pw_uid, NOBODY.pw_gid)
    some = grp.getgrall()[-1]
    with pytest.raises(ConfigurationError, match='--vde-group "no-such-group" does not exist'):
        privileges.socket_group("no-such-group", identity)
    if os.geteuid() == 0:
        assert privileges.socket_group(some.gr_name, identity) == some.gr_gid
        assert privileges.socket_group(str(some.gr_gid), identity) == some.gr_gid


@pytest.mark.usefixtures("as_nobody")
def test_socket_group_of_an_ordinary_user() -> None:
    identity = privileges.Identity("nobody", NOBODY.pw_uid, NOBODY.pw_gid)
    assert privileges.socket_group(None, identity) == NOBODY.pw_gid  # not in "staff": their own group
    assert privileges.socket_group(str(NOBODY.pw_gid), identity) == NOBODY.pw_gid
    with pytest.raises(PrivilegeError, match='--vde-group "root": user "nobody" is not a member'):
        privileges.socket_group("root", identity)
