"""Stop signals as one KeyboardInterrupt, at a moment when nothing is half-made."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Self

__all__ = ["Interrupts"]

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupts:
    """Within the block, the first stop signal raises KeyboardInterrupt and later ones are ignored.

    Ignored, so that an impatient second Ctrl-C does not cut the clean-up short. Main thread only.
    """

    def __init__(self) -> None:
        self._held = False
        self._pending = False

    @contextmanager
    def held(self) -> Iterator[None]:
        """A signal that comes within is raised at the end of the block.

        For starting a process: raised in between, it would be running and known to nobody. (Blocking the
        signals in the kernel would not do, because the process would inherit that.)
        """
        self._held = True
        try:
            yield
        finally:
            self._held = False
        if self._pending:
            raise KeyboardInterrupt

    def __enter__(self) -> Self:
        self._former = {number: signal.signal(number, self._handle) for number in _STOP_SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, former in self._former.items():
            signal.signal(number, former)

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        for number in _STOP_SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        if not self._held:
            raise KeyboardInterrupt
        self._pending = True
