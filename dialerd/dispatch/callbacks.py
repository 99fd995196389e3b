"""Promised callbacks: a contact is dialled at the promised time, inside the window, ahead of all else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, timedelta
from typing import Any

import structlog

from dialerd.clock import Clock
from dialerd.core import contact as contact_table
from dialerd.core.campaign import FINISHED
from dialerd.core.contact import ContactEvent
from dialerd.core.machine import IllegalTransition, step
from dialerd.core.model import Campaign, Contact, ContactStatus, Tenant
from dialerd.core.permit import prefix_refusal
from dialerd.core.phone import BadNumber, normalise
from dialerd.dispatch.errors import FieldError, Rejected
from dialerd.dispatch.requests import NewCallback
from dialerd.intake.rows import IntakeOptions
from dialerd.store import callbacks, campaigns, contacts, do_not_call
from dialerd.store.callbacks import Callback, CallbackStatus
from dialerd.store.db import Store
from dialerd.store.records import EventDraft, EventKind
from dialerd.store.tx import Tx

log = structlog.get_logger(__name__)

_PAST = timedelta(days=1)
"""How far back a promise may lie: clocks differ, and a form may be sent late."""
_AHEAD = timedelta(days=3660)
WITHDRAWN = "its callback was withdrawn"


class Callbacks:
    """Promises and withdraws callbacks. A contact has one promise at most: a newer one replaces it."""

    def __init__(
        self, store: Store, clock: Clock, options: Callable[[Tenant], IntakeOptions], on_changed: Callable[[int], None]
    ) -> None:
        self._store = store
        self._clock = clock
        self._options = options
        self._on_changed = on_changed

    async def promise(self, tenant: Tenant, campaign_id: int, new: NewCallback) -> Callback:
        """Promise a callback to a contact, or to a number: one that the campaign does not have becomes a contact.

        A contact whose way has ended is pending again, with fresh retry budgets. Raises StoreError and Rejected:
        ``campaign_not_found``, ``campaign_finished``, ``contact_not_found``, ``contact_not_pending`` where its call is
        in flight or it was cancelled, ``invalid_request`` where the number may not be dialled or ``due_at`` not kept.
        """
        number = None if new.phone_number is None else self._normalised(tenant, new.phone_number)
        wanted = replace(new, phone_number=number)

        async def promise(tx: Tx) -> Callback:
            campaign = await _open_campaign(tx, tenant, campaign_id)
            self._check_time(campaign, wanted)
            contact = await _known(tx, campaign_id, wanted)
            await _check_number(tx, tenant, wanted, number if contact is None else contact.phone_number)
            if contact is not None:
                return await self._promise(tx, contact, wanted)
            return await self._promise(tx, await self._add(tx, campaign_id, wanted), wanted, brought=True)

        made = await self._store.write(promise)
        self._on_changed(campaign_id)
        log.info(
            "callback_promised",
            tenant=tenant.id,
            campaign_id=campaign_id,
            contact_id=made.contact_id,
            due_at=made.due_at,
        )
        return made

    async def withdraw(self, tenant: Tenant, campaign_id: int, callback_id: int) -> None:
        """Withdraw a pending promise: its contact is due at once, or cancelled where only the promise brought it.

        Raises StoreError and Rejected: ``campaign_not_found``, ``callback_not_found``.
        """

        async def withdraw(tx: Tx) -> None:
            if await campaigns.get(tx.conn, tenant.id, campaign_id) is None:
                raise Rejected("campaign_not_found", "there is no such campaign")
            found = await callbacks.get(tx.conn, campaign_id, callback_id)
            if found is None or found.status is not CallbackStatus.PENDING:
                raise Rejected("callback_not_found", "there is no such callback")
            await callbacks.set_status(tx, [found.contact_id], CallbackStatus.CANCELLED, callback_id=callback_id)
            if found.revived:
                await contacts.cancel_one(tx, found.contact_id, WITHDRAWN)
            else:
                await contacts.release(tx, found.contact_id)

        await self._store.write(withdraw)
        self._on_changed(campaign_id)

    async def _promise(self, tx: Tx, contact: Contact, new: NewCallback, *, brought: bool = False) -> Callback:
        fresh = contact.status is not ContactStatus.PENDING
        if fresh:
            _step_back(contact)
            last = contact.last_outcome
            tx.stats(contact.campaign_id).move(contact.status, ContactStatus.PENDING, had=last, has=last)
        earlier = await callbacks.pending_of(tx.conn, contact.id)
        await callbacks.set_status(tx, [contact.id], CallbackStatus.CANCELLED)
        made = Callback(
            id=self._clock.number(),
            campaign_id=contact.campaign_id,
            contact_id=contact.id,
            phone_number=contact.phone_number,
            due_at=new.due_at.astimezone(UTC),
            note=new.note,
            revived=brought or fresh or any(each.revived for each in earlier),
            status=CallbackStatus.PENDING,
            created_at=tx.clock.wall(),
        )
        await callbacks.insert(tx, made)
        await contacts.promise(tx, contact.id, made.due_at, fresh=fresh)
        tx.emit(
            EventDraft(
                EventKind.CALLBACK_SCHEDULED,
                contact.campaign_id,
                ContactStatus.PENDING.value,
                made.created_at,
                contact.id,
                phone_number=contact.phone_number,
            )
        )
        return made

    async def _add(self, tx: Tx, campaign_id: int, new: NewCallback) -> Contact:
        """Make a contact of a number that nobody uploaded: it is there for its promise alone."""
        row: dict[str, Any] = {
            "id": self._clock.number(),
            "phone_number": new.phone_number,
            "priority": 0,
            "attributes": {},
        }
        if await contacts.insert(tx, campaign_id, contacts.BASE_LIST, [{"id": self._clock.number(), **row}]) == 0:
            # An upload that is not published yet has the number.
            raise Rejected("contact_not_found", "there is no such contact")
        tx.stats(campaign_id).move(None, ContactStatus.PENDING)
        made = await _known(tx, campaign_id, new)
        assert made is not None
        return made

    def _check_time(self, campaign: Campaign, new: NewCallback) -> None:
        now, end_at = self._clock.wall(), campaign.settings.end_at
        message = None
        if new.due_at < now - _PAST:
            message = "lies in the past"
        elif new.due_at > now + _AHEAD:
            message = "lies more than ten years ahead"
        elif end_at is not None and new.due_at >= end_at:
            message = "comes after the campaign's end_at"
        if message is not None:
            raise _unfit("due_at", message)

    def _normalised(self, tenant: Tenant, number: str) -> str:
        options = self._options(tenant)
        try:
            return normalise(number, options.default_region, options.validate)
        except BadNumber as error:
            raise _unfit("phone_number", error.message) from None


async def _open_campaign(tx: Tx, tenant: Tenant, campaign_id: int) -> Campaign:
    found = await campaigns.get(tx.conn, tenant.id, campaign_id)
    if found is None:
        raise Rejected("campaign_not_found", "there is no such campaign")
    if found.status in FINISHED:
        raise Rejected("campaign_finished", f"the campaign is {found.status.value}")
    return found


async def _known(tx: Tx, campaign_id: int, new: NewCallback) -> Contact | None:
    if new.phone_number is not None:
        return await contacts.by_number(tx.conn, campaign_id, new.phone_number)
    assert new.contact_id is not None
    found = await contacts.get(tx.conn, campaign_id, new.contact_id)
    if found is None:
        raise Rejected("contact_not_found", "there is no such contact")
    return found


async def _check_number(tx: Tx, tenant: Tenant, new: NewCallback, number: str | None) -> None:
    """Promise nothing that the rules would never let us keep."""
    field = "contact_id" if new.phone_number is None else "phone_number"
    assert number is not None
    if await do_not_call.listed(tx.conn, tenant.id, [number]):
        raise _unfit(field, "the number is on the do-not-call list")
    if refusal := prefix_refusal(tenant, number):
        raise _unfit(field, refusal.detail)


def _step_back(contact: Contact) -> None:
    try:
        step(contact_table.TRANSITIONS, contact.status, ContactEvent.CALLBACK)
    except IllegalTransition:
        raise Rejected("contact_not_pending", f"the contact is {contact.status.value}") from None


def _unfit(field: str, message: str) -> Rejected:
    return Rejected("invalid_request", "the request does not fit", [FieldError(field, message)])
