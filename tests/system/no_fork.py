"""The daemon with an uplink that opens nothing and says that it does not survive a fork, as vmnet does not.

Run as ``python -m tests.system.no_fork ARGS``.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from vde_vmnet import cli, uplinks
from vde_vmnet.config.model import Backend, UplinkConfig
from vde_vmnet.recovery import UndoRecord, Unlink
from vde_vmnet.uplinks.base import OpenedUplink, Uplink, nothing
from vde_vmnet.uplinks.none import NoneUplink

#: A file that is made by ``prepare`` and must be gone at the end.
MARK = "NO_FORK_MARK"
#: What ``open`` raises, if it is there.
BUG = "NO_FORK_BUG"


@dataclass(frozen=True)
class Opened(OpenedUplink):
    """Knows which process opened it."""

    pid: int = field(default_factory=os.getpid)

    def close(self) -> None:
        """See OpenedUplink."""
        print(f"closed by the process that opened it: {os.getpid() == self.pid}", flush=True)


class NoForkUplink(NoneUplink):
    """Makes a file in ``prepare``."""

    survives_fork = False

    def prepare(self, undo: UndoRecord) -> None:
        """Record, then make."""
        mark = Path(os.environ[MARK])
        undo.push(Unlink(str(mark)))
        mark.touch()

    def open(self, undo: UndoRecord, prepare: Callable[[], None] = nothing) -> OpenedUplink:  # noqa: ARG002
        """Says who it is."""
        prepare()
        if BUG in os.environ:
            raise RuntimeError(os.environ[BUG])
        return Opened(None, (("opened by", str(os.getpid())),), {"mode": "isolated"})


def choose(backend: Backend, config: UplinkConfig, network_id: str) -> tuple[Uplink, str]:
    """In place of ``uplinks.choose``."""
    return NoForkUplink(), "one that does not survive a fork"


if __name__ == "__main__":
    uplinks.choose = choose
    sys.exit(cli.main())
