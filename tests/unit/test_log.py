"""How a line of the log looks, and what is left out of it."""

import json
import logging
import os
import re
import sys

import pytest

from vde_vmnet import log
from vde_vmnet.log import RateLimit, about

LOG = logging.getLogger("vde_vmnet.test_log")


@pytest.fixture(autouse=True)
def _clean() -> object:
    yield
    root = logging.getLogger("vde_vmnet")
    root.handlers.clear()
    root.propagate = True
    root.setLevel(logging.NOTSET)


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().err.splitlines()


def test_text_has_fields_at_its_end(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure(level="info")
    LOG.info("hello\nworld", extra=about("port_up", port=1, name='a "b" = c', uid=None, reason=""))
    LOG.warning("plain")
    LOG.debug("not this")
    assert lines(capsys) == [
        r'INFO  | hello ⏎ world event=port_up port=1 name="a \"b\" = c"',
        "WARN  | plain",
    ]


def test_a_daemon_s_lines_have_times_unless_the_journal_has(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    log.configure(level="info", timed=True)
    LOG.info("hello")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} INFO  \| hello", lines(capsys)[0])
    with open(os.devnull, "w") as stream:  # noqa: PTH123 - a file with a descriptor, as stderr is
        status = os.fstat(stream.fileno())
        monkeypatch.setattr(sys, "stderr", stream)
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
        log.configure(level="info", timed=True)
        (handler,) = logging.getLogger("vde_vmnet").handlers
        assert handler.format(logging.makeLogRecord({"msg": "hello", "levelname": "INFO"})) == "INFO  | hello"
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino + 1}")
        log.configure(level="info", timed=True)
        (handler,) = logging.getLogger("vde_vmnet").handlers
        assert handler.format(logging.makeLogRecord({"msg": "hello"})) != "INFO  | hello"


def test_json_is_one_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure(level="info", json=True)
    LOG.error("it %s", "broke\n", extra=about("trouble", port=7, message="not this", level="nor this"))
    told = json.loads(lines(capsys)[0])
    assert told["message"] == "it broke ⏎ " and told["level"] == "error"
    assert told["event"] == "trouble" and told["port"] == 7 and told["pid"] == os.getpid()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d", told["time"])


def test_the_level_changes_and_observers_have_events_all_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure(level="debug")
    assert log.get_level() == "debug"
    log.set_level("error")
    LOG.warning("not this")
    assert lines(capsys) == [] and log.get_level() == "error"
    assert logging.getLogger("vde_vmnet").isEnabledFor(logging.INFO)
    assert not log.is_written(logging.WARNING)


def record(message: str, when: float, level: int = logging.INFO) -> logging.LogRecord:
    return logging.makeLogRecord({"msg": message, "created": when, "levelno": level})


def test_what_repeats_is_written_a_few_times_and_counted() -> None:
    limit = RateLimit(burst=3, per_second=1.0)
    assert [limit.filter(record("again", 100.0)) for _ in range(5)] == [True] * 3 + [False] * 2
    assert limit.filter(record("another", 100.0))
    assert limit.filter(record("again", 100.0, logging.DEBUG)), "debug may repeat"
    later = record("again", 101.0)
    assert limit.filter(later) and later.omitted == 2  # type: ignore[attr-defined]
    assert "more like this were not logged" not in log.one_line(later)
    assert not limit.filter(record("again", 101.5))
    much_later = [record("again", 200.0) for _ in range(4)]
    assert [limit.filter(one) for one in much_later] == [True] * 3 + [False]
    # A clock that is set back gives nothing away, and breaks nothing.
    assert not limit.filter(record("again", 50.0))


def test_what_was_left_out_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure(level="info")
    handler = logging.getLogger("vde_vmnet").handlers[0]
    handler.filters[:] = [RateLimit(burst=1, per_second=1.0)]
    for when in (100.0, 100.0, 100.0, 103.0):
        logging.getLogger("vde_vmnet").handle(record("again", when))
    assert [line.partition("| ")[2] for line in lines(capsys)] == [
        "again",
        "again (2 more like this were not logged)",
    ]
