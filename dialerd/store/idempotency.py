"""The first answers to POSTs that bore an Idempotency-Key."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa

from dialerd.store.schema import idempotency
from dialerd.store.tx import Tx

KEEP = timedelta(hours=24)
_STEP = 20
"""Old rows removed with each new one: more than come in, and far below a millisecond of writing."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What is kept of the first request with a key."""

    fingerprint: str
    status: int | None
    """None: its answer is not known."""
    content_type: str | None
    body: bytes | None
    """None: its answer was not kept."""
    created_at: datetime


async def claim(tx: Tx, tenant: str, key: str, fingerprint: str) -> Kept | None:
    """Take a key for a request, and forget some that are too old; what is kept where another request had it first."""
    await _forget_some(tx)
    row = (await tx.conn.execute(sa.select(idempotency).where(*_at(tenant, key)))).mappings().first()
    now = tx.clock.wall()
    if row is not None and now - row["created_at"] < KEEP:
        return Kept(row["fingerprint"], row["status"], row["content_type"], row["body"], row["created_at"])
    await release(tx, tenant, key)
    await tx.conn.execute(
        sa.insert(idempotency).values(tenant=tenant, key=key, fingerprint=fingerprint, created_at=now)
    )
    return None


async def keep(tx: Tx, tenant: str, key: str, *, status: int, content_type: str, body: bytes | None) -> None:
    """Keep the answer to the request that took a key."""
    await tx.conn.execute(
        sa.update(idempotency).where(*_at(tenant, key)).values(status=status, content_type=content_type, body=body)
    )


async def release(tx: Tx, tenant: str, key: str) -> None:
    """Give a key back: its request changed nothing."""
    await tx.conn.execute(sa.delete(idempotency).where(*_at(tenant, key)))


async def _forget_some(tx: Tx) -> None:
    pair = sa.tuple_(idempotency.c.tenant, idempotency.c.key)
    old = (
        sa.select(idempotency.c.tenant, idempotency.c.key)
        .where(idempotency.c.created_at < tx.clock.wall() - KEEP)
        .order_by(idempotency.c.created_at)
        .limit(_STEP)
    )
    await tx.conn.execute(sa.delete(idempotency).where(pair.in_(old)))


def _at(tenant: str, key: str) -> tuple[sa.ColumnElement[bool], sa.ColumnElement[bool]]:
    return idempotency.c.tenant == tenant, idempotency.c.key == key
