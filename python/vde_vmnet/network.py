"""A network for Python programs: the daemon as a child for the time of a ``with`` block."""

from __future__ import annotations

import os
import tempfile
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from vde_vmnet.demo.daemon_process import DaemonProcess
from vde_vmnet.plug import AsyncPlug, Plug

__all__ = ["Network"]


class Network:
    """``vde_vmnet OPTIONS`` with a switch directory of its own, ready inside the block and gone after it.

    ``with Network() as network: plug = network.plug()``
    """

    def __init__(self, *options: str) -> None:
        """``options`` are the command's; without any it is ``--backend=none``, which needs no privilege.

        As root the daemon serves as ``nobody``, and lets this process's group plug in unless ``--vde-group`` is
        among the options.
        """
        self._options = options or ("--backend=none",)
        self._closing = ExitStack()
        self._daemon: DaemonProcess | None = None
        self._place = Path()

    def __enter__(self) -> Self:
        """Start it; waits until guests can plug in. Raises UplinkError with the daemon's last words."""
        with ExitStack() as unfinished:
            name = unfinished.enter_context(tempfile.TemporaryDirectory(prefix="vde-"))
            self._place = Path(name)
            # The service user passes through; the switch directory in it has a mode of its own.
            self._place.chmod(0o755)
            self._daemon = unfinished.enter_context(
                DaemonProcess(
                    self.directory,
                    (f"--vde-group={os.getegid()}", *self._options),
                    pidfile=self._place / "pid",
                    log=self._place / "log",
                )
            )
            self._daemon.wait_ready()
            self._closing = unfinished.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop it and wait for its end."""
        self._closing.close()

    @property
    def directory(self) -> Path:
        """The switch directory, for ``sock=`` of QEMU's ``-netdev vde``."""
        return self._place / "ctl"

    def log(self) -> str:
        """What the daemon has said so far."""
        return (self._place / "log").read_text(errors="replace")

    def plug(self, port: int | None = None, *, description: str = "python") -> Plug:
        """A new plug in this network, on ``port`` or the lowest free one."""
        return Plug(self._address(port), description=description)

    def async_plug(self, port: int | None = None, *, description: str = "python") -> AsyncPlug:
        """The same for asyncio."""
        return AsyncPlug(self._address(port), description=description)

    def _address(self, port: int | None) -> str:
        return str(self.directory) if port is None else f"{self.directory}[{port}]"
