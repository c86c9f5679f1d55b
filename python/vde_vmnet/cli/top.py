"""``vde_vmnet top``: the ports of a running network, live. The terminal only; what is shown is observe/top.py.

Whatever ends it (a key, Ctrl-C, SIGTERM, the network's end, a bug), the terminal is as it was before.
"""

from __future__ import annotations

import argparse
import os
import select
import signal
import sys
import termios
import time
import tty
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from vde_vmnet.cli import observing
from vde_vmnet.control.client import Client
from vde_vmnet.errors import ConfigurationError
from vde_vmnet.observe import top
from vde_vmnet.observe.top import Model, Screen

__all__ = ["build_parser", "main"]

# The second screen of xterm and all after it, and the cursor: console_codes(4).
_ENTER = "\x1b[?1049h\x1b[?25l"
_LEAVE = "\x1b[?25h\x1b[?1049l"
_HOME, _TO_END_OF_LINE, _REVERSE, _PLAIN = "\x1b[H", "\x1b[K", "\x1b[7m", "\x1b[0m"
#: The line of the table's head.
_HEAD = 2
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


def build_parser() -> argparse.ArgumentParser:
    """What ``top`` knows."""
    keys = ", ".join(f"{key} {sort.name}" for key, sort in top.KEYS.items())
    parser = observing.build(
        "top",
        "[OPTION]... [VDESWITCH]",
        f"Watch the ports of a running network live. Keys: q ends; {keys} sort, pressed again the other way;"
        " space pauses; + and - change the speed; j and k, or the arrows, scroll.",
    )
    parser.add_argument("--interval", metavar="SECONDS", default="1", help="how often (default: %(default)s)")
    observing.add_network(parser)
    return parser


def main(argv: Sequence[str]) -> int:
    """0 after ``q``; 128 and its number after a signal. Raises VdeVmnetError."""
    options = observing.parse(build_parser(), list(argv))
    if options is None:
        return 0
    interval = observing.positive("--interval", options.interval)
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise ConfigurationError(
            "vde_vmnet top needs a terminal",
            next_step="In a pipe: vde_vmnet status --watch, with --json or not",
        )
    with observing.network(options.vdeswitch) as client:
        # Before the screen changes: what is refused is said where it is seen.
        model = top.look(Model(client.network(), interval=interval), client.ports(), client.counters())
        with _terminal() as terminal:
            return _loop(client, model, terminal)


class _Terminal:
    """A terminal that gives keys as they are pressed, and signals as bytes of a pipe."""

    def __init__(self, signals: int) -> None:
        self._fd = sys.stdin.fileno()
        self._signals = signals
        self._former = termios.tcgetattr(self._fd)

    def enter(self) -> None:
        tty.setcbreak(self._fd)
        self._write(_ENTER)

    def leave(self) -> None:
        self._write(_LEAVE)
        termios.tcsetattr(self._fd, termios.TCSADRAIN, self._former)

    def wait(self, seconds: float) -> tuple[str, int]:
        """A key, or the number of a signal; neither when the time is over."""
        ready, _, _ = select.select([self._fd, self._signals], [], [], max(0.0, seconds))
        if self._signals in ready:
            return "", os.read(self._signals, 1)[0]
        if self._fd in ready:
            # An arrow is three bytes at once; nothing at all is a terminal that has gone.
            return os.read(self._fd, 8).decode(errors="replace") or "q", 0
        return "", 0

    def draw(self, lines: Sequence[str]) -> None:
        shown = [f"{_REVERSE}{line}{_PLAIN}" if at == _HEAD else line for at, line in enumerate(lines)]
        self._write(_HOME + f"{_TO_END_OF_LINE}\r\n".join(shown) + _TO_END_OF_LINE)

    def screen(self) -> Screen:
        width, height = os.get_terminal_size(sys.stdout.fileno())
        encoding = (sys.stdout.encoding or "").lower().replace("-", "")
        return Screen(max(20, width), max(4, height), unicode=encoding == "utf8")

    def suspend(self) -> None:
        """Ctrl-Z: the shell gets its terminal as it was, and we ours again afterwards."""
        self.leave()
        os.kill(os.getpid(), signal.SIGSTOP)
        self.enter()

    @staticmethod
    def _write(text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()


@contextmanager
def _terminal() -> Iterator[_Terminal]:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    watched = (*_ENDING, signal.SIGTSTP, signal.SIGWINCH)
    former = {number: signal.signal(number, lambda *_: None) for number in watched}
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    terminal = _Terminal(reading)
    try:
        terminal.enter()
        yield terminal
    finally:
        terminal.leave()
        signal.set_wakeup_fd(-1)
        for number, handler in former.items():
            signal.signal(number, handler)
        os.close(reading)
        os.close(writing)


def _loop(client: Client, model: Model, terminal: _Terminal) -> int:
    next_look = time.monotonic() + min(model.interval, 0.5)
    while not model.done:
        terminal.draw(top.render(model, terminal.screen()))
        key, number = terminal.wait(next_look - time.monotonic())
        if number in _ENDING:
            return 128 + number
        if number == signal.SIGTSTP:
            terminal.suspend()
        if key:
            before = model.interval
            model = top.press(model, key)
            if model.interval != before:
                next_look = time.monotonic() + model.interval
        if time.monotonic() >= next_look:
            model = top.look(model, client.ports(), client.counters())
            next_look = time.monotonic() + model.interval
    return 0
