"""Who we are, what we still need, and when it is given up: every stage of the daemon's privilege in one file.

1. parse and validate, as the caller: no privilege is used (``cli``, ``config``);
2. open what needs privilege: the uplink and the switch directory (``daemon.open_network``);
3. ``drop``: from here on the process is the service user, has no capability, no supplementary group but the
   socket group, and ``no_new_privs``;
4. serve. Nothing that a guest or client can write is read before stage 3.

Undoing needs privilege again, so stages 3 and 4 happen in a forked worker, and the process that was started
stays behind as the keeper (``keeper.py``).
"""

from __future__ import annotations

import ctypes
import grp
import os
import pwd
import stat
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from vde_vmnet.errors import ConfigurationError, InternalError, PrivilegeError

__all__ = [
    "DEFAULT_SOCKET_GROUP",
    "Identity",
    "drop",
    "invoking_identity",
    "service_identity",
    "socket_group",
    "with_least_privilege",
]

_Result = TypeVar("_Result")

#: The original's default. Exists on macOS and Debian; elsewhere the service user's own group is used.
DEFAULT_SOCKET_GROUP = "staff"

# <linux/prctl.h>
_PR_SET_PDEATHSIG = 1
_PR_GET_PDEATHSIG = 2
_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4
# <linux/capability.h>
_LINUX_CAPABILITY_VERSION_3 = 0x20080522


@dataclass(frozen=True)
class Identity:
    """A user to be."""

    name: str
    uid: int
    gid: int


def invoking_identity() -> Identity:
    """The user this process runs as now; works for a uid without an account too."""
    uid = os.geteuid()
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        return Identity(str(uid), uid, os.getegid())
    return Identity(entry.pw_name, uid, os.getegid())


def service_identity(user: str | None, environment: Mapping[str, str]) -> Identity:
    """The user to serve as: ``--user``, else who called sudo, else ``nobody``; unprivileged callers stay.

    ``environment`` is ``os.environ``; only ``SUDO_UID`` is read, and only as root.
    Raises ConfigurationError (no such user, or root itself), PrivilegeError (``--user`` without root).
    """
    me = invoking_identity()
    if me.uid != 0:
        if user is not None and _user(user).uid != me.uid:
            raise PrivilegeError(
                f'--user "{user}" needs root, and this is user "{me.name}"',
                next_step="Run the daemon with sudo, or leave --user out",
            )
        return me
    if user is not None:
        chosen = _user(user)
        if chosen.uid == 0:
            raise ConfigurationError(
                f'--user "{user}" is root, which would serve guests with full privilege',
                next_step="Name an ordinary user, or leave --user out to serve as the invoking user or nobody",
            )
        return chosen
    sudo_uid = environment.get("SUDO_UID", "")
    if sudo_uid.isdecimal() and int(sudo_uid) != 0:
        try:
            entry = pwd.getpwuid(int(sudo_uid))
        except KeyError:
            return _user("nobody")
        return Identity(entry.pw_name, entry.pw_uid, entry.pw_gid)
    return _user("nobody")


def _user(name: str) -> Identity:
    try:
        entry = pwd.getpwuid(int(name)) if name.isdecimal() else pwd.getpwnam(name)
    except KeyError:
        raise ConfigurationError(
            f'--user "{name}" does not exist on this machine', next_step="See `getent passwd` for those that do"
        ) from None
    return Identity(entry.pw_name, entry.pw_uid, entry.pw_gid)


def socket_group(group: str | None, identity: Identity, *, option: str = "--vde-group") -> int:
    """The numeric group that may plug in.

    ``option`` is where it was named. Raises ConfigurationError for an unknown one, PrivilegeError for one that
    the caller is not in.
    """
    name = group if group is not None else DEFAULT_SOCKET_GROUP
    try:
        gid = int(name) if name.isdecimal() else grp.getgrnam(name).gr_gid
    except KeyError:
        if group is None:
            return identity.gid
        raise ConfigurationError(
            f'{option} "{group}" does not exist on this machine',
            next_step="See `getent group` for those that do",
        ) from None
    if os.geteuid() == 0 or gid == identity.gid or gid in os.getgroups():
        return gid
    if group is None:
        return identity.gid
    raise PrivilegeError(
        f'{option} "{group}": user "{identity.name}" is not a member and so cannot give it access',
        next_step="Choose one of your own groups (see `id`), or run the daemon with sudo",
    )


def with_least_privilege(
    identity: Identity, gid: int, directory: Path, action: Callable[[], _Result]
) -> _Result:
    """Do ``action``, which works on paths in ``directory``, as the service user; as root only where it is safe.

    Where others may write, they could put a link in the way of what root does there by path. So root does it
    itself only when the service user is refused and nobody but root can change the directory or a parent.
    Raises what ``action`` raises, in particular PermissionError.
    """
    if os.geteuid() != 0:
        return action()
    try:
        with _acting_as(identity, gid):
            return action()
    except PermissionError:
        if not _only_root_changes(directory):
            raise
    return action()


@contextmanager
def _acting_as(identity: Identity, gid: int) -> Iterator[None]:
    """Root only: the effective ids and groups that the worker will have, for the time of a block."""
    groups, egid = os.getgroups(), os.getegid()
    with _signal_of_parent_s_death_kept():
        os.setgroups(_groups(identity, gid))
        os.setegid(identity.gid)
        os.seteuid(identity.uid)
        try:
            yield
        finally:
            os.seteuid(0)
            os.setegid(egid)
            os.setgroups(groups)


@contextmanager
def _signal_of_parent_s_death_kept() -> Iterator[None]:
    """Linux forgets at every change of ids that whoever started us wants us to end with them."""
    if sys.platform != "linux":
        yield
        return
    libc = ctypes.CDLL(None)
    number = ctypes.c_int(0)
    libc.prctl(_PR_GET_PDEATHSIG, ctypes.byref(number), 0, 0, 0)
    parent = os.getppid()
    try:
        yield
    finally:
        if number.value:
            libc.prctl(_PR_SET_PDEATHSIG, number.value, 0, 0, 0)
            if os.getppid() != parent:  # it ended meanwhile
                os.kill(os.getpid(), number.value)


if sys.platform == "darwin":

    def _groups(identity: Identity, gid: int) -> list[int]:
        """For setgroups(2). The first is the effective group here, which setgid(2) would replace."""
        return [identity.gid, gid]

else:

    def _groups(identity: Identity, gid: int) -> list[int]:  # noqa: ARG001 - as its other form
        """For setgroups(2)."""
        return [gid]


def _only_root_changes(directory: Path) -> bool:
    for place in (directory, *directory.parents):
        status = place.stat()
        # The group root (wheel on macOS) is those who may become root anyway; Lima makes its directory so.
        group = 0 if status.st_gid == 0 else stat.S_IWGRP
        shared = status.st_mode & (group | stat.S_IWOTH)
        # In a sticky parent (/tmp) what is root's stays where it is; in the directory itself others may add.
        if status.st_uid != 0 or (shared and (place == directory or not status.st_mode & stat.S_ISVTX)):
            return False
    return True


def drop(identity: Identity, socket_gid: int) -> None:
    """Become ``identity`` for good. Raises InternalError when anything of the old privilege is left."""
    if os.geteuid() == 0:
        if sys.platform == "linux":
            _empty_bounding_set()
        os.setgroups(_groups(identity, socket_gid))
        # As root these set the real, effective and saved ids alike.
        os.setgid(identity.gid)
        os.setuid(identity.uid)
    if sys.platform == "linux":
        _drop_linux()
    if os.geteuid() == 0 or os.getuid() == 0:
        raise InternalError("Privileges were not dropped: the process still runs as root")


def _empty_bounding_set() -> None:
    """Root only: not even a program with file capabilities could give one back."""
    libc = ctypes.CDLL(None)
    capability = 0
    while libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0) == 0:
        capability += 1  # ends with EINVAL behind the last one this kernel knows


def _drop_linux() -> None:
    """No capability (a non-root caller may have held some), and none to be gained by running a program."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    header = (ctypes.c_uint32 * 2)(_LINUX_CAPABILITY_VERSION_3, 0)
    nothing = (ctypes.c_uint32 * 6)()
    libc.capset(header, nothing)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise InternalError(f"no_new_privs was refused: {os.strerror(ctypes.get_errno())}")
    status = dict(
        line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":\t" in line
    )
    held = {key: status[key] for key in ("CapInh", "CapPrm", "CapEff", "CapAmb") if int(status[key], 16)}
    if held or status["NoNewPrivs"] != "1":
        raise InternalError(f"Privileges were not dropped: {held}, NoNewPrivs {status['NoNewPrivs']}")
