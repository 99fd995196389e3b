"""The hopper: fetched ahead, never the same contact twice, and never blind to what changes while it fetches."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from dialerd.clock import VirtualClock
from dialerd.core.model import Contact
from dialerd.dispatch import hopper
from dialerd.dispatch.hopper import LEAST, Hopper
from dialerd.store import contact_due
from dialerd.store.contacts import rank_of
from dialerd.store.db import Store
from dialerd.store.errors import StoreError
from dialerd.store.schema import CALLBACK_RANK
from tests.support.contacts import a_contact
from tests.support.virtual import Virtual

TAKES = 0.01
"""Seconds that a fetch takes."""


@dataclass
class List:
    """A store with one campaign's list, as the hopper asks for it."""

    clock: VirtualClock
    pending: dict[int, Contact] = field(default_factory=dict)
    fetches: int = 0
    told: int = 0
    """Contacts that were read, all fetches together."""
    error: Exception | None = None

    @contextlib.asynccontextmanager
    async def read(self) -> AsyncIterator[None]:
        self.fetches += 1
        await self.clock.sleep(TAKES / 2)
        yield

    async def fetch(
        self,
        _conn: object,
        _campaign_id: int,
        now: datetime,
        limit: int,
        without: frozenset[int],
        *,
        since: datetime | None,
        above: int | None,
    ) -> tuple[list[Contact], dict[int, datetime]]:
        if self.error is not None:
            raise self.error
        due = sorted((each for each in self.pending.values() if _when(each) <= now), key=turn)
        upcoming: dict[int, datetime] = {}
        for each in self.pending.values():
            if _when(each) > now:
                rank = rank_of(each)
                upcoming[rank] = min(_when(each), upcoming.get(rank, _when(each)))
        read = [
            each for each in due if (since is None or _when(each) > since) and (above is None or rank_of(each) > above)
        ]
        read = read[: limit + len(without)]
        self.told += len(read)
        found = [each for each in read if each.id not in without][:limit]
        await self.clock.sleep(TAKES / 2)  # the answer is from before whatever happens now
        return found, upcoming

    def add(self, *ids: int, **changes: Any) -> None:
        for each in ids:
            self.pending[each] = a_contact(id=each, **changes)


def turn(each: Contact) -> tuple[int, datetime, int]:
    """The order of dialing."""
    return -rank_of(each), _when(each), each.id


def _when(each: Contact) -> datetime:
    return each.next_attempt_at or datetime.min.replace(tzinfo=UTC)


class Bench:
    """A hopper with one campaign."""

    def __init__(self, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock = clock
        self.list = List(clock)
        monkeypatch.setattr(contact_due, "fetch", self.list.fetch)
        self.tasks: list[asyncio.Task[None]] = []
        self.woken = 0
        self.hopper = Hopper(cast(Store, self.list), clock, self.spawn, self.wake)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self.tasks.append(asyncio.create_task(work))

    def wake(self) -> None:
        self.woken += 1

    def open(self, slots: int = 5) -> None:
        self.hopper.open(1, slots, "one", None)

    @property
    def at_hand(self) -> list[int]:
        return [contact.id for contact in self.hopper.at_hand(1)]

    def take(self) -> Contact:
        contact = self.hopper.at_hand(1)[0]
        self.hopper.take(1, contact)
        return contact

    async def filled(self) -> None:
        self.hopper.fill(1)
        await asyncio.gather(*self.tasks)


@pytest.fixture
def play(virtual: Virtual, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run a scene on a bench."""

    def run(scene: Any) -> None:
        async def main(clock: VirtualClock) -> None:
            bench = Bench(clock, monkeypatch)
            bench.open()
            await scene(bench)
            await asyncio.gather(*bench.tasks)

        virtual(main)

    return run


def test_a_batch_is_fetched_once_and_the_dispatcher_woken(play: Any) -> None:
    async def scene(bench: Bench) -> None:
        bench.list.add(*range(1, 100))
        bench.hopper.fill(1)
        bench.hopper.fill(1)
        assert bench.hopper.loading(1)
        await bench.filled()
        assert bench.at_hand == list(range(1, LEAST + 1))
        assert not bench.hopper.loading(1)
        assert (bench.list.fetches, bench.woken) == (1, 1)
        await bench.filled()
        assert bench.list.fetches == 1

    play(scene)


def test_it_fetches_again_before_it_is_empty(play: Any) -> None:
    async def scene(bench: Bench) -> None:
        bench.list.add(*range(1, 100))
        await bench.filled()
        taken = [bench.take().id for _ in range(LEAST // 2 + 1)]
        await asyncio.gather(*bench.tasks)
        assert bench.list.fetches == 2
        # Nobody who was taken, or is at hand, comes a second time.
        assert bench.at_hand == list(range(len(taken) + 1, len(taken) + 1 + len(bench.at_hand)))
        assert len(bench.at_hand) >= LEAST

    play(scene)


def test_whoever_is_taken_while_a_fetch_is_under_way_is_not_put_back(play: Any) -> None:
    async def scene(bench: Bench) -> None:
        bench.list.add(*range(1, 4))
        await bench.filled()
        bench.hopper.note_due(1, bench.clock.wall(), 0)  # somebody fell due: it looks again
        bench.hopper.fill(1)
        taken = bench.take().id
        await asyncio.gather(*bench.tasks)
        assert taken not in bench.at_hand
        assert bench.at_hand == [2, 3]

    play(scene)


def test_whoever_is_committed_is_fetched_again_only_if_the_store_has_it_pending(play: Any) -> None:
    async def scene(bench: Bench) -> None:
        bench.list.add(1)
        await bench.filled()
        taken = bench.take()
        bench.hopper.note_due(1, bench.clock.wall(), 0)
        await bench.filled()
        assert bench.at_hand == []
        bench.hopper.done(1, taken.id)
        bench.list.add(1, next_attempt_at=bench.clock.wall())  # its call ended, and it is to be dialled again
        bench.hopper.note_due(1, bench.clock.wall(), 0)
        await bench.filled()
        assert bench.at_hand == [1]

    play(scene)


def test_an_empty_list_is_not_asked_for_again_and_again(play: Any) -> None:
    async def scene(bench: Bench) -> None:
        for _ in range(5):
            await bench.filled()
        assert bench.list.fetches == 1

    play(scene)


def test_what_falls_due_is_fetched_when_it_does(play: Any) -> None:
    async def scene(bench: Bench) -> None:
        later = bench.clock.wall() + timedelta(minutes=5)
        bench.list.add(1, next_attempt_at=later)
        await bench.filled()
        assert bench.hopper.next_due(1) == later
        await bench.filled()
        assert bench.list.fetches == 1
        await bench.clock.sleep(301)
        await bench.filled()
        assert bench.at_hand == [1]
        assert bench.hopper.next_due(1) is None

    play(scene)


def test_the_earliest_moment_counts(play: Any) -> None:
    async def scene(bench: Bench) -> None:
        now = bench.clock.wall()
        for minutes in (5, 3, 9):
            bench.hopper.note_due(1, now + timedelta(minutes=minutes), 0)
        assert bench.hopper.next_due(1) == now + timedelta(minutes=3)

    play(scene)


def test_what_falls_due_while_a_fetch_is_under_way_is_not_forgotten(play: Any) -> None:
    """The answer of the store is from before: it must not overwrite what was noted since."""

    async def scene(bench: Bench) -> None:
        bench.hopper.fill(1)
        await bench.clock.sleep(TAKES * 0.9)
        moment = bench.clock.wall() + timedelta(seconds=30)
        bench.list.add(1, next_attempt_at=moment)
        bench.hopper.note_due(1, moment, 0)
        await asyncio.gather(*bench.tasks)
        assert bench.hopper.next_due(1) == moment
        await bench.clock.sleep(31)
        await bench.filled()
        assert bench.at_hand == [1]

    play(scene)


def test_a_list_that_changes_is_fetched_anew(play: Any) -> None:
    async def scene(bench: Bench) -> None:
        bench.list.add(1, 2, 3)
        await bench.filled()
        bench.list.add(9, priority=7)
        del bench.list.pending[2]
        bench.hopper.stir(1)
        await asyncio.gather(*bench.tasks)
        assert bench.at_hand == [9, 1, 3]

    play(scene)


def test_a_list_that_changes_while_it_is_fetched_is_fetched_once_more(play: Any) -> None:
    async def scene(bench: Bench) -> None:
        bench.hopper.fill(1)
        await bench.clock.sleep(TAKES * 0.9)
        bench.list.add(1)
        bench.hopper.stir(1)
        await asyncio.gather(*bench.tasks)
        await bench.filled()
        assert bench.at_hand == [1]

    play(scene)


def test_a_promised_callback_comes_before_all_at_hand(play: Any) -> None:
    async def scene(bench: Bench) -> None:
        bench.list.add(*range(1, 60))
        await bench.filled()
        bench.list.add(99, callback=True, next_attempt_at=bench.clock.wall())
        bench.hopper.note_due(1, bench.clock.wall(), CALLBACK_RANK)
        await bench.filled()
        assert bench.at_hand[0] == 99

    play(scene)


def test_retries_that_fall_due_behind_a_backlog_cost_no_fetch(play: Any) -> None:
    async def scene(bench: Bench) -> None:
        bench.list.add(*range(1, 100))
        await bench.filled()
        fetches = bench.list.fetches
        for number in range(200, 300):
            due = bench.clock.wall() + timedelta(seconds=1)
            bench.list.add(number, next_attempt_at=due)
            bench.hopper.note_due(1, due, 0)
            await bench.clock.sleep(2)
            await bench.filled()
        assert bench.list.fetches == fetches
        assert bench.hopper.next_due(1) is None

    play(scene)


def test_one_that_is_told_of_late_comes_in_its_turn(play: Any) -> None:
    """Behind a backlog, too: it fell due before those of its rank who are at hand."""

    async def scene(bench: Bench) -> None:
        due = bench.clock.wall()
        bench.list.add(*range(1, 100), next_attempt_at=due)
        await bench.filled()
        earlier = due - timedelta(seconds=3)
        bench.list.add(200, next_attempt_at=earlier)
        bench.hopper.note_due(1, earlier, 0)
        await bench.filled()
        assert bench.at_hand[0] == 200

    play(scene)


def test_whoever_may_not_wait_is_fetched_alone(play: Any) -> None:
    """Another who fell due is no further than the backlog that is not at hand."""

    async def scene(bench: Bench) -> None:
        bench.list.add(*range(1, 100))
        await bench.filled()
        due = bench.clock.wall() + timedelta(seconds=1)
        for number, priority in ((200, 0), (300, 5)):
            bench.list.add(number, next_attempt_at=due, priority=priority)
            bench.hopper.note_due(1, due, priority)
        told = bench.list.told
        await bench.clock.sleep(2)
        await bench.filled()
        assert bench.at_hand == [300, *range(1, LEAST + 1)]
        assert bench.list.told == told + 1

    play(scene)


def test_retries_that_fall_due_one_by_one_are_read_once_each(play: Any) -> None:
    """With all that is due at hand, and nobody taking any."""

    async def scene(bench: Bench) -> None:
        bench.list.add(1, 2, 3)
        await bench.filled()
        for number in range(10, 15):
            due = bench.clock.wall() + timedelta(seconds=1)
            bench.list.add(number, next_attempt_at=due)
            bench.hopper.note_due(1, due, 0)
            await bench.clock.sleep(2)
            await bench.filled()
        assert bench.at_hand == [1, 2, 3, *range(10, 15)]
        assert bench.list.told == 8

    play(scene)


@pytest.mark.parametrize("priority", [0, 5])
def test_of_more_than_a_batch_that_fall_due_at_once_none_is_lost(play: Any, priority: int) -> None:
    async def scene(bench: Bench) -> None:
        bench.list.add(*range(LEAST - 1))
        await bench.filled()
        due = bench.clock.wall() + timedelta(seconds=10)
        late = range(100, 100 + 3 * LEAST)
        bench.list.add(*late, next_attempt_at=due, priority=priority)
        bench.hopper.note_due(1, due, priority)
        await bench.clock.sleep(11)
        dialled: list[int] = []
        while len(dialled) < LEAST - 1 + len(late):
            await bench.filled()
            await bench.filled()
            taken = bench.take()
            dialled.append(taken.id)
            del bench.list.pending[taken.id]
            bench.hopper.done(1, taken.id)
        assert dialled == ([*range(LEAST - 1), *late] if priority == 0 else [*late, *range(LEAST - 1)])

    play(scene)


def test_one_that_was_not_put_off_is_fetched_again(play: Any) -> None:
    """Its time in the store is still the one that has passed."""

    async def scene(bench: Bench) -> None:
        bench.list.add(1, 2)
        await bench.filled()
        taken = bench.take()
        bench.hopper.done(1, taken.id)
        bench.hopper.fetch_again(1, bench.clock.wall() + timedelta(seconds=5))
        await bench.filled()
        assert bench.at_hand == [2]
        await bench.clock.sleep(6)
        await bench.filled()
        assert sorted(bench.at_hand) == [1, 2]

    play(scene)


def test_what_is_held_is_bounded_and_nothing_that_is_let_go_is_lost(play: Any) -> None:
    async def scene(bench: Bench) -> None:
        bench.list.add(*range(1, 200))
        dialled: list[int] = []
        while len(dialled) < 199:
            bench.hopper.note_due(1, bench.clock.wall(), 0)
            await bench.filled()
            assert 0 < len(bench.at_hand) <= 2 * LEAST
            taken = bench.take()
            dialled.append(taken.id)
            del bench.list.pending[taken.id]
            bench.hopper.done(1, taken.id)
            await asyncio.gather(*bench.tasks)
        assert sorted(dialled) == list(range(1, 200))

    play(scene)


def test_a_fetch_that_waited_for_the_writer_is_made_as_soon_as_it_has_followed(
    play: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hopper, "_UNCOMMITTED", 3)

    async def scene(bench: Bench) -> None:
        bench.list.add(*range(1, 2 * LEAST))
        await bench.filled()
        taken = [bench.take() for _ in range(LEAST - 1)]
        await bench.filled()
        assert len(bench.at_hand) == 1
        for each in taken:
            del bench.list.pending[each.id]
            bench.hopper.done(1, each.id)
        await asyncio.gather(*bench.tasks)
        assert len(bench.at_hand) == LEAST

    play(scene)


@pytest.mark.parametrize("error", [StoreError("disk full"), ValueError("a row that cannot be read")])
def test_a_fetch_that_fails_is_tried_again_after_a_while(play: Any, error: Exception) -> None:
    async def scene(bench: Bench) -> None:
        bench.list.add(1)
        bench.list.error = error
        bench.hopper.fill(1)
        await bench.clock.sleep(10)
        assert 8 <= bench.list.fetches <= 11
        bench.list.error = None
        await bench.clock.sleep(2)
        assert bench.at_hand == [1]

    play(scene)


def test_a_campaign_that_left_gets_nothing_and_asks_for_nothing(play: Any) -> None:
    async def scene(bench: Bench) -> None:
        bench.list.add(1)
        bench.hopper.fill(1)
        bench.hopper.close(1)
        await asyncio.gather(*bench.tasks)
        for act in (bench.hopper.fill, bench.hopper.stir):
            act(1)
        bench.hopper.done(1, 1)
        bench.hopper.note_due(1, bench.clock.wall(), 0)
        assert bench.list.fetches == 1
        bench.open()
        assert bench.at_hand == []

    play(scene)


def test_a_campaign_that_left_and_came_back_does_not_get_the_old_answer(play: Any) -> None:
    async def scene(bench: Bench) -> None:
        bench.list.add(1)
        bench.hopper.fill(1)
        bench.hopper.close(1)
        del bench.list.pending[1]
        bench.open()
        await bench.filled()
        assert bench.at_hand == []

    play(scene)
