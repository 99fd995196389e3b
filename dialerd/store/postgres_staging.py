"""An upload's parts on PostgreSQL: copied as they are into a table of the session's own, and taken from there.

COPY streams the rows' JSON, which the server reads: as with SQLite, the event loop makes no object of any row.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import asyncpg
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from dialerd.store.postgres_link import WRITE_SECONDS

# Emptied by each commit; and before each part, for one transaction may write several.
_EMPTY = "CREATE TEMP TABLE IF NOT EXISTS staging (part jsonb NOT NULL) ON COMMIT DELETE ROWS; DELETE FROM staging"
_DELIMITER, _QUOTE = "\x01", "\x02"
"""Characters that JSON always escapes: each line is one value, whatever stands in it."""

_PLACE = "CAST(part ->> 0 AS bigint)"
_ID = f"CAST(:first AS bigint) + CAST(:step AS bigint) * {_PLACE}"
_NUMBER = "(part ->> 1)"
_UNWANTED = f"EXISTS (SELECT 1 FROM do_not_call WHERE tenant = :tenant AND phone_number = {_NUMBER})"  # noqa: S608 - constants of ours
# Of equal numbers the first in the file is taken.
_TAKE = sa.text(
    f"""
    INSERT INTO contact_number (campaign_id, phone_number, contact_id)
    SELECT :campaign, {_NUMBER}, {_ID} FROM staging WHERE NOT {_UNWANTED}
    ORDER BY {_NUMBER} COLLATE "C", {_PLACE}
    ON CONFLICT (campaign_id, phone_number) DO NOTHING
    """  # noqa: S608
)
_REFUSED = sa.text(
    f"""
    SELECT {_PLACE} AS place, {_UNWANTED} AS unwanted FROM staging LEFT JOIN contact_number
        ON campaign_id = :campaign AND phone_number = {_NUMBER} AND contact_id = {_ID}
    WHERE contact_id IS NULL
    """  # noqa: S608
)
_TEXTS = {"first_name": 2, "last_name": 3, "email": 4, "company": 5, "timezone": 6, "external_id": 8, "attributes": 9}
_INSERT = sa.text(
    f"""
    INSERT INTO contact (id, campaign_id, list_id, phone_number, {", ".join(_TEXTS)}, priority, rank,
        status, attempts, callee_tries, mishaps, outcomes, due_at, updated_at)
    SELECT {_ID}, :campaign, :list, {_NUMBER}, {", ".join(f"part ->> {place}" for place in _TEXTS.values())},
        CAST(part ->> 7 AS integer), CAST(part ->> 7 AS integer), 'pending', 0, 0, 0, '', 0, :now
    FROM staging WHERE {_PLACE} <> ALL (:refused)
    """  # noqa: S608
).bindparams(sa.bindparam("refused", type_=sa.ARRAY(sa.BigInteger)))


async def take_numbers(conn: AsyncConnection, part: str, count: int, values: Mapping[str, Any]) -> Sequence[Any]:
    """Take a part's numbers; returns the place of each that was not free, and whether its number is unwanted."""
    await _copy(conn, part)
    taken = await conn.execute(_TAKE, values)
    return [] if taken.rowcount == count else (await conn.execute(_REFUSED, values)).all()


async def insert(conn: AsyncConnection, part: str, refused: Sequence[int], values: Mapping[str, Any]) -> int:
    """Store a part's contacts, those at some places not; returns how many."""
    await _copy(conn, part)
    return (await conn.execute(_INSERT, {**values, "refused": list(refused)})).rowcount


async def _copy(conn: AsyncConnection, part: str) -> None:
    """Put a part's rows, each on a line of its own, into the staging table."""
    # SQLAlchemy has no COPY: the driver is asked directly, in the transaction that the connection is in.
    driver = (await conn.get_raw_connection()).driver_connection
    assert driver is not None
    try:
        await driver.execute(_EMPTY)
        await driver.copy_to_table(
            "staging",
            source=_once(part[1:-1].replace(",\n", "\n").encode()),
            format="csv",
            delimiter=_DELIMITER,
            quote=_QUOTE,
            timeout=WRITE_SECONDS,
        )
    except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise DBAPIError(None, None, error) from error


async def _once(text: bytes) -> AsyncIterator[bytes]:
    yield text
