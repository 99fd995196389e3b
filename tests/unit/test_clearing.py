"""Long works in short steps: bounded, beside other commits, and taken up again where they broke off."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from dialerd.clock import Clock, SystemClock, VirtualClock
from dialerd.core.model import CallStatus, CampaignStatus, ContactStatus
from dialerd.core.outcome import Outcome
from dialerd.dispatch import pace
from dialerd.dispatch.clearing import Clearing
from dialerd.dispatch.pace import LEAST, MOST, Pace
from dialerd.store import campaigns, contact_due, contact_list, contacts, do_not_call, imports, removal, staging
from dialerd.store.contact_list import Filter
from dialerd.store.db import GROUP_WEIGHT, Store
from dialerd.store.errors import StoreError
from dialerd.store.imports import Import
from dialerd.store.records import EventKind
from dialerd.store.schema import contact, contact_number
from dialerd.store.staging import Place
from dialerd.telemetry.metrics import Metrics
from tests.support.records import a_row, a_step, add_campaign, add_contacts, due, originate
from tests.support.stores import new_store
from tests.support.virtual import run_virtual

MANY = 1300


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = Store(new_store(tmp_path / "dialerd.db"), SystemClock(), Metrics())
    await opened.open()
    yield opened
    await opened.close()


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The rows that each step was to write."""
    seen: list[int] = []
    write = Pace.write

    async def watched(self: Pace, operation: Any, rows: int | None = None) -> Any:
        seen.append(self.rows if rows is None else rows)
        return await write(self, operation, rows)

    monkeypatch.setattr(Pace, "write", watched)
    return seen


async def left(store: Store, table: sa.Table = contact) -> int:
    async with store.read() as conn:
        return await conn.scalar(sa.select(sa.func.count()).select_from(table)) or 0


async def totals(store: Store) -> dict[tuple[ContactStatus | None, Outcome | None], tuple[int, int]]:
    """For every filter what the counters say, and what is listed."""
    found = {}
    async with store.read() as conn:
        for status in (None, *ContactStatus):
            for outcome in (None, *Outcome):
                chosen = Filter(status, outcome)
                listed = await contact_list.page(conn, 1, chosen, limit=10_000)
                found[status, outcome] = (await contact_list.total(conn, 1, chosen), len(listed))
    return found


async def test_a_stop_cancels_all_in_bounded_steps_and_leaves_what_is_staged(store: Store, steps: list[int]) -> None:
    await add_campaign(store, status=CampaignStatus.CANCELLED)
    await add_contacts(store, *(a_row(each) for each in range(1, MANY + 1)))
    await store.write(lambda tx: imports.begin(tx, Import(5000, 1, staged=True)))
    await store.write(lambda tx: contacts.insert(tx, 1, 5000, [a_row(each) for each in range(5001, 5011)]))
    await Clearing(store, store.clock).cancel_pending(1, "stopped")
    assert len(steps) > 2
    assert max(steps) <= MOST
    async with store.read() as conn:
        stats = (await campaigns.stats(conn, [1]))[1]
        staged = await conn.scalar(
            sa.select(sa.func.count()).where(contact.c.list_id == 5000, contact.c.status == "pending")
        )
    assert (stats.contacts[ContactStatus.PENDING], stats.contacts[ContactStatus.CANCELLED]) == (0, MANY)
    assert staged == 10


async def test_a_work_that_breaks_off_goes_on_where_it_stopped(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    await add_campaign(store, status=CampaignStatus.CANCELLED)
    await add_contacts(store, *(a_row(each) for each in range(1, MANY + 1)))
    await store.write(lambda tx: campaigns.set_visible(tx, 1, visible=False))
    remove = removal.of_campaign
    times = 3

    async def breaks(tx: Any, campaign_id: int, rows: int) -> int:
        nonlocal times
        times -= 1
        if times == 0:
            raise StoreError("disk full")
        return await remove(tx, campaign_id, rows)

    monkeypatch.setattr(removal, "of_campaign", breaks)
    with pytest.raises(StoreError):
        await Clearing(store, store.clock).remove_campaign(1)
    assert 0 < await left(store, contact_number) < MANY
    async with store.read() as conn:
        assert await removal.hidden(conn) == [1], "the next start finds it"
    await Clearing(store, store.clock).remove_deleted(1)
    assert (await left(store), await left(store, contact_number)) == (0, 0)
    async with store.read() as conn:
        assert await removal.hidden(conn) == []


async def test_contacts_in_flight_outlive_their_campaign(store: Store) -> None:
    await add_campaign(store)
    await add_contacts(store, a_row(1), a_row(2))
    [made] = await originate(store, (await due(store))[:1])
    await store.write(lambda tx: campaigns.set_status(tx, 1, CampaignStatus.CANCELLED))
    await store.write(lambda tx: campaigns.set_visible(tx, 1, visible=False))
    await Clearing(store, store.clock).remove_campaign(1)
    async with store.read() as conn:
        assert list((await conn.execute(sa.select(contact.c.id))).scalars()) == [made.contact.id]
        assert await removal.hidden(conn) == [], "nothing can be removed now"
    now = store.clock.wall()
    ended = a_step(made, EventKind.FAILED, ContactStatus.FAILED, now, status=CallStatus.ENDED, outcome=Outcome.BUSY)
    await store.record([], [ended])
    async with store.read() as conn:
        assert await removal.hidden(conn) == [1]


async def test_other_commits_come_between_the_steps(store: Store) -> None:
    await add_campaign(store, status=CampaignStatus.CANCELLED)
    await add_contacts(store, *(a_row(each) for each in range(1, MANY + 1)))
    clearing = asyncio.create_task(Clearing(store, store.clock).cancel_pending(1, "stopped"))
    seen = set()
    while not clearing.done():
        await store.write(lambda tx: campaigns.set_status(tx, 1, CampaignStatus.CANCELLED))
        async with store.read() as conn:
            seen.add((await campaigns.stats(conn, [1]))[1].contacts[ContactStatus.PENDING])
    await clearing
    assert len(seen) >= 3, "it was seen half done"


async def test_a_recall_makes_due_who_was_put_off_and_nobody_else(store: Store, steps: list[int]) -> None:
    await add_campaign(store)
    await add_contacts(store, *(a_row(each) for each in range(1, MANY + 1)), a_row(9001), a_row(9002))
    now = store.clock.wall()
    later = now + timedelta(hours=5)
    for start in range(1, MANY + 1, 400):
        off = [(each, later, "closed") for each in range(start, min(start + 400, MANY + 1))]
        await store.write(lambda tx, off=off: contacts.put_off(tx, off))  # type: ignore[misc]
    await store.write(lambda tx: contacts.promise(tx, 9001, later, fresh=False))
    (made,) = await originate(store, [each for each in await due(store) if each.id == 9002])
    busy = {"status": CallStatus.ENDED, "outcome": Outcome.BUSY, "ended_at": now}
    retried = a_step(made, EventKind.RETRY_SCHEDULED, ContactStatus.PENDING, now, **busy)
    assert retried.contact is not None
    await store.record([], [replace(retried, contact=replace(retried.contact, next_attempt_at=later))])
    assert await due(store) == []
    await Clearing(store, store.clock).recall(1)
    assert max(steps) <= MOST
    async with store.read() as conn:
        found, upcoming = await contact_due.claim(conn, 1, now, MANY + 5, frozenset())
    assert {each.id for each in found} == set(range(1, MANY + 1)), "a promise and a retry keep their time"
    assert upcoming == later


async def test_counters_of_outcomes_equal_a_count_whatever_happens(store: Store) -> None:
    await add_campaign(store)
    await add_contacts(store, *(a_row(each) for each in range(1, 11)))
    made = await originate(store, (await due(store))[:6])
    now = store.clock.wall()
    ends = [
        (EventKind.COMPLETED, ContactStatus.COMPLETED, Outcome.ANSWERED),
        (EventKind.FAILED, ContactStatus.FAILED, Outcome.BUSY),
        (EventKind.RETRY_SCHEDULED, ContactStatus.PENDING, Outcome.BUSY),
        (EventKind.RETRY_SCHEDULED, ContactStatus.PENDING, Outcome.NO_ANSWER),
    ]
    await store.record(
        [],
        [
            a_step(each, kind, status, now, status=CallStatus.ENDED, outcome=outcome, ended_at=now)
            for each, (kind, status, outcome) in zip(made, ends, strict=False)
        ],
    )
    again = [each for each in await due(store) if each.last_outcome is not None]
    assert len(again) == 2
    (second, _) = await originate(store, again)
    rejected = {"status": CallStatus.ENDED, "outcome": Outcome.REJECTED}
    step = a_step(second, EventKind.FAILED, ContactStatus.FAILED, now, **rejected)
    await store.record([], [replace(step, outcome_was=second.contact.last_outcome)])
    await Clearing(store, store.clock).cancel_pending(1, "stopped")
    counted = await totals(store)
    assert {chosen: pair for chosen, pair in counted.items() if pair[0] != pair[1]} == {}
    assert counted[ContactStatus.FAILED, Outcome.REJECTED] == (1, 1)


async def test_staged_numbers_are_taken_once_and_not_if_they_are_unwanted(store: Store) -> None:
    await add_campaign(store)
    await add_contacts(store, a_row(1))  # +12025000001
    await store.write(lambda tx: do_not_call.add(tx, "one", {"+12025000003": None}))
    upload = Import(100, 1, staged=True)
    await store.write(lambda tx: imports.begin(tx, upload))
    place = Place("one", 1, 100, range(200, 200 + 5 * 8, 8))
    numbers = '[[0,"+12025000001"],[1,"+12025000002"],[4,"+12025000002"],[2,"+12025000003"],[3,"+12025000004"]]'
    refused = await store.write(lambda tx: staging.take_numbers(tx, place, 5, numbers))
    assert (refused.duplicates, refused.unwanted) == ((0, 4), (2,))
    rest = '"Zoë",null,null,null,null'
    rows = ",".join(f'[{each},"+1202500000{n}",{rest},{each},"e",""]' for each, n in enumerate("12342"))
    assert await store.write(lambda tx: staging.insert(tx, place, f"[{rows}]", [0, 4, 2])) == 2
    await store.write(lambda tx: imports.publish(tx, replace(upload, added=2)))
    async with store.read() as conn:
        listed = await contact_list.page(conn, 1, Filter(), limit=10)
        assert await contacts.by_number(conn, 1, "+12025000003") is None
    assert [(each.id, each.phone_number, each.first_name, each.priority) for each in listed] == [
        (1, "+12025000001", None, 0),
        (208, "+12025000002", "Zoë", 1),
        (224, "+12025000004", "Zoë", 3),
    ]
    assert listed[1].attributes == {}
    assert listed[1].external_id == "e"


class TestPages:
    @pytest.mark.parametrize("staged", [False, pytest.param(True, marks=pytest.mark.slow)])
    async def test_every_page_of_every_filter_by_both_paginations(self, store: Store, staged: bool) -> None:
        await self.fill(store, staged=staged)
        async with store.read() as conn:
            everyone = {each.id: each for each in await contact_list.page(conn, 1, Filter(), limit=1000)}
            assert len(everyone) == 60
            for status in (None, *ContactStatus):
                for outcome in (None, Outcome.BUSY):
                    for search in (None, "+1202500000", "+1 (202)", "Ann", "5000001"):
                        await self.check(conn, everyone, Filter(status, outcome, search))

    async def check(self, conn: Any, everyone: dict[int, Any], chosen: Filter) -> None:
        def wanted(each: Any) -> bool:
            text = chosen.search
            plain = None if text is None else "".join(char for char in text if char in "+0123456789")
            return (
                (chosen.status is None or each.status is chosen.status)
                and (chosen.outcome is None or each.last_outcome is chosen.outcome)
                and (
                    text is None
                    or (text.startswith("+") and each.phone_number.startswith(plain))
                    or (not text.startswith("+") and (text in (each.first_name or "") or text in each.phone_number))
                )
            )

        expected = [each for each in everyone.values() if wanted(each)]
        expected.sort(key=lambda each: each.phone_number if chosen.prefix is not None else each.id)
        total = await contact_list.total(conn, 1, chosen)
        assert total == len(expected), chosen
        for offset in range(0, total + 8, 7):
            for known in (None, total):
                page = await contact_list.page(conn, 1, chosen, limit=7, offset=offset, total=known)
                assert page == expected[offset : offset + 7], (chosen, offset, known)
        walked: list[Any] = []
        while page := await contact_list.page(conn, 1, chosen, limit=7, after=walked[-1].id if walked else None):
            walked += page
        assert walked == expected, chosen

    @staticmethod
    async def fill(store: Store, *, staged: bool) -> None:
        """Base contacts before, beside and after uploads, one of which is staged; numbers in the order opposite."""
        await add_campaign(store)

        def rows(first: int) -> list[dict[str, Any]]:
            ids, names = range(first, first + 15), ("Bo", "Ann", "Anna")
            return [a_row(each, phone_number=f"+1202{5_000_900 - each}", first_name=names[each % 3]) for each in ids]

        await add_contacts(store, *rows(1))
        await store.write(lambda tx: imports.begin(tx, Import(100, 1, staged=True)))
        await add_contacts(store, *rows(101), list_id=100)
        await store.write(lambda tx: imports.publish(tx, Import(100, 1, staged=True)))
        if staged:
            await store.write(lambda tx: imports.begin(tx, Import(200, 1, staged=True)))
            await store.write(lambda tx: contacts.insert(tx, 1, 200, rows(201)))
        await add_contacts(store, *rows(301))
        if staged:
            await store.write(lambda tx: imports.begin(tx, Import(400, 1, staged=True)))
            await store.write(lambda tx: imports.publish(tx, Import(400, 1, staged=True)))
        await add_contacts(store, *rows(401))
        made = await originate(store, [each for each in await due(store) if each.id % 4 == 0])
        now = store.clock.wall()
        await store.record(
            [],
            [
                a_step(
                    each,
                    EventKind.FAILED,
                    ContactStatus.FAILED if each.contact.id % 8 else ContactStatus.PENDING,
                    now,
                    status=CallStatus.ENDED,
                    outcome=Outcome.BUSY,
                )
                for each in made
            ],
        )


def test_a_pace_learns(monkeypatch: pytest.MonkeyPatch) -> None:
    learnt = Pace(_Writer(SystemClock(), 0), SystemClock())  # type: ignore[arg-type]
    for _ in range(50):
        learnt._learn(learnt.rows, pace.WORK_SECONDS / 4, pace.WORK_SECONDS / 2)
    assert learnt.rows == MOST
    learnt._learn(learnt.rows, pace.WORK_SECONDS / 4, pace.HOLD_SECONDS * 2)
    assert learnt.rows < MOST, "a slow flush makes steps smaller, too"
    for _ in range(50):
        learnt._learn(learnt.rows, pace.WORK_SECONDS * 10, pace.WORK_SECONDS * 10)
    assert learnt.rows == LEAST
    learnt._learn(LEAST // 4, 0.0, 0.0)
    assert learnt.rows == LEAST, "a step that had little to do says nothing"


class _Writer:
    """A store whose commits take a while, and in which others write beside each of ours."""

    def __init__(self, clock: Clock, others: int) -> None:
        self._clock = clock
        self._others = others
        self.jobs = 0

    async def write(self, operation: Callable[[Any], Awaitable[Any]], *, weight: int) -> Any:
        assert weight == GROUP_WEIGHT
        self.jobs += 1 + self._others
        result = await operation(None)
        await self._clock.sleep(0.02)
        return result


@pytest.mark.parametrize(("others", "seconds"), [(0, 0.06), (1, 0.06 * (1 + pace.REST))])
def test_a_pace_leaves_the_writer_to_others_where_there_are_any(others: int, seconds: float) -> None:
    async def some(_tx: object) -> int:
        return 5

    async def three_steps(clock: VirtualClock) -> float:
        begun = clock.mono()
        measured = Pace(_Writer(clock, others), clock)  # type: ignore[arg-type]
        for _ in range(3):
            assert await measured.write(some) == 5
        return clock.mono() - begun

    assert run_virtual(1, three_steps) == pytest.approx(seconds)
