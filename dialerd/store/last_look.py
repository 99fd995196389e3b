"""The last look before a call is committed: what came true since its contact was fetched, in the same transaction."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from dialerd.core.model import CallStatus
from dialerd.core.outcome import Fault
from dialerd.core.permit import Refusal, number_refusal
from dialerd.store import contacts, do_not_call
from dialerd.store.prepared import prepared
from dialerd.store.records import Originating
from dialerd.store.schema import call, from_micros
from dialerd.store.tx import Tx

_DIALLED = prepared(
    sa.select(call.c.phone_number, sa.type_coerce(call.c.originated_at, sa.BigInteger)).where(
        call.c.tenant == sa.bindparam("whose"),
        call.c.phone_number.in_(sa.bindparam("keys", expanding=True)),
        call.c.originated_at > sa.bindparam("since"),
        call.c.status != CallStatus.NOT_SENT.value,
        sa.or_(call.c.fault.is_(None), call.c.fault != Fault.TRUNK.value, call.c.ringing_at.is_not(None)),
    )
)
_ON_LIST = Refusal("do_not_call", do_not_call.REASON, None)


async def permitted(tx: Tx, originating: Sequence[Originating]) -> list[Originating]:
    """The calls that may still be placed; the contacts of the others wait for their time, or are cancelled."""
    by_tenant: defaultdict[str, list[Originating]] = defaultdict(list)
    for each in originating:
        by_tenant[each.call.tenant].append(each)
    refused: dict[str, Refusal] = {}
    for tenant, theirs in by_tenant.items():
        refused |= await _refused(tx, tenant, theirs)
    if refused:
        await contacts.put_off(
            tx,
            [
                (each.contact.id, refusal.until, refusal.detail)
                for each in originating
                if (refusal := refused.get(each.call.id)) is not None
            ],
        )
    return [each for each in originating if each.call.id not in refused]


async def _refused(tx: Tx, tenant: str, theirs: Sequence[Originating]) -> dict[str, Refusal]:
    numbers = {each.call.phone_number for each in theirs}
    on_list = await do_not_call.listed(tx.conn, tenant, numbers)
    refused = {each.call.id: _ON_LIST for each in theirs if each.call.phone_number in on_list}
    horizon = max((each.rules.horizon for each in theirs if each.rules and each.rules.horizon), default=None)
    if horizon is None:
        return refused
    now = tx.clock.wall()
    history = await dialled(tx.conn, tenant, numbers, now - horizon)
    for each in theirs:
        moments = history[each.call.phone_number]
        refusal = number_refusal(each.rules, moments, now) if each.rules is not None else None
        if refusal is not None:
            refused.setdefault(each.call.id, refusal)
        elif each.call.id not in refused:
            # The next one of this batch may be to the same number, in another campaign.
            moments.append(now)
    return refused


async def dialled(
    conn: AsyncConnection, tenant: str, numbers: Collection[str], since: datetime
) -> defaultdict[str, list[datetime]]:
    """When each of these numbers was dialled since a moment, in whatever campaign of a tenant.

    A call that its trunk did not carry, and that never rang, reached nobody and is not among them (for instance
    12 CFR 1006.14(b)(3)(iii): calls that do not connect to the dialled number do not count).
    """
    found: defaultdict[str, list[datetime]] = defaultdict(list)
    values = {"whose": tenant, "keys": list(numbers), "since": since}
    for number, moment in await conn.execute(_DIALLED, values):
        found[number].append(from_micros(moment))
    return found
