"""What killed daemons left behind: findings from what lies about. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from vde_vmnet.uplinks.check import Check, Level

__all__ = ["Pid", "Record", "checks"]


@dataclass(frozen=True)
class Record:
    """A file in the state directory that says how to undo a network."""

    network: str
    #: Whether its daemon lives; None where we may not look.
    lives: bool | None
    #: Whether it is of this network namespace: those of others are their own business.
    here: bool = True


@dataclass(frozen=True)
class Pid:
    """A pidfile, and whether the process it names lives; None where it cannot be read."""

    path: Path
    lives: bool | None


def checks(
    records: Sequence[Record], sockets: Sequence[Path], pidfiles: Sequence[Pid], state: Path
) -> Iterator[Check]:
    """``sockets`` are those on which nobody listens."""
    what = "leftovers"
    dead = [one.network for one in records if one.lives is False and one.here]
    unseen = [one for one in records if one.lives is None and one.here]
    stale = [str(one.path) for one in pidfiles if one.lives is False]
    if dead:
        count = f"{len(dead)} killed {'network' if len(dead) == 1 else 'networks'}"
        yield Check(
            what,
            f"{count} not tidied up: {', '.join(dead)}",
            next_step="The next start of any network by root undoes it",
            why="settings, addresses or firewall rules of it may still be there",
            level=Level.WARNING,
        )
    if sockets:
        yield Check(
            what,
            f"nobody listens on {', '.join(map(str, sockets))}",
            next_step="The next start there replaces it; else remove it",
            why="guests find a switch that refuses them",
            level=Level.WARNING,
        )
    if stale:
        yield Check(
            what,
            f"{', '.join(stale)}: no such process runs",
            next_step="The next start replaces it; else remove it",
            why="programs that look there take the network for a running one",
            level=Level.WARNING,
        )
    if unseen:
        yield Check(
            what, f"{len(unseen)} records in {state} are root's", level=Level.UNSEEN, next_step="Run with sudo"
        )
    elif not (dead or sockets or stale):
        yield Check(what, "none")
