"""A call's last step that is written after its campaign ended: nobody is left pending in an ended campaign."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from dialerd.clock import SystemClock
from dialerd.core.model import Call, CallStatus, Campaign, CampaignStatus, ContactStatus
from dialerd.core.outcome import Fault, Outcome
from dialerd.core.settings import CampaignSettings
from dialerd.store import campaigns, contact_due, contacts, events
from dialerd.store.db import Store
from dialerd.store.records import CallStep, EventDraft, EventKind, Originating
from dialerd.store.tx import Tx
from dialerd.telemetry.metrics import Metrics
from tests.support.stores import new_store

NUMBER = "+12025550100"


async def test_a_contact_that_comes_back_to_a_stopped_campaign_is_cancelled(tmp_path: Path, metrics: Metrics) -> None:
    url, clock = new_store(tmp_path / "dialerd.db"), SystemClock()
    store = Store(url, clock, metrics)
    await store.open()
    try:
        now = clock.wall()
        campaign = Campaign(1, "one", "c", None, None, CampaignStatus.ACTIVE, CampaignSettings(), now, now)
        row = dict.fromkeys(("first_name", "last_name", "email", "company", "timezone", "external_id"))

        async def make(tx: Tx) -> None:
            await campaigns.insert(tx, campaign, visible=True)
            new: dict[str, Any] = {**row, "id": 2, "phone_number": NUMBER, "priority": 0, "attributes": {}}
            await contacts.insert(tx, campaign.id, contacts.BASE_LIST, [new])
            tx.stats(campaign.id).move(None, ContactStatus.PENDING, 1)

        await store.write(make)
        async with store.read() as conn:
            [waiting], _ = await contact_due.claim(conn, campaign.id, now, 1, frozenset())
        call = Call("a", "one", 1, 2, 1, "main", "t", None, None, NUMBER, CallStatus.ORIGINATED, now)
        dialled = replace(waiting, status=ContactStatus.ORIGINATED, attempts=1)
        told = EventDraft(EventKind.ORIGINATED, 1, dialled.status.value, now, contact_id=2, call_id="a")
        assert await store.record([Originating(call, dialled, told)], []) == {"a"}

        # The stop is committed, and its pending contacts are cancelled, before the step of the withdrawn call.
        await store.write(lambda tx: campaigns.set_status(tx, 1, CampaignStatus.CANCELLED, completed_at=now))
        ended = replace(
            call, status=CallStatus.NOT_SENT, outcome=Outcome.CANCELLED, fault=Fault.NONE, ended_at=clock.wall()
        )
        back = replace(dialled, status=ContactStatus.PENDING)
        told = replace(told, kind=EventKind.RETRY_SCHEDULED, status=back.status.value)
        await store.record([], [CallStep(ended, back, ContactStatus.ORIGINATED, told)])

        async with store.read() as conn:
            contact = (await contacts.get_many(conn, [2]))[2]
            stats = (await campaigns.stats(conn, [1]))[1]
            kinds = [event.draft.kind for event in await events.after(conn, 1, 0, 10)]
        assert contact.status is ContactStatus.CANCELLED
        assert stats.contacts[ContactStatus.CANCELLED] == stats.total == 1
        assert kinds == [EventKind.ORIGINATED, EventKind.RETRY_SCHEDULED, EventKind.CANCELLED]
    finally:
        await store.close()
