"""Whatever falls due, is added, taken and retried: whose turn it is stands first, and nobody is taken twice."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dialerd.clock import VirtualClock
from dialerd.store.contacts import rank_of
from tests.support.effort import examples
from tests.support.virtual import run_virtual
from tests.unit.test_hopper import TAKES, Bench, turn

RANKS = st.sampled_from([0, 0, 5, -5])
MANY = st.sampled_from([1, 2, 5, 25, 60])
SECONDS = st.sampled_from([-3, 0, 1, 5, 20])
"""Until a retry falls due; of one that is committed late, it has fallen due already."""
TAKE = st.tuples(st.just("take"), MANY, st.booleans())
RETRY = st.tuples(st.sampled_from(["retry", "race"]), MANY, SECONDS)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), MANY, RANKS),
        *(TAKE, TAKE, RETRY, RETRY),
        st.tuples(st.just("sleep"), st.integers(0, 30), st.none()),
    ),
    min_size=10,
    max_size=60,
)


class Scene:
    """A list that lives, and a hopper of it."""

    def __init__(self, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock = clock
        self.bench = Bench(clock, monkeypatch)
        self.bench.open()
        self.number = 0
        self.out: dict[int, int] = {}
        """Whose call is under way, by their numbers, with the priority of each."""

    async def play(self, step: tuple[str, int, int | bool | None]) -> None:
        """Take one step, and let the hopper come to rest."""
        what, count, more = step
        await getattr(self, what)(count, more)
        await self.rest()
        self.check()

    async def rest(self) -> None:
        """Fill as the dispatcher does, until nothing is due that was not looked for."""
        hopper = self.bench.hopper
        for _ in range(5):
            hopper.fill(1)
            await asyncio.gather(*self.bench.tasks)
        due = hopper.next_due(1)
        assert due is None or due > self.clock.wall() - timedelta(seconds=1), "it asks again and again"

    def check(self) -> None:
        """Whose turn it is stands first; nobody is there twice, or was taken."""
        now, at_hand = self.clock.wall(), self.bench.at_hand
        assert len(at_hand) == len(set(at_hand))
        assert not set(at_hand) & set(self.out)
        due = [
            each
            for each in self.bench.list.pending.values()
            if each.id not in self.out and (each.next_attempt_at is None or each.next_attempt_at <= now)
        ]
        if due:
            assert at_hand, "somebody is due, and nobody at hand"
            assert at_hand[0] == min(due, key=turn).id

    async def add(self, count: int, priority: int | None) -> None:
        """An upload."""
        self.bench.list.add(*range(self.number, self.number + count), priority=priority)
        self.number += count
        self.bench.hopper.stir(1)

    async def take(self, count: int, ends: bool | None) -> None:
        """Calls are placed; they end well, or are under way."""
        for _ in range(count):
            if not self.bench.at_hand:
                await self.rest()
            if not self.bench.at_hand:
                return
            taken = self.bench.take()
            assert taken.id in self.bench.list.pending, "taken twice"
            assert taken.id not in self.out, "taken twice"
            if ends:
                del self.bench.list.pending[taken.id]
                self.bench.hopper.done(1, taken.id)
            else:
                self.out[taken.id] = taken.priority

    async def retry(self, count: int, seconds: int | None) -> None:
        """Calls end, and their contacts wait for the next attempt."""
        assert seconds is not None
        for contact_id in list(self.out)[:count]:
            self._again(contact_id, self.out.pop(contact_id), seconds)

    async def sleep(self, seconds: int, _: None) -> None:
        """Time passes."""
        await self.clock.sleep(seconds)

    async def race(self, count: int, seconds: int | None) -> None:
        """Calls end while a fetch is under way, or between two."""
        self.bench.hopper.fill(1)
        await self.clock.sleep(0.6 * TAKES)
        await self.retry(count, seconds)

    def _again(self, contact_id: int, priority: int, seconds: int) -> None:
        due = self.clock.wall() + timedelta(seconds=seconds)
        self.bench.list.add(contact_id, priority=priority, next_attempt_at=due)
        self.bench.hopper.done(1, contact_id)
        self.bench.hopper.note_due(1, due, rank_of(self.bench.list.pending[contact_id]))


@settings(max_examples=examples(300))
@given(steps=STEPS)
def test_whose_turn_it_is_stands_first(steps: list[tuple[str, int, int | bool | None]]) -> None:
    async def main(clock: VirtualClock) -> None:
        with pytest.MonkeyPatch.context() as monkeypatch:
            scene = Scene(clock, monkeypatch)
            for each in steps:
                await scene.play(each)

    run_virtual(1, main)
