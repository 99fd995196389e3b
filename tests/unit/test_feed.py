"""The feed: each event once and in order to every reader, and a slow one is told that it is behind."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from dialerd.dispatch.feed import Feed, Lagged
from dialerd.store.records import Event, EventDraft, EventKind
from dialerd.store.tx import Committed

DEADLINE = 5.0
AT = datetime(2026, 3, 2, tzinfo=UTC)


def publish(feed: Feed, *numbers: int, campaign_id: int = 1) -> None:
    """Tell events of these numbers, in one commit."""
    drafts = [EventDraft(EventKind.RINGING, campaign_id, "originated", AT) for _ in numbers]
    feed.publish(Committed(tuple(Event(seq, draft) for seq, draft in zip(numbers, drafts, strict=True)), ()))


async def test_a_reader_gets_what_comes_after_it_came() -> None:
    feed = Feed()
    publish(feed, 1, 2)
    with feed.follow(1) as reader:
        publish(feed, 3)
        publish(feed, 4, 5)
        assert [event.seq for event in await reader.next()] == [3, 4, 5]


async def test_a_page_ends_at_its_limit_and_the_next_goes_on_there() -> None:
    feed = Feed()
    with feed.follow(1) as reader:
        publish(feed, *range(1, 8))
        pages = [[event.seq for event in await reader.next(3)] for _ in range(3)]
    assert pages == [[1, 2, 3], [4, 5, 6], [7]]


async def test_a_reader_waits_until_something_comes() -> None:
    feed = Feed()
    with feed.follow(1) as reader:
        waiting = asyncio.ensure_future(reader.next())
        publish(feed, 1, campaign_id=2)
        publish(feed, 2)
        async with asyncio.timeout(DEADLINE):
            assert [event.seq for event in await waiting] == [2]


async def test_every_reader_gets_every_event() -> None:
    feed = Feed()
    with feed.follow(1) as early:
        publish(feed, 1)
        with feed.follow(1) as late:
            publish(feed, 2)
            assert [event.seq for event in await early.next()] == [1, 2]
            assert [event.seq for event in await late.next()] == [2]


async def test_other_campaigns_are_not_told() -> None:
    feed = Feed()
    with feed.follow(1) as reader, feed.follow(2) as other:
        publish(feed, 1, 3, campaign_id=1)
        publish(feed, 2, 4, campaign_id=2)
        assert [event.seq for event in await reader.next()] == [1, 3]
        assert [event.seq for event in await other.next()] == [2, 4]


async def test_a_slow_reader_is_told_that_it_is_behind_and_goes_on_from_its_new_place() -> None:
    feed = Feed(ring=3)
    with feed.follow(1) as reader:
        publish(feed, 1, 2, 3, 4)
        with pytest.raises(Lagged):
            await reader.next()
        # It caught up from the store, up to the last event of the feed.
        reader.after = feed.last
        publish(feed, 5)
        assert [event.seq for event in await reader.next()] == [5]


async def test_the_ring_is_used_to_its_last_place() -> None:
    feed = Feed(ring=3)
    with feed.follow(1) as reader:
        publish(feed, 1, 2, 3)
        assert [event.seq for event in await reader.next(1)] == [1]
        publish(feed, 4)  # what falls out is what the reader has
        assert [event.seq for event in await reader.next()] == [2, 3, 4]


async def test_a_reader_that_catches_up_meanwhile_misses_nothing_and_reads_nothing_twice() -> None:
    """It reads the store up to 3 while the feed goes on: its place decides, not when it came."""
    feed = Feed()
    publish(feed, 1)
    with feed.follow(1) as reader:
        publish(feed, 2, 3)
        reader.after = 3
        publish(feed, 4)
        assert [event.seq for event in await reader.next()] == [4]


async def test_a_campaign_that_nobody_follows_is_not_kept() -> None:
    feed = Feed()
    with feed.follow(1), feed.follow(1):
        publish(feed, 1)
    publish(feed, 2)
    with feed.follow(1) as reader:
        assert reader.after == feed.last == 2
        publish(feed, 3)
        assert [event.seq for event in await reader.next()] == [3]


async def test_a_reader_that_leaves_leaves_the_others() -> None:
    feed = Feed()
    with feed.follow(1) as stays:
        with feed.follow(1):
            publish(feed, 1)
        publish(feed, 2)
        assert [event.seq for event in await stays.next()] == [1, 2]


async def test_what_is_skipped_is_read_from_the_store_and_what_follows_is_told() -> None:
    feed = Feed()
    with feed.follow(1) as reader, feed.follow(2) as other:
        publish(feed, 1, 2)
        feed.skip(20)
        publish(feed, 21)
        for each in (reader, other):
            with pytest.raises(Lagged):
                await each.next()
        reader.after = 19  # the store had one up to there
        with pytest.raises(Lagged):
            await reader.next()
        reader.skip()
        assert (feed.last, [event.seq for event in await reader.next()]) == (21, [21])
    with feed.follow(2) as late:
        feed.skip(7)
        assert (late.after, feed.last) == (21, 21)
        publish(feed, 22, campaign_id=2)
        assert [event.seq for event in await late.next()] == [22]
