"""What the kernel says about a system's processes: processor time, wake-ups, memory. Reads /proc only."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Activity", "Memory", "activity", "cores", "memory", "pin", "tree"]

_PROC = Path("/proc")
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")

# proc_pid_stat(5): fields counted from 1, the second is the command in parentheses.
_PARENT_FIELD = 4
_USER_FIELD = 14
_SYSTEM_FIELD = 15


@dataclass(frozen=True)
class Activity:
    """What processes have done since they began."""

    #: Processor time in clock ticks (10 ms), user and system.
    ticks: int
    #: How often a thread went to sleep by itself, and so was woken.
    wakeups: int

    @property
    def seconds(self) -> float:
        return self.ticks / _TICKS_PER_SECOND

    def since(self, earlier: Activity) -> Activity:
        return Activity(self.ticks - earlier.ticks, self.wakeups - earlier.wakeups)


@dataclass(frozen=True)
class Memory:
    """Resident memory in octets, summed over processes."""

    #: Shared pages counted in every process that has them.
    rss: int
    #: Shared pages divided among those that share them.
    pss: int


def tree(root: int) -> list[int]:
    """The process ``root`` and its living descendants."""
    children: dict[int, list[int]] = {}
    for entry in _PROC.iterdir():
        if not entry.name.isdigit():
            continue
        try:
            parent = _stat(int(entry.name))[_PARENT_FIELD - 1]
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended meanwhile
        children.setdefault(int(parent), []).append(int(entry.name))
    found = [root]
    for process in found:
        found.extend(children.get(process, []))
    return found


def activity(processes: Iterable[int]) -> Activity:
    """Raises FileNotFoundError when one of them is gone."""
    ticks = wakeups = 0
    for process in processes:
        fields = _stat(process)
        ticks += int(fields[_USER_FIELD - 1]) + int(fields[_SYSTEM_FIELD - 1])
        for thread in (_PROC / str(process) / "task").iterdir():
            wakeups += _number(thread / "status", "voluntary_ctxt_switches:")
    return Activity(ticks, wakeups)


def memory(processes: Iterable[int]) -> Memory:
    """Raises FileNotFoundError when one of them is gone."""
    rss = pss = 0
    for process in processes:
        rollup = _PROC / str(process) / "smaps_rollup"
        rss += _number(rollup, "Rss:") * 1024
        pss += _number(rollup, "Pss:") * 1024
    return Memory(rss, pss)


def cores() -> list[int]:
    """Processor cores that we may use: where one thing is measured it has the first, and its load the last."""
    return sorted(os.sched_getaffinity(0))


def pin(process: int, core: int) -> None:
    """Keep all threads that it has on one processor core."""
    for thread in (_PROC / str(process) / "task").iterdir():
        os.sched_setaffinity(int(thread.name), {core})


def _stat(process: int) -> list[str]:
    text = (_PROC / str(process) / "stat").read_text()
    # The command may hold spaces and parentheses; what follows its last one is plain.
    head, _, rest = text.rpartition(")")
    return [*head.split(" ", 1), *rest.split()]


def _number(path: Path, name: str) -> int:
    for line in path.read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1])
    raise FileNotFoundError(f"{path} has no {name}")
