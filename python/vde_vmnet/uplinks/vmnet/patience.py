"""The time that a start may take: shared by all its calls, spent on attempts with pauses between them."""

from __future__ import annotations

import logging
import select
import time
from collections.abc import Callable
from typing import TypeVar

from vde_vmnet.uplinks.vmnet import failures

__all__ = ["Patience", "RefusedError"]

_log = logging.getLogger(__name__)
_Result = TypeVar("_Result")

# Chosen: the first pause between two attempts, doubled up to the second number.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 4.0


class RefusedError(Exception):
    """An attempt that ended with a status other than success."""

    def __init__(self, status: int) -> None:
        super().__init__(failures.words(status))
        self.status = status


class Patience:
    """``seconds`` from now on, ``--start-timeout``."""

    def __init__(self, seconds: float) -> None:
        #: The whole time, for messages.
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds, not below 0."""
        return max(self._end - time.monotonic(), 0.0)

    def insist(self, attempt: Callable[[], _Result], situation: failures.Situation) -> _Result:
        """What ``attempt`` returns, called again after RefusedError for as long as that is worth it.

        Raises what ``failures.explain`` makes of the last status.
        """
        began = time.monotonic()
        pause, told = _FIRST_PAUSE, False
        while True:
            try:
                return attempt()
            except RefusedError as refused:
                status = refused.status
            worth = failures.patience(status, situation) - (time.monotonic() - began)
            if pause > min(self.left, worth):
                raise failures.explain(status, situation)
            if not told:
                told = True
                _log.warning(
                    "vmnet could not %s yet: %s; trying again for up to %g s",
                    *(situation.doing, failures.words(status)),
                    min(self.seconds, failures.patience(status, situation)),
                )
            select.select([], [], [], pause)  # a stop signal ends it
            pause = min(2 * pause, _LONGEST_PAUSE)
