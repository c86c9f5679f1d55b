"""Stop signals, and when they strike."""

import signal

import pytest

from vde_vmnet.demo.interrupts import Interrupts


def test_a_signal_raises_once_and_the_former_handlers_come_back() -> None:
    former = signal.getsignal(signal.SIGTERM)
    with Interrupts():
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGHUP)
    assert signal.getsignal(signal.SIGTERM) == former


def test_a_held_signal_strikes_at_the_end_of_the_block() -> None:
    done = []

    def block(interrupts: Interrupts) -> None:
        with interrupts.held():
            signal.raise_signal(signal.SIGTERM)
            done.append("the rest of the block")

    with Interrupts() as interrupts, pytest.raises(KeyboardInterrupt):
        block(interrupts)
    assert done


def test_without_a_signal_nothing_happens() -> None:
    with Interrupts() as interrupts, interrupts.held():
        pass
