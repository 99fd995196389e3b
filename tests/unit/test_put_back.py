"""Contacts that are put back: their budgets are as before the call, and whoever has moved on is left alone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from dialerd.clock import SystemClock
from dialerd.core.model import CallStatus, CampaignStatus, Contact, ContactStatus
from dialerd.core.outcome import Fault, Outcome
from dialerd.store import calls, campaigns, contacts, events, last_look
from dialerd.store.db import Store
from dialerd.store.put_back import PutBack, put_back
from dialerd.store.records import CallStep, EventKind, Originating
from dialerd.store.tx import Tx
from dialerd.telemetry.metrics import Metrics
from tests.support.records import a_row, a_step, add_campaign, add_contacts, due, originate
from tests.support.stores import new_store


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = Store(new_store(tmp_path / "dialerd.db"), SystemClock(seed=1), Metrics())
    await opened.open()
    await add_campaign(opened, keep_open=True)
    await add_contacts(opened, a_row(1), a_row(2, priority=3), a_row(3))
    yield opened
    await opened.close()


async def failed(store: Store, outcome: Outcome = Outcome.INVALID_NUMBER) -> list[PutBack]:
    """Every contact was dialled and failed: for good where the number is unknown, else until its retry."""
    made = await originate(store, await due(store))
    steps = [_end(each, outcome, store) for each in made]
    await store.record([], steps)
    before = [replace(each.contact, status=ContactStatus.PENDING, attempts=0) for each in made]
    found = []
    for was, step in zip(before, steps, strict=True):
        assert step.contact is not None
        found.append(PutBack(step.call, was, step.contact))
    return found


def _end(made: Originating, outcome: Outcome, store: Store) -> CallStep:
    now = store.clock.wall()
    final = outcome is Outcome.INVALID_NUMBER
    status, kind = (
        (ContactStatus.FAILED, EventKind.FAILED) if final else (ContactStatus.PENDING, EventKind.RETRY_SCHEDULED)
    )
    fault = Fault.NUMBER if final else Fault.TRUNK
    step = a_step(made, kind, status, now, status=CallStatus.ENDED, outcome=outcome, fault=fault, ended_at=now)
    assert step.contact is not None
    settled = replace(
        step.contact,
        callee_tries=int(final),
        mishaps=int(not final),
        outcomes={outcome.value: 1},
        next_attempt_at=None if final else now + timedelta(minutes=30),
    )
    return replace(step, contact=settled)


async def give_back(store: Store, failures: list[PutBack]) -> int:
    return await store.write(lambda tx: put_back(tx, failures))


async def known(store: Store, contact_id: int) -> Contact:
    async with store.read() as conn:
        return (await contacts.get_many(conn, [contact_id]))[contact_id]


@pytest.mark.parametrize("outcome", [Outcome.INVALID_NUMBER, Outcome.CONGESTION])
async def test_a_contact_is_due_again_with_the_budgets_it_had(store: Store, outcome: Outcome) -> None:
    failures = await failed(store, outcome)
    assert await give_back(store, failures) == 3
    for each in failures:
        contact = await known(store, each.after.id)
        assert contact.status is ContactStatus.PENDING
        assert (contact.callee_tries, contact.mishaps, dict(contact.outcomes)) == (0, 0, {})
        assert (contact.attempts, contact.last_outcome) == (1, outcome)
    assert [contact.id for contact in await due(store)] == [2, 1, 3], "by priority, as ever"
    async with store.read() as conn:
        placed = await calls.page(conn, 1, limit=10, offset=0)
        stats = (await campaigns.stats(conn, [1]))[1]
        told = [event.draft for event in await events.after(conn, 1, 0, 100)]
    assert {call.fault for call in placed} == {Fault.TRUNK}
    assert (stats.contacts[ContactStatus.PENDING], stats.contacts[ContactStatus.FAILED]) == (3, 0)
    again = [draft for draft in told if draft.kind is EventKind.RETRY_SCHEDULED and draft.status == "pending"]
    assert len(again) == 3
    assert {draft.outcome for draft in again} == {outcome}


async def test_a_second_time_changes_nothing(store: Store) -> None:
    failures = await failed(store)
    await give_back(store, failures)
    assert await give_back(store, failures) == 0


async def test_whoever_was_dialled_again_is_left_alone(store: Store) -> None:
    failures = await failed(store)
    await give_back(store, failures)
    (made,) = await originate(store, (await due(store))[:1])
    assert await give_back(store, failures) == 0
    assert (await known(store, made.contact.id)).status is ContactStatus.ORIGINATED


@pytest.mark.parametrize("status", [CampaignStatus.CANCELLED, CampaignStatus.COMPLETED])
async def test_a_campaign_that_has_ended_gets_nobody_back(store: Store, status: CampaignStatus) -> None:
    failures = await failed(store)
    await store.write(lambda tx: campaigns.set_status(tx, 1, status))
    assert await give_back(store, failures) == 0
    assert (await known(store, 1)).status is ContactStatus.FAILED


async def test_a_hidden_campaign_gets_nobody_back(store: Store) -> None:
    failures = await failed(store)
    await store.write(lambda tx: campaigns.set_visible(tx, 1, visible=False))
    assert await give_back(store, failures) == 0


async def test_whoever_was_cancelled_meanwhile_stays_so(store: Store) -> None:
    failures = await failed(store, Outcome.CONGESTION)

    async def cancel(tx: Tx) -> None:
        assert await contacts.cancel_one(tx, 1, "by hand")

    await store.write(cancel)
    assert await give_back(store, failures) == 2
    assert (await known(store, 1)).status is ContactStatus.CANCELLED


async def test_a_call_that_its_trunk_did_not_carry_counts_in_no_cap(store: Store) -> None:
    failures = await failed(store)
    number = failures[0].call.phone_number
    since = store.clock.wall() - timedelta(days=1)

    async def dialled() -> int:
        async with store.read() as conn:
            return len((await last_look.dialled(conn, "one", [number], since))[number])

    assert await dialled() == 1
    await give_back(store, failures)
    assert await dialled() == 0
