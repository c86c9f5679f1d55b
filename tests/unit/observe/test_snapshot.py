"""Rates from two looks, and amounts as people read them."""

from __future__ import annotations

import pytest

from tests.unit.observe.networks import counters, reply
from vde_vmnet.observe.snapshot import Rate, amount, bits, drops_text, rates, total_rate


def test_the_difference_of_two_looks_is_a_rate() -> None:
    before = reply(10.0, p1=counters(100), p2=counters(5, full=1))
    after = reply(12.0, p1=counters(300), p2=counters(5, full=4, runt=3))
    assert rates(before, after) == {1: Rate(100, 10000, 100, 10000, 0), 2: Rate(0, 0, 0, 0, 3)}
    assert total_rate(before, after).frames == 200


def test_who_left_and_who_came() -> None:
    before = reply(10.0, p1=counters(1000), p2=counters(50))
    after = reply(11.0, p1=counters(10), p3=counters(7))
    found = rates(before, after)
    # Somebody left port 1, and with them what they had counted.
    assert found[1].rx_frames == 10
    assert found[3].rx_frames == 7
    assert 2 not in found


def test_two_looks_at_the_same_moment_are_no_rate() -> None:
    same = reply(10.0, p1=counters(5))
    assert rates(same, reply(10.0, p1=counters(9)))[1] == Rate()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"), (7, "7"), (0.25, "0.25"), (12.345, "12.3"), (999, "999"), (999.7, "1.00 k"), (1000, "1.00 k"),
        (12_345, "12.3 k"), (999_900, "1.00 M"), (4_560_000, "4.56 M"), (1e9, "1.00 G"), (1e19, "10000 P"),
    ],
)  # fmt: skip
def test_amounts(value: float, text: str) -> None:
    assert amount(value) == text


def test_bits_and_drops() -> None:
    assert bits(0) == "0 bit/s"
    assert bits(125_000) == "1.00 Mbit/s"
    assert drops_text({}) == "0"
    assert drops_text({"runt": 2, "queue_full": 10, "oversized": 0}) == "12: queue_full 10, runt 2"
