"""What ``vde_vmnet doctor`` says of the user-mode uplink. Reads, changes nothing."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from pathlib import Path

from vde_vmnet.uplinks.check import Check, Level
from vde_vmnet.uplinks.linux import link, programs
from vde_vmnet.uplinks.user import library

__all__ = ["checks"]

_WHAT = "user uplink"
#: The stack takes half of the descriptors that the process may have, and no more sockets than this.
_MOST_SOCKETS = 4096
#: Settings that keep ordinary users from namespaces, with the value that does; a system has some of them.
_NAMESPACES = {
    "user.max_user_namespaces": "0",
    "kernel.unprivileged_userns_clone": "0",
    "kernel.apparmor_restrict_unprivileged_userns": "1",
}


def checks(sysctls: Path = Path("/proc/sys")) -> Iterator[Check]:
    """In the order in which a start would meet them."""
    found = library.find()
    if isinstance(found, str):
        yield Check(
            _WHAT,
            found,
            next_step=library.INSTALL_HINT,
            why="without root there is no other way to the world",
            level=Level.NOTE,
        )
        return
    yield Check(_WHAT, f"libslirp {found.version}")
    yield _services(sysctls)
    yield _ping(_read(sysctls, "net.ipv4.ping_group_range"))
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard // 2 < _MOST_SOCKETS:
        yield Check(
            f"{_WHAT}, sockets",
            f"at most {hard // 2} at once, for all guests together",
            next_step=f"Allow this user {2 * _MOST_SOCKETS} open files (ulimit -Hn)",
            why="more connections than that are refused",
            level=Level.NOTE,
        )


def _services(sysctls: Path) -> Check:
    """Whether dnsmasq can have a namespace of its own; as root nothing keeps it from one."""
    what = f"{_WHAT}, names"
    why = "guests have no names, no --reserve and no --vmnet-mtu, and there are sixteen of them at most"
    missing = [name for name in ("dnsmasq", "ip") if programs.find(name) is None]
    if missing:
        said, step = programs.missing_reason(missing) or "", programs.install_hint(missing)
        return Check(what, said, next_step=step, why=why, level=Level.WARNING)
    if os.geteuid() != 0:
        for name, refusing in _NAMESPACES.items():
            if _read(sysctls, name) == refusing:
                said = f"ordinary users may not make namespaces ({name} is {refusing})"
                step = "Allow it (sysctl), or give vde_vmnet a profile of AppArmor's that does"
                return Check(what, said, next_step=step, why=why, level=Level.WARNING)
    if not os.access(link.TUN_DEVICE, os.R_OK | os.W_OK):
        said = f"this user may not open {link.TUN_DEVICE}"
        return Check(what, said, next_step="Allow it; most systems do", why=why, level=Level.WARNING)
    return Check(what, "dnsmasq has a namespace of its own")


def _ping(allowed: str) -> Check:
    """``allowed``: the first and the last group whose members may ping."""
    what = f"{_WHAT}, ping"
    first, _, last = allowed.partition(" ")
    groups = {os.getegid(), *os.getgroups()}
    if last and any(int(first) <= group <= int(last) for group in groups):
        return Check(what, "guests may ping the world")
    return Check(
        what,
        "guests may not ping the world, TCP and UDP aside",
        next_step='sysctl -w net.ipv4.ping_group_range="0 2147483647"',
        level=Level.NOTE,
    )


def _read(sysctls: Path, name: str) -> str:
    """A kernel setting, its words apart by one space; empty where there is none."""
    try:
        return " ".join((sysctls / name.replace(".", "/")).read_text().split())
    except OSError:
        return ""
