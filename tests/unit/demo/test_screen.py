"""What the demo shows."""

import io

import pytest

from vde_vmnet.demo.checks import Row
from vde_vmnet.demo.screen import Screen, render_table

ROWS = [Row("DHCP lease", True, "192.168.105.2/24", 0.25), Row("ping guest -> host", False, "no answer", 12.0)]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_table_is_aligned() -> None:
    heading, *lines = render_table(ROWS, colour=False).splitlines()
    assert len(lines) == len(ROWS)
    column = heading.index("WHAT WAS SEEN")
    assert [line[column:] for line in lines] == ["192.168.105.2/24", "no answer"]
    assert [line.split()[0] for line in lines] == ["ok", "FAILED"]


def test_colour_changes_nothing_but_colour() -> None:
    painted = render_table(ROWS, colour=True)
    assert "\x1b[32m" in painted and "\x1b[31m" in painted
    for code in ("\x1b[1m", "\x1b[32m", "\x1b[31m", "\x1b[0m"):
        painted = painted.replace(code, "")
    assert painted == render_table(ROWS, colour=False)


def test_colour_is_for_terminals_that_want_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    file, terminal = io.StringIO(), Terminal()
    for stream in (file, terminal):
        Screen(stream).table(ROWS)
    assert "\x1b" not in file.getvalue()
    assert "\x1b" in terminal.getvalue()
    monkeypatch.setenv("NO_COLOR", "1")
    plain = Terminal()
    Screen(plain).table(ROWS)
    assert "\x1b" not in plain.getvalue()


def test_a_step_says_what_before_and_how_long_after() -> None:
    stream = io.StringIO()
    screen = Screen(stream)
    with screen.step("Booting"):
        assert stream.getvalue() == "Booting ... "
    assert stream.getvalue() == "Booting ... 0.0 s\n"


def test_a_step_that_fails_ends_its_line() -> None:
    stream = io.StringIO()
    with pytest.raises(OSError), Screen(stream).step("Booting"):
        raise OSError
    assert stream.getvalue() == "Booting ... no\n"
