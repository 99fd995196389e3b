"""The journal: while the store fails nothing is lost and nothing changes its order, and one bad step stops no other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import cast

import pytest

from dialerd.clock import VirtualClock
from dialerd.core.model import CallStatus, ContactStatus
from dialerd.dispatch.journal import GATHER_SECONDS, Journal
from dialerd.store.db import Store
from dialerd.store.errors import StoreError
from dialerd.store.records import CallStep, EventKind, Originating
from dialerd.telemetry.metrics import Metrics
from tests.support.contacts import a_contact
from tests.support.records import a_step, an_originating
from tests.support.virtual import START, Virtual

FAILS = StoreError("disk full")
NEVER = StoreError("half a character", permanent=True)


@dataclass
class Scripted:
    """The store's one method that the journal uses: what it takes, it keeps in order."""

    clock: VirtualClock
    answer: Callable[[Sequence[Originating], Sequence[CallStep]], None] = lambda _calls, _steps: None
    steps: list[CallStep] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    tries: list[float] = field(default_factory=list)

    async def record(self, originating: Sequence[Originating], moved: Sequence[CallStep]) -> frozenset[str]:
        self.tries.append(self.clock.mono())
        await self.clock.sleep(0.001)
        self.answer(originating, moved)
        self.steps += moved
        self.calls += [each.call.id for each in originating]
        return frozenset(each.call.id for each in originating)


@dataclass
class Bench:
    """A journal on a scripted store."""

    clock: VirtualClock
    metrics: Metrics

    def __post_init__(self) -> None:
        self.store = Scripted(self.clock)
        self.journal = Journal(cast(Store, self.store), self.clock, self.metrics)
        self.written: list[CallStep] = []
        self.journal.on_written = self.written.extend
        self.journal.start()

    async def idle(self) -> None:
        await self.journal.close(3600)

    def fail(self, error: StoreError, *, while_: Callable[[], bool] = lambda: True) -> None:
        def answer(_calls: object, _steps: object) -> None:
            if while_():
                raise error

        self.store.answer = answer

    def dropped(self) -> float:
        return float(self.metrics.dropped.labels("journal_step")._value.get())


def made(call_id: str) -> Originating:
    return an_originating(a_contact(id=int(call_id[1:]), campaign_id=1), call_id, START)


def step(call_id: str, status: CallStatus = CallStatus.RINGING) -> CallStep:
    return a_step(made(call_id), EventKind.RINGING, ContactStatus.ORIGINATED, START, status=status)


def test_steps_are_written_in_their_order_and_told_once_they_are_durable(virtual: Virtual, metrics: Metrics) -> None:
    async def main(clock: VirtualClock) -> None:
        bench = Bench(clock, metrics)
        steps = [step(f"c{index}") for index in range(5)]
        for each in steps[:3]:
            bench.journal.step(each)
        await clock.sleep(GATHER_SECONDS + 0.0005)  # the first commit is under way
        assert bench.journal.backlog == 3
        assert not bench.written
        for each in steps[3:]:
            bench.journal.step(each)
        assert bench.journal.backlog == 5
        await bench.idle()
        assert bench.store.steps == bench.written == steps
        assert bench.journal.backlog == 0
        assert len(bench.store.tries) == 2

    virtual(main)


def test_steps_wait_a_little_for_company(virtual: Virtual, metrics: Metrics) -> None:
    async def main(clock: VirtualClock) -> None:
        bench = Bench(clock, metrics)
        for index in range(6):
            bench.journal.step(step(f"c{index}"))
            await clock.sleep(GATHER_SECONDS / 4)
        await bench.journal.durable()
        assert bench.store.tries == pytest.approx([GATHER_SECONDS, 1.5 * GATHER_SECONDS])
        await bench.idle()

    virtual(main)


def test_a_call_waits_for_nothing_and_takes_the_steps_along(virtual: Virtual, metrics: Metrics) -> None:
    async def main(clock: VirtualClock) -> None:
        bench = Bench(clock, metrics)
        bench.journal.step(step("c1"))
        await clock.sleep(GATHER_SECONDS / 4)
        assert await bench.journal.originate([made("c2")]) == {"c2"}
        assert bench.store.tries == pytest.approx([GATHER_SECONDS / 4])
        assert [each.call.id for each in bench.store.steps] == ["c1"]
        await bench.idle()

    virtual(main)


def test_whoever_waits_for_the_steps_waits_for_their_commit_alone(virtual: Virtual, metrics: Metrics) -> None:
    async def main(clock: VirtualClock) -> None:
        bench = Bench(clock, metrics)
        bench.journal.step(step("c1"))
        await bench.journal.durable()
        assert clock.mono() < GATHER_SECONDS / 4
        assert len(bench.store.steps) == 1
        await bench.idle()

    virtual(main)


def test_while_the_store_fails_steps_wait_and_keep_their_order(virtual: Virtual, metrics: Metrics) -> None:
    async def main(clock: VirtualClock) -> None:
        bench = Bench(clock, metrics)
        bench.fail(FAILS, while_=lambda: clock.mono() < 60)
        steps = [step(f"c{index}") for index in range(20)]
        for each in steps:
            bench.journal.step(each)
            await clock.sleep(2)
        assert bench.journal.backlog == 20
        await clock.sleep(60)
        assert bench.store.steps == bench.written == steps
        # It is tried again with growing pauses, never in a tight loop and never given up.
        tries = [each for each in bench.store.tries if each < 60]
        assert 30 <= len(tries) <= 200
        assert bench.dropped() == 0
        await bench.idle()

    virtual(main)


def test_a_call_is_refused_at_once_while_the_store_fails(virtual: Virtual, metrics: Metrics) -> None:
    async def main(clock: VirtualClock) -> None:
        bench = Bench(clock, metrics)
        bench.fail(FAILS)
        with pytest.raises(StoreError, match="disk full"):
            await bench.journal.originate([made("c1")])
        assert clock.mono() < 0.1
        bench.store.answer = lambda _calls, _steps: None
        assert await bench.journal.originate([made("c2")]) == {"c2"}
        assert bench.store.calls == ["c2"]
        await bench.idle()

    virtual(main)


def test_each_group_hears_of_its_own_calls(virtual: Virtual, metrics: Metrics) -> None:
    async def main(clock: VirtualClock) -> None:
        bench = Bench(clock, metrics)
        groups = [["c1", "c2"], ["c3"], []]
        answers = await asyncio.gather(*(bench.journal.originate([made(each) for each in group]) for group in groups))
        assert answers == [frozenset(group) for group in groups]
        assert len(bench.store.tries) == 1
        await bench.idle()

    virtual(main)


def test_one_step_that_can_never_be_written_is_dropped_alone(virtual: Virtual, metrics: Metrics) -> None:
    async def main(clock: VirtualClock) -> None:
        bench = Bench(clock, metrics)
        steps = [step(f"c{index}") for index in range(5)]

        def answer(_calls: object, moved: Sequence[CallStep]) -> None:
            if steps[2] in moved:
                raise NEVER

        bench.store.answer = answer
        for each in steps:
            bench.journal.step(each)
        await bench.idle()
        assert bench.store.steps == bench.written == [steps[0], steps[1], steps[3], steps[4]]
        assert bench.dropped() == 1

    virtual(main)


def test_a_store_that_fails_among_single_steps_keeps_them_ahead_of_newer_ones(
    virtual: Virtual, metrics: Metrics
) -> None:
    """The later state of a call must be written later: else it would ring again after its end."""

    async def main(clock: VirtualClock) -> None:
        bench = Bench(clock, metrics)
        bad, ringing, ended = step("c1"), step("c2"), step("c2", CallStatus.ENDED)
        newest = replace(ended, call=replace(ended.call, hangup_text="the last word"))

        def answer(_calls: object, moved: Sequence[CallStep]) -> None:
            if bad in moved:
                raise NEVER
            if clock.mono() < 5:
                raise FAILS

        bench.store.answer = answer
        for each in (bad, ringing, ended):
            bench.journal.step(each)
        # It comes while the steps are written one by one, each in a commit of its own.
        await clock.sleep(GATHER_SECONDS + 0.0015)
        assert (len(bench.store.tries), bench.journal.backlog) == (2, 3)
        bench.journal.step(newest)
        await clock.sleep(60)
        assert bench.store.steps == [ringing, ended, newest]
        assert bench.dropped() == 1
        assert len(bench.store.tries) < 30
        await bench.idle()

    virtual(main)


def test_closing_gives_up_after_its_deadline_and_counts_what_is_lost(virtual: Virtual, metrics: Metrics) -> None:
    async def main(clock: VirtualClock) -> None:
        bench = Bench(clock, metrics)
        bench.fail(FAILS)
        for index in range(3):
            bench.journal.step(step(f"c{index}"))
        begun = clock.mono()
        await bench.journal.close(10)
        assert clock.mono() - begun == pytest.approx(10, abs=0.1)
        assert bench.dropped() == 3

    virtual(main)


def test_durable_waits_for_the_steps_taken_so_far_and_no_others(virtual: Virtual, metrics: Metrics) -> None:
    async def main(clock: VirtualClock) -> None:
        bench = Bench(clock, metrics)
        await bench.journal.durable()  # nothing is waited for
        bench.fail(FAILS, while_=lambda: clock.mono() < 3)
        first = step("c1")
        bench.journal.step(first)
        waiting = asyncio.create_task(bench.journal.durable())
        await clock.sleep(2)
        assert not waiting.done()
        bench.journal.step(step("c2"))
        await waiting
        assert first in bench.store.steps
        await bench.idle()

    virtual(main)


def test_durable_ends_also_with_a_step_that_can_never_be_written(virtual: Virtual, metrics: Metrics) -> None:
    async def main(clock: VirtualClock) -> None:
        bench = Bench(clock, metrics)
        bench.fail(NEVER)
        bench.journal.step(step("c1"))
        await bench.journal.durable()
        assert bench.dropped() == 1
        await bench.idle()

    virtual(main)
