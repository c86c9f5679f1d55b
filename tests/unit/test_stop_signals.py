"""Stop signals while a network is opened: the first one undoes, and none cuts that short."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

_PROGRAM = """
import os, signal, sys
from vde_vmnet.keeper import Stopped, hold_stop_signals, let_stop_signals_in, stop_raises

number = int(sys.argv[1])
try:
    with stop_raises():
        os.kill(os.getpid(), number)
        sys.exit("not stopped")
except Stopped:
    os.kill(os.getpid(), number)
    print("undone")

signal.signal(number, lambda *_: print("handled"))
let_stop_signals_in()
hold_stop_signals()
os.kill(os.getpid(), number)
print("held")
let_stop_signals_in()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_stops_and_the_rest_wait_for_a_handler(number: signal.Signals) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, str(int(number))], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.split()) == (0, ["undone", "handled", "held", "handled"]), done.stderr
