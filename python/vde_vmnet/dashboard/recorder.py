"""Captures that the page starts: one at a time, into a file that is gone with the dashboard unless saved."""

from __future__ import annotations

import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import msgspec

from vde_vmnet.control.client import Client
from vde_vmnet.control.models import CaptureRequest, PortNumber
from vde_vmnet.errors import ConflictError, VdeVmnetError
from vde_vmnet.observe.capture import Files, Rotation, record
from vde_vmnet.observe.pcap_filter import compile_filter
from vde_vmnet.observe.pcapng import Blocks

__all__ = ["MOST_BYTES", "Recorder", "Recording", "Wanted"]

#: A capture that was forgotten ends by itself with this many bytes. Chosen: what a browser saves without
#: trouble, and a few seconds of the fastest guest.
MOST_BYTES = 256 << 20
#: Longest frame that can be; what the filter is compiled for.
_SNAP_LENGTH = 262_144


class Wanted(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the page asks for."""

    #: As for tcpdump; none is every frame.
    filter: str | None = None
    ports: list[PortNumber] | None = None


class Recording(msgspec.Struct, frozen=True, kw_only=True):
    """A capture, under way or finished."""

    running: bool
    bytes: int
    frames: int
    dropped: int
    seconds: float
    file: str
    #: Why it ended, when that was not asked for.
    trouble: str


class Recorder:
    """Starts and stops captures; usable from several threads."""

    def __init__(self, control: Path) -> None:
        self._control = control
        self._folder = tempfile.TemporaryDirectory(prefix="vde_vmnet-dashboard-")
        self._lock = threading.Lock()
        self._current: _Run | None = None

    def close(self) -> None:
        """Stop, and remove the files."""
        self.stop()
        self._folder.cleanup()

    def start(self, wanted: Wanted) -> Recording:
        """Begin one. Raises ConflictError (one is under way), and what the filter or the daemon refuses."""
        with self._lock:
            if self._current is not None and self._current.state().running:
                raise ConflictError("A capture is under way", next_step="Stop it first")
            name = time.strftime("capture-%Y%m%d-%H%M%S.pcapng")
            program = compile_filter(wanted.filter, snap_length=_SNAP_LENGTH) if wanted.filter else None
            request = CaptureRequest(ports=wanted.ports, program=program)
            self._current = _Run(self._control, request, Path(self._folder.name) / name)
            return self._current.state()

    def stop(self) -> Recording | None:
        """End it and wait for what was recorded so far; the file is complete then."""
        with self._lock:
            if self._current is not None:
                self._current.stop()
            return self.state()

    def state(self) -> Recording | None:
        """The current or last one."""
        current = self._current
        return None if current is None else current.state()

    def finished(self) -> Path | None:
        """The file of the last one, when it is complete."""
        current = self._current
        return None if current is None or current.state().running else current.file


class _Run:
    """One capture: a thread that copies what the daemon sends into the file."""

    def __init__(self, control: Path, request: CaptureRequest, file: Path) -> None:
        self.file = file
        self._blocks = Blocks()
        self._bytes = 0
        self._began = time.monotonic()
        self._ended: float | None = None
        self._trouble = ""
        with ExitStack() as opened:
            client = opened.enter_context(Client(control))
            self._stream = opened.enter_context(client.capture(request))
            self._target = Files(file, Rotation())
            opened.callback(self._target.close)
            self._closing = opened.pop_all()
        self._thread = threading.Thread(target=self._copy, name="capture", daemon=True)
        self._thread.start()

    def write(self, blocks: bytes, header: bytes) -> None:
        """See ``observe.capture.Target``."""
        self._target.write(blocks, header)
        self._bytes += len(blocks)
        if self._bytes >= MOST_BYTES:
            self._trouble = f"It ended with {MOST_BYTES >> 20} MiB; vde_vmnet capture has no such limit"
            self._stream.end()

    def close(self) -> None:
        """See ``observe.capture.Target``; the file is closed with the rest."""

    def stop(self) -> None:
        """Ask for the end and wait for it."""
        self._stream.end()
        self._thread.join()

    def state(self) -> Recording:
        """As of now."""
        ended = self._ended
        return Recording(
            running=ended is None,
            bytes=self._bytes,
            frames=self._blocks.frames,
            dropped=self._blocks.dropped,
            seconds=(time.monotonic() if ended is None else ended) - self._began,
            file=self.file.name,
            trouble=self._trouble,
        )

    def _copy(self) -> None:
        try:
            with self._closing:
                record(self._stream, self, self._blocks)
        except (VdeVmnetError, OSError) as error:
            self._trouble = str(error)
        self._ended = time.monotonic()
