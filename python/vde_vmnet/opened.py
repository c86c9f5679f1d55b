"""What stage 2 opens, seen from where it is used: a place where guests plug in, before it is served."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from vde_vmnet.recovery import UndoRecord

if TYPE_CHECKING:
    from vde_vmnet._engine import Engine
    from vde_vmnet.ports.base import Listener

__all__ = ["MakeListener", "Segment"]

MakeListener = Callable[["Engine"], "Listener"]


class Segment(Protocol):
    """One opened VDESWITCH, or another place where guests plug in."""

    def record(self, undo: UndoRecord) -> None:
        """Write down how to undo it when everybody was killed."""

    def release_in_keeper(self) -> None:
        """Close what is the worker's alone."""

    def listener(self) -> MakeListener:
        """For the worker, before it drops privilege: the modules it needs are loaded here."""
