"""Contacts of an upload put into the store, a part of a run at a time, as the text in which its parser told them.

SQLite reads the JSON itself: a row costs a third of what it takes to make Python's objects of it and to bind them, and
the event loop's thread has nothing to do with it meanwhile. PostgreSQL does the same (:mod:`postgres_staging`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from dialerd.store.schema import to_micros
from dialerd.store.tx import Tx

# :first and :step make the id of a contact out of its place in the run.
_ID = ":first + :step * json_extract(value, '$[0]')"
_NUMBER = "json_extract(value, '$[1]')"
_TAKE = sa.text(
    f"""
    INSERT INTO contact_number (campaign_id, phone_number, contact_id)
    SELECT :campaign, {_NUMBER}, {_ID} FROM json_each(:part)
    WHERE NOT EXISTS (SELECT 1 FROM do_not_call WHERE tenant = :tenant AND phone_number = {_NUMBER})
    ON CONFLICT (campaign_id, phone_number) DO NOTHING
    """  # noqa: S608 - constants of ours
)
_REFUSED = sa.text(
    f"""
    SELECT json_extract(value, '$[0]') AS place,
        EXISTS (SELECT 1 FROM do_not_call WHERE tenant = :tenant AND phone_number = {_NUMBER}) AS unwanted
    FROM json_each(:part) LEFT JOIN contact_number
        ON campaign_id = :campaign AND phone_number = {_NUMBER} AND contact_id = {_ID}
    WHERE contact_id IS NULL
    """  # noqa: S608
)
_TEXTS = ("first_name", "last_name", "email", "company", "timezone", "priority", "rank", "external_id", "attributes")
_PLACES = (2, 3, 4, 5, 6, 7, 7, 8, 9)
_INSERT = f"""
    INSERT INTO contact (id, campaign_id, list_id, phone_number, {", ".join(_TEXTS)},
        status, attempts, callee_tries, mishaps, outcomes, due_at, updated_at)
    SELECT {_ID}, :campaign, :list, {_NUMBER}, {", ".join(f"json_extract(value, '$[{place}]')" for place in _PLACES)},
        'pending', 0, 0, 0, '', 0, :now
    FROM json_each(:part) WHERE {{fresh}}
"""  # noqa: S608
_INSERT_ALL = sa.text(_INSERT.format(fresh="TRUE"))
_INSERT_FRESH = sa.text(
    _INSERT.format(fresh="json_extract(value, '$[0]') NOT IN (SELECT value FROM json_each(:refused))")
)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a run's contacts go: their ids are ``ids[place in the run]``."""

    tenant: str
    campaign_id: int
    list_id: int
    ids: range


@dataclass(frozen=True, slots=True)
class Refused:
    """Contacts of a part whose numbers were not taken, by their places in the run."""

    duplicates: tuple[int, ...] = ()
    """The campaign has the number, or the upload had it before."""
    unwanted: tuple[int, ...] = ()
    """The number is on the do-not-call list."""


async def take_numbers(tx: Tx, place: Place, count: int, part: str) -> Refused:
    """Take a part's numbers (:class:`dialerd.intake.runs.Numbers`) for its contacts; returns whose were not free."""
    values: dict[str, Any] = {
        "campaign": place.campaign_id,
        "tenant": place.tenant,
        "first": place.ids.start,
        "step": place.ids.step,
    }
    rows: Sequence[Any]
    if tx.conn.dialect.name == "postgresql":
        from dialerd.store import postgres_staging

        rows = await postgres_staging.take_numbers(tx.conn, part, count, values)
    else:
        values["part"] = part
        taken = await tx.conn.execute(_TAKE, values)
        rows = [] if taken.rowcount == count else (await tx.conn.execute(_REFUSED, values)).all()
    return Refused(
        tuple(row.place for row in rows if not row.unwanted), tuple(row.place for row in rows if row.unwanted)
    )


async def insert(tx: Tx, place: Place, part: str, refused: Sequence[int]) -> int:
    """Store a part's contacts (:class:`dialerd.intake.runs.Contacts`), those at some places not; returns how many."""
    values: dict[str, Any] = {
        "campaign": place.campaign_id,
        "list": place.list_id,
        "first": place.ids.start,
        "step": place.ids.step,
        "now": to_micros(tx.clock.wall()),
    }
    if tx.conn.dialect.name == "postgresql":
        from dialerd.store import postgres_staging

        return await postgres_staging.insert(tx.conn, part, refused, values)
    values["part"] = part
    if refused:
        inserted = await tx.conn.execute(_INSERT_FRESH, {**values, "refused": json.dumps(list(refused))})
    else:
        inserted = await tx.conn.execute(_INSERT_ALL, values)
    return inserted.rowcount
