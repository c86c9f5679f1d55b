"""The command itself: started with our terminal, sent our signals, and ended when we are.

It stays in our process group, so that a terminal's job control sees one job. Signals of the terminal reach
it by themselves, and are not passed on a second time.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from vde_vmnet.launch.identity import Account

__all__ = ["NOT_EXECUTABLE", "NOT_FOUND", "Command", "end_with_parent"]

#: What shells answer.
NOT_EXECUTABLE, NOT_FOUND = 126, 127

_FORWARDED = {
    *(signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT),
    *(signal.SIGUSR1, signal.SIGUSR2),
}
#: <sys/prctl.h>
_PR_SET_PDEATHSIG = 1
#: <asm-generic/siginfo.h>: from the kernel, as opposed to somebody's kill(2).
_SI_KERNEL = 0x80

if sys.platform == "linux":
    _libc = ctypes.CDLL(None, use_errno=True)

    def end_with_parent(number: signal.Signals, parent: int) -> None:
        """In a child of ``parent``: get ``number`` when it ends, however it ends."""
        _libc.prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)
        if os.getppid() != parent:  # it has ended already
            os.kill(os.getpid(), number)

    def _next_signal(watched: set[signal.Signals]) -> tuple[signal.Signals, bool]:
        """The next signal, and whether the terminal sent it to the command too."""
        info = signal.sigwaitinfo(watched)
        return signal.Signals(info.si_signo), info.si_code == _SI_KERNEL

else:

    def end_with_parent(number: signal.Signals, parent: int) -> None:
        """Nothing: this system has no such thing."""

    def _next_signal(watched: set[signal.Signals]) -> tuple[signal.Signals, bool]:
        """The next signal, and whether the terminal sent it to the command too."""
        number = signal.Signals(signal.sigwait(watched))
        foreground = False
        with suppress(OSError):
            foreground = os.tcgetpgrp(0) == os.getpgrp()
        return number, foreground and number in (signal.SIGINT, signal.SIGQUIT)


class Command:
    """A running command. Signals to this process are its signals from here on."""

    def __init__(
        self, command: Sequence[str], *, program: str, account: Account | None, environment: Mapping[str, str]
    ) -> None:
        """Start ``program`` with the arguments ``command``, the first of which is its name.

        It has every inheritable descriptor, and is killed when we are killed: what happens to us happens to it.
        Raises OSError when it cannot be run.
        """
        self._watched = {*_FORWARDED, signal.SIGCHLD}
        before = signal.pthread_sigmask(signal.SIG_BLOCK, self._watched)
        parent = os.getpid()

        def prepare() -> None:
            end_with_parent(signal.SIGKILL, parent)
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

        try:
            self._process = subprocess.Popen(
                list(command),
                executable=program,
                close_fds=False,
                env=environment,
                user=account.uid if account else None,
                group=account.gid if account else None,
                extra_groups=account.groups() if account else None,
                preexec_fn=prepare,  # safe: this process has one thread
            )
        except BaseException:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            raise

    def wait(self, on_child: Callable[[], object]) -> int:
        """Until it ends; its exit status, 128 and the number when a signal ended it, as shells have it.

        ``on_child`` is called when a child of ours has ended.
        """
        while (code := self._process.poll()) is None:
            number, has_it = _next_signal(self._watched)
            if number is signal.SIGCHLD:
                on_child()
            elif not has_it:
                with suppress(ProcessLookupError):
                    self._process.send_signal(number)
        return code if code >= 0 else 128 - code
