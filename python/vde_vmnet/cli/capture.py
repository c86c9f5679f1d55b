"""``vde_vmnet capture``: what passes the switch, as pcapng, into a file or a pipe."""

from __future__ import annotations

import argparse
import re
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Self

from vde_vmnet.cli import observing
from vde_vmnet.cli.change import port_number
from vde_vmnet.cli.events import whole_number
from vde_vmnet.control.client import CaptureStream
from vde_vmnet.control.models import CaptureRequest
from vde_vmnet.errors import ConfigurationError, UnavailableError
from vde_vmnet.observe.capture import Files, Pipe, Rotation, Target, record, step_back
from vde_vmnet.observe.pcap_filter import compile_filter
from vde_vmnet.observe.pcapng import Blocks

__all__ = ["build_parser", "main"]

#: Bytes that make a file that is worth its name, and hold one piece.
_SMALLEST = 1 << 20
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def build_parser() -> argparse.ArgumentParser:
    """What ``capture`` knows."""
    parser = observing.build(
        "capture",
        "[OPTION]... [VDESWITCH]",
        "Capture what passes the switch, as pcapng with interface names and directions, until Ctrl-C. Each"
        " frame is recorded where it enters; with --port where it enters or leaves there. Into a pipe:"
        " vde_vmnet capture | wireshark -k -i -",
    )
    add = parser.add_argument
    add(
        "--port",
        metavar="PORT",
        action="append",
        help="only this port: its number, or the guest's name or address, or uplink; repeatable",
    )
    add("--filter", metavar="EXPR", help="only frames for which this holds, as for tcpdump: see pcap-filter(7)")
    add("-w", "--write", metavar="FILE", help="write into FILE; - is standard output (default)")
    add("--snaplen", metavar="N", help="keep N bytes of each frame, from 14 (default: all)")
    add("--count", metavar="N", help="end after N frames")
    add("--duration", metavar="SECONDS", help="end after this time")
    add("--rotate-size", metavar="SIZE", help="begin the next file before one exceeds SIZE, such as 100M")
    add("--rotate-time", metavar="SECONDS", help="begin the next file after this time")
    add("--rotate-files", metavar="N", help="keep the last N files only")
    observing.add_network(parser)
    return parser


def main(argv: Sequence[str]) -> int:
    """0 at the end of the capture, also by Ctrl-C. Raises VdeVmnetError."""
    options = observing.parse(build_parser(), list(argv))
    if options is None:
        return 0
    rotation = _rotation(options)
    to_stdout = options.write in (None, "-")
    if to_stdout and rotation.is_wanted:
        raise ConfigurationError(
            "--rotate-size and --rotate-time need files to turn to", next_step="Add -w FILE"
        )
    if to_stdout and sys.stdout.isatty():
        raise ConfigurationError(
            "A capture is not written to a terminal",
            next_step="Add -w FILE, or a pipe: vde_vmnet capture | tcpdump -n -r -",
        )
    request = _request(options)
    blocks = Blocks()
    with ExitStack() as closing:
        client = closing.enter_context(observing.network(options.vdeswitch))
        ports = None if options.port is None else [port_number(client, text) for text in options.port]
        # Before the capture begins, so that none that goes on is ended without its end.
        signals = closing.enter_context(_Signals())
        stream = closing.enter_context(client.capture(request(ports=ports)))
        signals.watch(stream)
        try:
            target: Target = Pipe(sys.stdout.fileno()) if to_stdout else Files(Path(options.write), rotation)
        except OSError as error:
            raise UnavailableError(f'Cannot write "{options.write}": {error.strerror}') from None
        step_back()
        try:
            with suppress(BrokenPipeError):
                record(stream, target, blocks)
        except OSError as error:
            raise UnavailableError(f"The capture breaks off: {error.strerror or error}") from None
        finally:
            target.close()
            sys.stderr.write(f"{_summary(blocks)}\n")
    return 0


def _request(options: argparse.Namespace) -> Callable[..., CaptureRequest]:
    """All but the ports, which the network has to be asked for."""
    snap_length = whole_number("--snaplen", options.snaplen)
    if snap_length is not None and not 14 <= snap_length <= 262_144:
        raise ConfigurationError(f'--snaplen "{options.snaplen}" is not a number from 14 to 262144')
    count = whole_number("--count", options.count)
    if count == 0:
        raise ConfigurationError("--count 0 would capture nothing")
    program = None
    if options.filter is not None:
        program = compile_filter(options.filter, snap_length=snap_length or 262_144)
    return partial(
        CaptureRequest,
        program=program,
        snap_length=snap_length,
        frames=count,
        seconds=None if options.duration is None else _seconds("--duration", options.duration),
    )


def _rotation(options: argparse.Namespace) -> Rotation:
    size = None
    if options.rotate_size is not None:
        match = re.fullmatch(r"([0-9]{1,12})([kmg]?)(i?b)?", options.rotate_size.lower())
        size = int(match[1]) * _UNITS[match[2]] if match else 0
        if size < _SMALLEST:
            raise ConfigurationError(f'--rotate-size "{options.rotate_size}" is not a size from 1M on')
    seconds = None if options.rotate_time is None else _seconds("--rotate-time", options.rotate_time)
    files = whole_number("--rotate-files", options.rotate_files)
    if files == 0:
        raise ConfigurationError("--rotate-files 0 would keep nothing")
    rotation = Rotation(size, seconds, files)
    if files is not None and not rotation.is_wanted:
        raise ConfigurationError("--rotate-files says nothing about when", next_step="Add --rotate-size")
    return rotation


def _seconds(option: str, text: str) -> float:
    return observing.positive(option, text, most=31_536_000, named="a year")


class _Signals:
    """The first one asks for the end, and the rest is still written; the second one ends it as usual."""

    def __init__(self) -> None:
        self._former = {number: signal.getsignal(number) for number in _ENDING}
        self._stream: CaptureStream | None = None
        self._asked = False

    def __enter__(self) -> Self:
        for number in _ENDING:
            signal.signal(number, self._end)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)

    def watch(self, stream: CaptureStream) -> None:
        """What is to be ended; at once, if a signal came before."""
        self._stream = stream
        if self._asked:
            stream.end()

    def _end(self, *_: object) -> None:
        self.__exit__()
        self._asked = True
        if self._stream is not None:
            self._stream.end()


def _summary(blocks: Blocks) -> str:
    said = f"{blocks.frames} frame{'' if blocks.frames == 1 else 's'} captured, {blocks.dropped} dropped"
    if blocks.dropped:
        said += ": the reader, or the processor, was too slow; --filter and --snaplen make less of it"
    return said
