"""What is remembered and sent on is bounded, in order, and never waits for a reader."""

import asyncio
import logging
from collections.abc import Iterator

import pytest

from vde_vmnet import log
from vde_vmnet.control.feed import Feed, Record
from vde_vmnet.log import about

LOG = logging.getLogger("vde_vmnet.test_feed")


@pytest.fixture
def feed(capsys: pytest.CaptureFixture[str]) -> Iterator[Feed]:
    log.configure(level="warning")
    feed = Feed()
    feed.open()
    yield feed
    feed.end()
    capsys.readouterr()
    root = logging.getLogger("vde_vmnet")
    root.handlers.clear()
    root.propagate = True
    root.setLevel(logging.NOTSET)


async def some(feed: Feed, number: int, since: int | None = None) -> list[Record]:
    reader = feed.subscribe("events", since=since, on_drop=pytest.fail)
    found = []
    async for record in reader.records():
        found.append(record)
        if len(found) == number:
            break
    feed.unsubscribe(reader)
    return found


def test_events_are_told_whatever_the_level_and_lines_by_it(feed: Feed) -> None:
    LOG.info("in %d words", 3, extra=about("port_up", port=1, name="", uid=None))
    LOG.info("no event")
    LOG.warning("trouble")
    events = feed.kept("events")
    assert [(one.seq, one.message, one.fields) for one in events] == [
        (1, "in 3 words", {"event": "port_up", "port": 1}),
        (2, "trouble", {"event": "trouble"}),
    ]
    assert [line.message for line in feed.kept("lines")] == ["trouble"]
    assert feed.counts == {"port_up": 1, "trouble": 1}


def test_only_so_much_is_remembered(feed: Feed) -> None:
    for number in range(1200):
        LOG.info("%s", "x" * 3000, extra=about("changed", port=number))
    kept = feed.kept("events")
    assert len(kept) == 1000 and kept[-1].seq == 1200 and len(kept[0].message) == 1000
    assert [one.seq for one in feed.kept("events", since=1198)] == [1199, 1200]
    assert [one.seq for one in feed.kept("events", most=1)] == [1200]


def test_a_reader_gets_the_past_and_what_comes(feed: Feed) -> None:
    async def read() -> list[Record]:
        LOG.info("one", extra=about("changed"))
        reading = asyncio.ensure_future(some(feed, 2, since=0))
        await asyncio.sleep(0)
        LOG.info("two", extra=about("changed"))
        return await reading

    assert [one.message for one in asyncio.run(read())] == ["one", "two"]


def test_one_that_does_not_read_is_dropped_and_the_others_are_not(feed: Feed) -> None:
    dropped: list[str] = []

    async def flood() -> list[Record]:
        feed.subscribe("events", since=None, on_drop=lambda: dropped.append("stuck"))
        reading = asyncio.ensure_future(some(feed, 3000))
        for _ in range(30):
            await asyncio.sleep(0)
            for number in range(100):
                LOG.info("%d", number, extra=about("changed"))
        return await reading

    assert len(asyncio.run(flood())) == 3000 and dropped == ["stuck"]


def test_its_end_is_the_readers_end(feed: Feed) -> None:
    async def read() -> list[str]:
        reader = feed.subscribe("lines", since=None, on_drop=pytest.fail)
        LOG.error("the last one")
        feed.end()
        return [one.message async for one in reader.records()]

    assert asyncio.run(read()) == ["the last one"]
