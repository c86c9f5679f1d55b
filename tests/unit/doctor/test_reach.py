"""Whether a user can plug in, from what the path is like; and that looking sees it so."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from vde_vmnet.doctor import looking
from vde_vmnet.doctor.reach import Person, Place, Serving, judge
from vde_vmnet.errors import ConflictError, PrivilegeError, UnavailableError
from vde_vmnet.uplinks.check import Level

STAFF = 50
ANNE = Person("anne", 1000, frozenset({1000, STAFF}))
BOB = Person("bob", 1001, frozenset({1001}))
NAMES = {0: "root", STAFF: "staff"}


def path(
    *, directory: int = 0o2770, control: int = 0o660, serving: Serving = Serving.YES, top: int = 0o755
) -> list[Place]:
    return [
        Place(Path("/run"), stat.S_IFDIR | top),
        Place(Path("/run/vde.ctl"), stat.S_IFDIR | directory, 65534, STAFF),
        Place(Path("/run/vde.ctl/ctl"), stat.S_IFSOCK | control, 65534, STAFF, serving),
    ]


def test_who_is_in_the_group_can() -> None:
    assert judge(ANNE, path(), NAMES).said == '"anne" can plug in'
    assert "as far as its modes tell" in judge(ANNE, path(serving=Serving.UNKNOWN), NAMES).said
    assert judge(Person("root", 0, frozenset({0})), path(), NAMES).level is Level.OK


def test_who_is_not_is_told_which_group_and_how() -> None:
    found = judge(BOB, path(), NAMES)
    assert found.blame is PrivilegeError
    assert found.said == '"bob" may not enter /run/vde.ctl (drwxrws---, group staff)'
    assert "sudo usermod -aG staff bob" in found.next_step


def test_who_has_been_added_since_the_session_began() -> None:
    found = judge(Person("bob", 1001, frozenset({1001}), frozenset({STAFF})), path(), NAMES)
    assert "this session is older" in found.said
    assert found.next_step == "Log out and in again, or: newgrp staff"


@pytest.mark.parametrize(
    ("places", "said"),
    [
        (path(top=0o700), "may not enter /run (drwx------, group root)"),
        (path(control=0o600), "may not write to /run/vde.ctl/ctl (srw-------, group staff)"),
        (path(directory=0o2707), "may not enter /run/vde.ctl (drwx--Srwx, group staff)"),
    ],
)
def test_the_first_that_refuses_is_named(places: list[Place], said: str) -> None:
    found = judge(ANNE, places, NAMES)
    assert said in found.said
    assert found.next_step.startswith("Let others ")


def test_the_system_s_own_word_counts_more_than_modes() -> None:
    granted = [Place(one.path, one.mode, one.uid, one.gid, one.serving, True) for one in path(control=0o600)]
    assert judge(BOB, granted, NAMES).level is Level.OK


def test_what_is_not_there_or_not_a_switch() -> None:
    missing = judge(ANNE, [*path()[:1], Place(Path("/run/vde.ctl"), None)], NAMES)
    assert missing.blame is UnavailableError and "/run/vde.ctl does not exist" in missing.said
    hidden = judge(ANNE, [*path()[:1], Place(Path("/run/vde.ctl"), None, hidden=True)], NAMES)
    assert hidden.level is Level.UNSEEN
    dead = judge(ANNE, path(serving=Serving.NO), NAMES)
    assert dead.blame is ConflictError and "nobody listens" in dead.said
    file = [*path()[:2], Place(Path("/run/vde.ctl/ctl"), stat.S_IFREG | 0o666)]
    assert judge(ANNE, file, NAMES).said == "it is not a socket"


def test_looking_at_a_living_a_dead_and_no_switch(tmp_path: Path) -> None:
    me = looking.person({})
    assert me.uid == os.geteuid()
    control = tmp_path / "sw" / "ctl"
    control.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(control))
        listening.listen()
        found = looking.places(looking.socket_of(control.parent), me)
        assert [one.path for one in found][-2:] == [control.parent, control]
        assert found[-1].serving is Serving.YES
        assert judge(me, found, looking.group_names(found)).level is Level.OK
        assert looking.places(looking.socket_of(control), me)[-1].path == control, (
            "a socket's own path is taken too"
        )
    assert looking.places(looking.socket_of(control.parent), me)[-1].serving is Serving.NO
    assert looking.stale_sockets(control.parent) == [control]
    missing = looking.places(looking.socket_of(tmp_path / "none"), me)
    assert judge(me, missing, {}).blame is UnavailableError
    assert looking.stale_sockets(tmp_path / "none") == []


def test_under_sudo_it_is_about_who_called_it() -> None:
    if os.geteuid() == 0:
        assert looking.person({"SUDO_UID": "65534"}).name == "nobody"
        assert looking.person({"SUDO_UID": "x"}).uid == 0
    else:
        assert looking.person({"SUDO_UID": "0"}).uid == os.geteuid()


def test_groups_given_after_the_session_began(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getgrouplist", lambda *_: [os.getegid(), *os.getgroups(), 4711])
    assert looking.person({}).later == {4711}
