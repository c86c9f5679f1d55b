"""Who the command is: its VM's stable MAC address, and the user it runs as."""

from __future__ import annotations

import hashlib
import os
import pwd
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vde_vmnet.errors import ConfigurationError, PrivilegeError

__all__ = ["Account", "become", "command_account", "environment_of", "machine_id", "may_write", "stable_mac"]

#: systemd's and D-Bus' names for the same thing.
_MACHINE_ID = (Path("/etc/machine-id"), Path("/var/lib/dbus/machine-id"))


@dataclass(frozen=True)
class Account:
    """A user to run a command as."""

    name: str
    uid: int
    gid: int
    home: str
    shell: str

    def groups(self) -> list[int]:
        """All of its groups."""
        return os.getgrouplist(self.name, self.gid)


def stable_mac(name: str, *, uid: int, machine: str) -> str:
    """A locally administered address that depends on these three alone.

    User and machine count too: many a machine has a VM called "debian", and some of them are bridged to one
    wire. 46 bits: of a thousand names, two are the same once in 140 million cases.
    """
    text = f"{machine}\0{uid}\0{name}".encode(errors="surrogateescape")
    raw = bytearray(hashlib.blake2b(text, digest_size=6).digest())
    # IEEE 802: bit 1 of the first octet is "locally administered", bit 0 is "group".
    raw[0] = raw[0] & 0xFC | 0x02
    return raw.hex(":")


def machine_id() -> str:
    """What tells this machine from others; its host name where the system keeps no such thing."""
    for path in _MACHINE_ID:
        try:
            text = path.read_text().strip()
        except OSError:
            continue
        if text:
            return text
    return os.uname().nodename


def command_account(user: str | None, environment: Mapping[str, str]) -> Account | None:
    """As whom to run: ``--user``, else who called sudo; None is as we are.

    Raises ConfigurationError (no such user), PrivilegeError (another user, without root).
    """
    if os.geteuid() != 0:
        if user is not None and _account(user).uid != os.geteuid():
            raise PrivilegeError(f'--user "{user}" needs root', next_step="Run with sudo, or leave --user out")
        return None
    caller = environment.get("SUDO_UID", "")
    if user is None and (not caller.isdecimal() or int(caller) == 0):
        return None
    account = _account(caller if user is None else user)
    return None if account.uid == 0 else account


def _account(name: str) -> Account:
    try:
        entry = pwd.getpwuid(int(name)) if name.isdecimal() else pwd.getpwnam(name)
    except KeyError:
        raise ConfigurationError(
            f'User "{name}" does not exist on this machine', next_step="Name another one with --user"
        ) from None
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid, entry.pw_dir, entry.pw_shell)


def environment_of(account: Account | None, environment: Mapping[str, str]) -> dict[str, str]:
    """``environment`` as that user has it; sudo had put root's names there."""
    if account is None:
        return dict(environment)
    kept = {key: value for key, value in environment.items() if not key.startswith("SUDO_")}
    return {
        **kept,
        "HOME": account.home,
        "USER": account.name,
        "LOGNAME": account.name,
        "SHELL": account.shell,
    }


def may_write(account: Account | None, path: Path) -> bool:
    """Whether that user, for None ourselves, may write to ``path``. For another user root only."""
    if account is None:
        return os.access(path, os.W_OK)
    groups, gid = os.getgroups(), os.getegid()
    os.setgroups(account.groups())
    os.setegid(account.gid)
    os.seteuid(account.uid)
    try:
        return os.access(path, os.W_OK, effective_ids=True)
    finally:
        os.seteuid(0)
        os.setegid(gid)
        os.setgroups(groups)


def become(account: Account) -> None:
    """For good. Root only."""
    groups: Sequence[int] = account.groups()
    os.setgroups(groups)
    os.setgid(account.gid)
    os.setuid(account.uid)
