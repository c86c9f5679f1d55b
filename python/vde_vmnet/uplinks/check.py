"""One finding of ``vde_vmnet doctor``: what was looked at, how it is, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass

from vde_vmnet.errors import VdeVmnetError

__all__ = ["Check"]


@dataclass(frozen=True)
class Check:
    """``blame`` is the error that a start would end with; None where nothing is in the way."""

    what: str
    said: str
    blame: type[VdeVmnetError] | None = None
    next_step: str = ""
