"""Entries of ours in /etc/bootptab: found again, taken out whole, and nobody else's touched."""

from __future__ import annotations

import pytest

from vde_vmnet.addresses import Reservation
from vde_vmnet.wire.bootptab import in_the_way, with_entries, without_entries

APPLE = "# comment\nsomething=old\n%%\n# hostname hwtype hwaddr ipaddr\nnas 1 0:1:2:3:4:5 192.168.105.9\n"
ONE = [Reservation.parse("52:54:00:00:00:01=192.168.105.21,web")]
TWO = [Reservation.parse("52:54:00:00:00:02=192.168.105.22")]


def test_a_file_of_our_own() -> None:
    assert with_entries("", "aaaa", ONE) == (
        "# vde_vmnet aaaa\n%%\n# vde_vmnet aaaa\nweb\t1\t52:54:00:00:00:01\t192.168.105.21\n"
    )
    assert without_entries(with_entries("", "aaaa", ONE), "aaaa") == ""


@pytest.mark.parametrize("text", ["", APPLE, "# only a comment\n", "%%\n"])
def test_what_goes_in_comes_out(text: str) -> None:
    both = with_entries(with_entries(text, "aaaa", ONE), "bbbb", TWO)
    assert both.count("%%") == 1
    for first, second in (("aaaa", "bbbb"), ("bbbb", "aaaa")):
        left = without_entries(both, first)
        assert left.count("%%") == 1, "the separator stays as long as an entry needs it"
        assert left.index("%%") < left.index("192.168.105.2")
        assert without_entries(left, second) == text


def test_putting_them_in_again_replaces_them() -> None:
    once = with_entries(APPLE, "aaaa", ONE)
    assert with_entries(once, "aaaa", ONE) == once
    assert "192.168.105.21" not in with_entries(once, "aaaa", TWO)


def test_names_are_made_up_where_there_are_none() -> None:
    assert "vde-525400000002\t1\t52:54:00:00:00:02\t192.168.105.22\n" in with_entries("", "aaaa", TWO)


@pytest.mark.parametrize(
    ("line", "asked", "in_way"),
    [
        ("nas 1 52:54:0:0:0:1 192.168.105.9", ONE, True),  # the machine has another address there
        ("nas 1 0:1:2:3:4:5 192.168.105.21", ONE, True),  # the address is another machine's
        ("web 1 52:54:0:0:0:1 192.168.105.21", ONE, False),  # says the same
        ("nas 1 0:1:2:3:4:5 192.168.105.9", ONE, False),
        ("broken line", ONE, False),
        ("nas 1 no:mac 192.168.105.9", ONE, False),
    ],
)
def test_who_is_in_the_way(line: str, asked: list[Reservation], in_way: bool) -> None:
    assert in_the_way(f"%%\n{line}\n", "aaaa", asked) == (line if in_way else None)


def test_another_network_of_ours_is_in_the_way_and_we_are_not() -> None:
    theirs = with_entries("", "bbbb", [Reservation.parse("52:54:00:00:00:09=192.168.105.21")])
    assert in_the_way(theirs, "aaaa", ONE) is not None
    assert in_the_way(theirs, "bbbb", ONE) is None


def test_what_stands_before_the_separator_is_no_host() -> None:
    assert in_the_way("nas 1 0:1:2:3:4:5 192.168.105.21\n%%\n", "aaaa", ONE) is None
