"""Starting helpers that die with the keeper, and drop to what they need before they run.

PR_SET_PDEATHSIG (prctl(2)) is cleared by a change of user or capabilities, so it is set after those and
before exec; an exec that gains nothing (ambient capabilities only, no set-user-ID file) keeps it. It fires
when the *thread* that forked ends: start helpers from the main thread.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import signal
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from vde_vmnet.errors import UplinkError
from vde_vmnet.uplinks.linux.programs import ENVIRONMENT

__all__ = [
    "CAP_NET_ADMIN",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "Account",
    "die_with",
    "effective_capabilities",
    "keeping",
    "start",
]

# linux/capability.h
CAP_NET_BIND_SERVICE = 10
CAP_NET_ADMIN = 12
CAP_NET_RAW = 13
_CAPABILITY_VERSION_3 = 0x20080522
# linux/prctl.h
_PR_SET_PDEATHSIG = 1
_PR_SET_KEEPCAPS = 8
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Account:
    """Whom a helper runs as."""

    uid: int
    gid: int

    @classmethod
    def first_of(cls, *names: str) -> Account:
        """The first of these users that exists; the overflow ids (user_namespaces(7)) when none does."""
        for name in names:
            try:
                entry = pwd.getpwnam(name)
            except KeyError:
                continue
            return cls(entry.pw_uid, entry.pw_gid)
        return cls(65534, 65534)


def effective_capabilities() -> int:
    """The effective set of this process as a bit mask; 0 where /proc does not tell."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return 0
    for line in status.splitlines():
        if line.startswith("CapEff:"):
            return int(line.split()[1], 16)
    return 0


def start(
    argv: Sequence[str],
    *,
    stdin: int,
    stdout: int,
    stderr: int,
    account: Account | None = None,
    capabilities: Sequence[int] = (),
    pass_fds: Sequence[int] = (),
) -> int:
    """Start a program in a session of its own and return its process id; the caller records it.

    With ``account`` it runs as that user, without groups, with ``capabilities`` only (those that we have
    ourselves). Raises UplinkError when it cannot be executed.
    """
    prepare = _preparation(account, capabilities)
    try:
        child: subprocess.Popen[bytes] = subprocess.Popen(
            list(argv),
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            pass_fds=tuple(pass_fds),
            env=ENVIRONMENT,
            cwd="/",
            # Ctrl-C in a terminal goes to the whole foreground group; helpers end when they are told to.
            start_new_session=True,
            preexec_fn=prepare,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise UplinkError(f"Cannot start {argv[0]}: {error}") from error
    # From here on the undo record owns the process; without this Popen would warn when it is collected.
    child.returncode = 0
    return child.pid


def keeping(capabilities: Sequence[int]) -> Callable[[], None]:
    """A function that leaves this process, and what it executes, only those of ``capabilities`` that it has."""
    mask = sum(1 << capability for capability in capabilities) & effective_capabilities()
    raised = [capability for capability in capabilities if mask >> capability & 1]
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    # effective, permitted, inheritable; then the same for capabilities 32 to 63.
    sets = (ctypes.c_uint32 * 6)(mask, mask, mask, 0, 0, 0)

    def keep() -> None:
        if _libc.capset(ctypes.byref(header), ctypes.byref(sets)) != 0:
            raise OSError(ctypes.get_errno(), "capset")
        for capability in raised:
            _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, capability)
        _prctl(_PR_SET_NO_NEW_PRIVS, 1)

    return keep


def die_with(parent: int, number: signal.Signals) -> None:
    """In a child: get this signal when ``parent`` ends, and end now if it has ended already."""
    _prctl(_PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:
        os._exit(1)  # it died before it could be watched


def _preparation(account: Account | None, capabilities: Sequence[int]) -> Callable[[], None]:
    """What the child does between fork and exec. Everything it needs is computed here, before the fork."""
    parent = os.getpid()
    keep = keeping(capabilities)

    def prepare() -> None:
        if account is not None:
            _prctl(_PR_SET_KEEPCAPS, 1)
            os.setgroups([])
            os.setresgid(account.gid, account.gid, account.gid)
            os.setresuid(account.uid, account.uid, account.uid)
            keep()
        die_with(parent, signal.SIGKILL if account is None else signal.SIGTERM)

    return prepare


def _prctl(option: int, second: int, third: int = 0) -> None:
    zero = ctypes.c_ulong(0)
    if _libc.prctl(option, ctypes.c_ulong(second), ctypes.c_ulong(third), zero, zero) != 0:
        raise OSError(ctypes.get_errno(), f"prctl {option}")
