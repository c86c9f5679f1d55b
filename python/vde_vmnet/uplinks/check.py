"""One finding of ``vde_vmnet doctor``: what was looked at, how it is, why that matters, and what to do."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any

from vde_vmnet.errors import VdeVmnetError

__all__ = ["Check", "Level"]


class Level(enum.Enum):
    """How bad it is; the value is the word that is shown."""

    #: As it should be.
    OK = "ok"
    #: Nothing wrong, and good to know when something else is.
    NOTE = "note"
    #: This user could not look.
    UNSEEN = "----"
    #: A network starts; something of it may not work.
    WARNING = "warn"
    #: A network does not start, or its guests lack what they need.
    FAILURE = "FAIL"


@dataclass(frozen=True)
class Check:
    """``blame`` is the kind of error, None where nothing is in the way; with one, the level is FAILURE."""

    what: str
    said: str
    blame: type[VdeVmnetError] | None = None
    next_step: str = ""
    #: What it means for guests, as one clause.
    why: str = ""
    level: Level = Level.OK

    def __post_init__(self) -> None:
        if self.blame is not None:
            object.__setattr__(self, "level", Level.FAILURE)

    def to_plain(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "what": self.what,
            "level": "unseen" if self.level is Level.UNSEEN else self.level.value.lower(),
            "said": self.said,
            "why": self.why,
            "next_step": self.next_step,
            "status": 0 if self.blame is None else self.blame.exit_code,
        }
