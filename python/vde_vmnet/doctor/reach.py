"""Whether a user can plug in, and why not: from what the path's every part is like. Pure."""

from __future__ import annotations

import enum
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vde_vmnet.errors import ConflictError, PrivilegeError, UnavailableError
from vde_vmnet.uplinks.check import Check, Level

__all__ = ["Person", "Place", "Serving", "judge"]


class Serving(enum.Enum):
    """Whether somebody listens on a socket."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Person:
    """Who wants to plug in."""

    name: str
    uid: int
    #: The groups that count: of the session for ourselves, of the account for another user.
    groups: frozenset[int]
    #: Groups of the account that the session does not have: it began before they were given.
    later: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Place:
    """A directory on the way, or the socket at its end."""

    path: Path
    #: st_mode; None where there is nothing.
    mode: int | None
    uid: int = 0
    gid: int = 0
    serving: Serving = Serving.UNKNOWN
    #: What the system itself says, which knows access control lists; None where it was not asked.
    granted: bool | None = None
    #: It could not be looked at: a directory before it is closed to us.
    hidden: bool = False

    @property
    def needed(self) -> int:
        """x to pass a directory, w to speak with a socket."""
        return stat.S_IXOTH if self.mode is not None and stat.S_ISDIR(self.mode) else stat.S_IWOTH


def judge(person: Person, places: Sequence[Place], group_names: Mapping[int, str]) -> Check:
    """``places``: the directories from the root on, then the socket. The first that refuses is the finding."""
    socket = places[-1]
    what = f"access to {socket.path}"
    for place in places:
        if place.hidden:
            return Check(
                what, f"{place.path} cannot be looked at", level=Level.UNSEEN, next_step="Run with sudo"
            )
        if place.mode is None:
            return Check(
                what,
                f"{place.path} does not exist",
                UnavailableError,
                "Start a network there, or name the VDESWITCH of one that runs",
                "there is nothing to plug into",
            )
        if not _may(person, place):
            return _refused(what, person, place, group_names)
    if not stat.S_ISSOCK(socket.mode or 0):
        return Check(what, "it is not a socket", ConflictError, "Name the directory that holds a switch's ctl")
    if socket.serving is Serving.NO:
        return Check(
            what,
            "nobody listens: its switch was killed",
            ConflictError,
            "Start it again; that replaces the socket",
            "guests are refused",
        )
    seen = "" if socket.serving is Serving.YES else ", as far as its modes tell"
    return Check(what, f'"{person.name}" can plug in{seen}')


def _may(person: Person, place: Place) -> bool:
    return place.granted if place.granted is not None else _allows(person, place, person.groups)


def _allows(person: Person, place: Place, groups: frozenset[int]) -> bool:
    """As the kernel decides without access control lists: the first class that fits counts alone."""
    mode = place.mode or 0
    if person.uid == 0:
        return True
    if person.uid == place.uid:
        return bool(mode & place.needed << 6)
    if place.gid in groups:
        return bool(mode & place.needed << 3)
    return bool(mode & place.needed)


def _refused(what: str, person: Person, place: Place, group_names: Mapping[int, str]) -> Check:
    group = group_names.get(place.gid, str(place.gid))
    mode = stat.filemode(place.mode or 0)
    verb = "enter" if place.needed == stat.S_IXOTH else "write to"
    said = f'"{person.name}" may not {verb} {place.path} ({mode}, group {group})'
    why = "QEMU says Permission denied"
    if place.gid in person.later and _allows(person, place, person.later):
        return Check(
            what,
            f"{said}: the user is in that group, but this session is older than that",
            PrivilegeError,
            f"Log out and in again, or: newgrp {group}",
            why,
        )
    if place.gid in person.groups or not (place.mode or 0) & place.needed << 3:
        step = f"Let others {verb} it (chmod), or choose a path whose every part they may enter"
    else:
        step = (
            f"sudo usermod -aG {group} {person.name}, then log in again; or start the daemon with --vde-group"
        )
    return Check(what, said, PrivilegeError, step, why)
