"""What has to be done to very many contacts at once is done in short steps, between which dialing goes on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

import structlog

from dialerd.clock import Clock
from dialerd.dispatch.pace import Pace
from dialerd.dispatch.persistence import persist
from dialerd.store import contacts, imports, removal
from dialerd.store.db import Store
from dialerd.store.tx import Tx

log = structlog.get_logger(__name__)

_MOST_NUMBERS = 500
"""Numbers that one statement names."""

Step = Callable[[Tx, int], Awaitable[int]]
"""Does some of the work, at most so many rows of it; returns how many there were."""


class Clearing:
    """Cancels, removes and recalls contacts. What broke off goes on where it stopped when it is asked for again."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def cancel_pending(self, campaign_id: int, reason: str) -> None:
        """Cancel all pending contacts of a campaign. Raises StoreError."""

        async def cancel(tx: Tx, rows: int) -> int:
            return await contacts.cancel_pending(tx, campaign_id, rows, reason=reason)

        await self._until_none(cancel)

    async def recall(self, campaign_id: int) -> None:
        """Let all contacts that a rule has put off be due at once. Raises StoreError."""

        async def recall(tx: Tx, rows: int) -> int:
            return await contacts.recall(tx, campaign_id, rows)

        await self._until_none(recall)

    async def remove_campaign(self, campaign_id: int) -> None:
        """Remove what belongs to a campaign that nobody can see any more. Raises StoreError."""

        async def remove(tx: Tx, rows: int) -> int:
            return await removal.of_campaign(tx, campaign_id, rows)

        await self._until_none(remove)

    async def remove_deleted(self, campaign_id: int) -> None:
        """The same, however long the store fails."""
        await self.persist(campaign_id, lambda: self.remove_campaign(campaign_id))

    async def persist(self, campaign_id: int, work: Callable[[], Awaitable[None]]) -> None:
        """Do some of this work that has to be done, again and again while the store fails."""
        await persist(self._clock, "contacts", work, campaign_id=campaign_id)

    async def remove_upload(self, campaign_id: int, import_id: int) -> None:
        """Remove an upload that was not published: its numbers, its contacts, its report, itself. Raises StoreError.

        One that stands, since the commit whose confirmation was lost did, is left alone.
        """
        await self._free_numbers(campaign_id, import_id)

        async def remove_contacts(tx: Tx, rows: int) -> int:
            stands = await imports.is_published(tx.conn, import_id)
            return 0 if stands else await removal.staged_contacts(tx, campaign_id, import_id, rows)

        async def remove_rejects(tx: Tx, rows: int) -> int:
            stands = await imports.is_published(tx.conn, import_id)
            return 0 if stands else await imports.remove_rejects(tx, import_id, rows)

        async def remove(tx: Tx) -> None:
            if not await imports.is_published(tx.conn, import_id):
                await imports.remove(tx, import_id)
                tx.touched.add(campaign_id)

        await self._until_none(remove_contacts)
        await self._until_none(remove_rejects)
        await self._store.write(remove)

    async def _free_numbers(self, campaign_id: int, import_id: int) -> None:
        async def free(tx: Tx, numbers: list[str]) -> None:
            if not await imports.is_published(tx.conn, import_id):
                await removal.free_numbers(tx, campaign_id, import_id, numbers)

        pace = Pace(self._store, self._clock)
        after = ""
        while True:
            async with self._store.read() as conn:
                span = next((each for each in await imports.staged(conn, campaign_id) if each.first == import_id), None)
                most = min(pace.rows, _MOST_NUMBERS)
                numbers = span and await removal.staged_numbers(conn, campaign_id, span, after, most)
            if not numbers:
                return
            await pace.write(partial(free, numbers=numbers), len(numbers))
            after = numbers[-1]

    async def _until_none(self, step: Step) -> None:
        pace = Pace(self._store, self._clock)

        async def some(tx: Tx) -> int:
            return await step(tx, pace.rows)

        while await pace.write(some):
            pass
