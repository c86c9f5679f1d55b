"""The screen of top, from looks and keys."""

from __future__ import annotations

import pytest
from rich.cells import cell_len

from tests.unit.observe.networks import STARTED, counters, network, port, reply
from vde_vmnet.observe.top import Model, Screen, look, press, render, sparkline

SCREEN = Screen(120, 10)


def shown(model: Model, screen: Screen = SCREEN) -> list[str]:
    return [line.split()[0] if line.strip() else "" for line in render(model, screen)[3:-1]]


@pytest.fixture
def model() -> Model:
    ports = [port(1, "beta"), port(2, "Alpha"), port(3, "gamma", up=False), port(65535, "tap", "uplink")]
    first = look(Model(network()), ports, reply(STARTED, p1=counters(0), p2=counters(0), p3=counters(0)))
    after = reply(STARTED + 10, p1=counters(10), p2=counters(30, full=5), p3=counters(20))
    return look(first, ports, after)


def test_the_first_look_has_no_rates_yet() -> None:
    first = look(Model(network()), [port(1)], reply(STARTED, p1=counters(9)))
    row = render(first, SCREEN)[3]
    assert row.startswith("1 ") and "bit/s" not in row


def test_every_line_is_as_wide_as_the_screen(model: Model) -> None:
    for screen in (SCREEN, Screen(20, 4), Screen(300, 50), Screen(80, 5)):
        lines = render(model, screen)
        assert len(lines) == screen.height
        assert {cell_len(line) for line in lines} == {screen.width}


def test_what_it_says(model: Model) -> None:
    lines = render(model, SCREEN)
    assert lines[0].startswith("/run/vde.ctl  linux shared  up 10 s  4 ports  every 1 s")
    assert lines[2].split()[:4] == ["PORT", "KIND", "NAME", "ADDRESS"]
    assert lines[4].split()[:8] == ["2", "vde", "Alpha", "192.168.105.2", "2.40", "kbit/s", "2.40", "kbit/s"]
    assert "down" in lines[5]
    assert "q quit" in lines[-1]


@pytest.mark.parametrize(
    ("keys", "order"),
    [
        ("n", ["1", "2", "3", "uplink"]),
        ("nn", ["1", "2", "3", "uplink"]),
        ("i", ["2", "3", "1", "uplink"]),
        ("ii", ["uplink", "1", "3", "2"]),
        ("iii", ["2", "3", "1", "uplink"]),
        ("d", ["2", "1", "3", "uplink"]),
        ("m", ["2", "1", "3", "uplink"]),
        ("im", ["2", "1", "3", "uplink"]),
    ],
)
def test_sorting(model: Model, keys: str, order: list[str]) -> None:
    for key in keys:
        model = press(model, key)
    found = [name for name in shown(model) if name]
    assert found == (order if keys != "n" else order[::-1]), "n again turns the order round"


def test_scrolling_stops_at_both_ends(model: Model) -> None:
    small = Screen(80, 6)  # two rows
    assert shown(model, small) == ["1", "2"]
    assert shown(press(press(model, "j"), "\x1b[B"), small) == ["3", "uplink"]
    down = model
    for _ in range(9):
        down = press(down, "j")
    assert shown(down, small) == ["3", "uplink"]
    assert shown(press(model, "k"), small) == ["1", "2"]


def test_pause_speed_and_quit(model: Model) -> None:
    paused = press(model, " ")
    assert "paused" in render(paused, SCREEN)[0]
    later = reply(STARTED + 20, p1=counters(9999))
    assert look(paused, [], later) == paused
    assert look(press(paused, "p"), [], later).ports == ()
    assert press(model, "+").interval == 0.5
    assert press(press(model, "-"), "-").interval == 5.0
    assert press(model, "q").done and press(model, "\x03").done
    assert press(model, "ü") == model


def test_a_name_cannot_break_the_screen() -> None:
    wild = look(Model(network()), [port(1, "\x1b[2J宽宽宽宽宽宽宽宽宽宽")], reply(STARTED, p1=counters(1)))
    line = render(wild, SCREEN)[3]
    assert "\x1b" not in line and cell_len(line) == 120


def test_sparklines() -> None:
    assert sparkline([0, 1, 2, 4, 8], 5) == "▁▂▃▅█"
    assert sparkline([1, 2, 3], 2) == "▆█"
    assert sparkline([5], 3) == "  █"
    assert sparkline([0, 0], 2) == "▁▁"
    assert sparkline([], 2) == "  "
    assert sparkline([1], 0) == ""
    assert sparkline([0, 8], 2, unicode=False) == ".#"
