"""Trunks that somebody paused, and what the trunks achieved lately."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from dialerd.store.schema import trunk_pause
from dialerd.store.tx import Tx


@dataclass(frozen=True, slots=True)
class TrunkPause:
    """A trunk that carries no new calls until somebody resumes it."""

    trunk: str
    reason: str
    paused_at: datetime


async def pause(tx: Tx, new: TrunkPause) -> None:
    """Keep a pause over restarts; a second one replaces the first."""
    await resume(tx, new.trunk)
    await tx.conn.execute(sa.insert(trunk_pause).values(trunk=new.trunk, reason=new.reason, paused_at=new.paused_at))


async def resume(tx: Tx, trunk: str) -> None:
    """End a pause; harmless where there is none."""
    await tx.conn.execute(sa.delete(trunk_pause).where(trunk_pause.c.trunk == trunk))


async def paused(conn: AsyncConnection) -> dict[str, TrunkPause]:
    """Every pause, by its trunk."""
    rows = await conn.execute(sa.select(trunk_pause))
    return {row.trunk: TrunkPause(row.trunk, row.reason, row.paused_at) for row in rows}
