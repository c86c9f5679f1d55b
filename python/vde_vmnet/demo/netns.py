"""Network namespaces without names: they live as long as somebody holds their descriptors.

Nothing is written below /run, so a demo that is killed leaves nothing behind. Each has a mount namespace
beside it with a /sys of its own, because /sys/class/net shows the namespace in which it was mounted.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from vde_vmnet.demo.errors import GuestError
from vde_vmnet.errors import PrivilegeError, UnavailableError

__all__ = ["Namespace", "connect", "entered"]

# linux/sched.h
_CLONE_NEWNET = 0x40000000
_COMMAND_SECONDS = 20.0
_SET_UP = "mount -t sysfs sysfs /sys && ip link set lo up && echo made && read -r _"


class Namespace:
    """A network of its own. Closing it lets it go, with all that is in it once its processes have ended."""

    def __init__(self) -> None:
        """Raises PrivilegeError without root, UnavailableError when a program is missing."""
        for program in ("unshare", "nsenter", "ip"):
            if shutil.which(program) is None:
                raise UnavailableError(
                    f"{program} is not installed", next_step="Run as root: apt-get install util-linux iproute2"
                )
        with subprocess.Popen(
            [shutil.which("unshare") or "unshare", "--net", "--mount", "sh", "-c", _SET_UP],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as maker:
            if maker.stdout is None or maker.stdout.readline() != "made\n":
                said = maker.communicate()[1].strip()
                raise PrivilegeError(
                    f"A network namespace could not be made: {said}", next_step="Run it as root"
                )
            self._net = os.open(f"/proc/{maker.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            self._mount = os.open(f"/proc/{maker.pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)

    @property
    def path(self) -> str:
        """The file that setns(2), ``nsenter --net=`` and ``ip link set netns`` take."""
        return f"/proc/{os.getpid()}/fd/{self._net}"

    def prefix(self) -> list[str]:
        """What to put before a command so that it runs inside."""
        mount = f"/proc/{os.getpid()}/fd/{self._mount}"
        return [
            shutil.which("nsenter") or "nsenter",
            f"--net={self.path}",
            f"--mount={mount}",
            f"--wd={os.sep}",
            "--",
        ]

    def run(self, *argv: str) -> str:
        """Run a program inside to its end; what it printed. Raises GuestError with its words if it fails."""
        done = subprocess.run(
            [*self.prefix(), *argv],
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_COMMAND_SECONDS,
        )
        if done.returncode != 0:
            raise GuestError(f'"{" ".join(argv)}" ended with status {done.returncode}: {done.stdout.strip()}')
        return done.stdout

    def close(self) -> None:
        """Let go; a second call is an error."""
        os.close(self._net)
        os.close(self._mount)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def connect(one: Namespace, one_device: str, other: Namespace, other_device: str) -> None:
    """A cable between two namespaces: a veth pair, both ends up."""
    one.run(
        *("ip", "link", "add", one_device, "type", "veth"),
        *("peer", "name", other_device, "netns", other.path),
    )
    one.run("ip", "link", "set", one_device, "up")
    other.run("ip", "link", "set", other_device, "up")


@contextmanager
def entered(path: str) -> Iterator[None]:
    """Within the block, the calling thread makes its sockets in the namespace ``path`` (empty: its own).

    A socket stays in the namespace in which it was made, so it can be used after the block and by any
    thread. Raises OSError when the kernel refuses.
    """
    if not path:
        yield
        return
    with Path("/proc/thread-self/ns/net").open() as here, Path(path).open() as there:
        _setns(there.fileno())
        try:
            yield
        finally:
            _setns(here.fileno())


def _setns(fd: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(fd, _CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
