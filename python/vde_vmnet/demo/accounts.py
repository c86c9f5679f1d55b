"""As whom a guest runs: never as root."""

from __future__ import annotations

import grp
import os
import pwd
import shutil
from dataclasses import dataclass
from pathlib import Path

from vde_vmnet.errors import UnavailableError

__all__ = ["Account", "Credentials", "credentials_of", "unprivileged_account"]


@dataclass(frozen=True)
class Account:
    """A user that is not root."""

    name: str
    uid: int
    gid: int
    #: Name of the primary group, for ``--vde-group``.
    group: str

    def command_prefix(self) -> list[str]:
        """What to put before a command so that it runs as this user with nothing else left.

        No supplementary groups, no capabilities and none to be had, and killed when its parent dies.
        """
        setpriv = shutil.which("setpriv")
        if setpriv is None:
            raise UnavailableError(
                "setpriv is not installed", next_step="Run as root: apt-get install util-linux"
            )
        return [
            setpriv,
            f"--reuid={self.uid}",
            f"--regid={self.gid}",
            "--clear-groups",
            "--inh-caps=-all",
            "--bounding-set=-all",
            "--no-new-privs",
            "--pdeathsig=KILL",
            "--",
        ]


@dataclass(frozen=True)
class Credentials:
    """What the kernel says of a running process."""

    uids: frozenset[int]
    #: Permitted and effective capabilities, as one mask.
    capabilities: int
    #: Capabilities that it could still gain by running a program that has them.
    bounding: int
    groups: frozenset[int]

    @property
    def rootless(self) -> bool:
        """No user id is root's and no capability is held."""
        return 0 not in self.uids and self.capabilities == 0


def unprivileged_account() -> Account:
    """Who called sudo, else ``nobody``. Raises UnavailableError when the machine has no such user."""
    try:
        uid = int(os.environ.get("SUDO_UID", "0"))
        entry = pwd.getpwuid(uid) if uid else pwd.getpwnam("nobody")
        return Account(entry.pw_name, entry.pw_uid, entry.pw_gid, grp.getgrgid(entry.pw_gid).gr_name)
    except (KeyError, ValueError) as error:
        raise UnavailableError(
            f"There is no unprivileged user to run the guest as ({error})",
            next_step="Call sudo from an ordinary account, or create the user nobody",
        ) from None


def credentials_of(pid: int) -> Credentials:
    """Read from /proc. Raises FileNotFoundError when the process has ended."""
    fields = {}
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        key, _, value = line.partition(":")
        fields[key] = value.split()
    return Credentials(
        uids=frozenset(int(uid) for uid in fields["Uid"]),
        capabilities=int(fields["CapPrm"][0], 16) | int(fields["CapEff"][0], 16),
        bounding=int(fields["CapBnd"][0], 16),
        groups=frozenset(int(gid) for gid in fields.get("Groups", [])),
    )
