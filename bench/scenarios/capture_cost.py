"""What a capture costs those who are captured: a pair at full speed, with it and without.

The capture is the command, as a person would start it, writing to a file. Within a sample the two take turns,
so that a drift of the machine touches both alike. There is no rival.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.compare import NOBODY, OURS, Relation, Row, Subject, Target
from bench.errors import BenchError
from bench.scenarios.base import Answer, Bench
from bench.scenarios.traffic import run_pairs
from bench.systems import System, Uplink

__all__ = ["CaptureCost"]

#: Whether it is captured, stretch by stretch: neither comes first, nor always after the other.
_ORDER = (True, False, False, True)
_PATIENCE_SECONDS = 20.0
_WITHIN = Target(Subject.OURS, Relation.AT_LEAST, 0.9)


class CaptureCost:
    """One frame size."""

    rival = NOBODY

    def __init__(self, size: int) -> None:
        self._size = size
        self.name = f"capture-{size}"
        self.title = f"Plug to plug, one pair, {size} B, while it is captured into a file"
        self.rows = (
            Row("frames", "frames/s, captured ÷ not captured", "", _WITHIN, has_ratio=False),
            Row("recorded", "of the frames that passed, in the file", "%", None, has_ratio=False),
        )

    def unavailable_reason(self) -> str | None:
        return None

    def measure(self, system: System, bench: Bench) -> Answer:
        if system.name != OURS:
            return Answer({}, {})
        detail: dict[str, object] = {}
        rates: dict[bool, float] = {True: 0.0, False: 0.0}
        recorded = passed = 0
        for number, captured in enumerate(_ORDER):
            with system.start(Uplink.NONE) as running:
                folder = running.directory.parent
                said: list[str] = []
                with _capture(running.directory, folder / "all.pcapng", said) if captured else _nothing():
                    flow = run_pairs(
                        bench.clients,
                        running.directory,
                        pairs=1,
                        size=self._size,
                        seconds=bench.effort.seconds / 2,
                    )
                running.check()
            rates[captured] += flow.frames_per_second
            if captured:
                recorded += int(said[0].split()[0])
                passed += flow.received
            detail[f"{number} {'captured' if captured else 'not captured'}"] = {**flow.detail(), "said": said}
        values = {"frames": rates[True] / rates[False], "recorded": 100.0 * min(1.0, recorded / passed)}
        return Answer(values, detail)


@contextmanager
def _nothing() -> Iterator[None]:
    yield


@contextmanager
def _capture(directory: Path, file: Path, said: list[str]) -> Iterator[None]:
    """Everything into ``file``; ``said`` gets the last words. Raises BenchError."""
    command = [sys.executable, "-m", "vde_vmnet", "capture"]
    with subprocess.Popen(
        [*command, "-w", str(file), str(directory)], stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            _await_capture(directory)
            yield
            process.send_signal(signal.SIGINT)
            _, words = process.communicate(timeout=_PATIENCE_SECONDS)
            if process.returncode != 0 or "captured" not in words:
                raise BenchError(f"the capture ended with status {process.returncode}: {words}")
            said.append(words.strip())
        except subprocess.TimeoutExpired:
            raise BenchError("the capture did not end") from None
        finally:
            process.kill()
            file.unlink(missing_ok=True)


def _await_capture(directory: Path) -> None:
    """Until the daemon has it. Raises BenchError."""
    where = ["--unix-socket", f"{directory}.control", "http://localhost/v1/capture"]
    for _ in range(200):
        asked = subprocess.run(
            ["curl", "-sS", "--max-time", "5", *where], capture_output=True, text=True, check=False
        )
        if asked.returncode == 0 and json.loads(asked.stdout)["captures"]:
            return
    raise BenchError("the capture never began")
