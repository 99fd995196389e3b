"""A tenant's do-not-call list: what is put on it is not dialled any more, wherever its contact stands."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from dataclasses import dataclass

import structlog

from dialerd.clock import Clock
from dialerd.core.model import Tenant
from dialerd.core.phone import BadNumber, normalise
from dialerd.dispatch.errors import FieldError, Rejected
from dialerd.dispatch.requests import Upload
from dialerd.dispatch.rows import Row, read_upload
from dialerd.dispatch.uploads import SHOWN_ERRORS, as_rejected
from dialerd.intake.rows import IntakeOptions, InvalidTable, NewContact, RowError
from dialerd.store import campaigns, do_not_call
from dialerd.store.db import Store

log = structlog.get_logger(__name__)

STEP = 500
"""Numbers per transaction, at most."""
_PROBES = 10_000
"""Looks into the index of contacts per transaction: some 20 ms of the writer."""
TURN_SECONDS = 600.0
"""How long a list waits for the ones before it."""
_NOTE = "note"


@dataclass(frozen=True, slots=True)
class ExclusionReport:
    """What became of numbers that were put on the list."""

    added: int
    duplicates: int
    """Already on the list, or given twice."""
    invalid: int
    errors: tuple[RowError, ...]
    """The first 100 rows that hold no number."""


class Exclusions:
    """Keeps the do-not-call lists. A pending contact is cancelled in the same commit that lists its number."""

    def __init__(
        self, store: Store, clock: Clock, options: Callable[[Tenant], IntakeOptions], on_listed: Callable[[], None]
    ) -> None:
        """``on_listed``: hears of each commit that listed numbers, before whoever asked for it does."""
        self._store = store
        self._on_listed = on_listed
        self._clock = clock
        self._options = options
        self._turn = asyncio.Lock()

    async def add(self, tenant: Tenant, number: str, note: str | None) -> ExclusionReport:
        """Put one number on the list. Raises Rejected (``invalid_request``) where it is none, StoreError."""
        e164 = self.normalised(tenant, number)
        added = await self._store.write(lambda tx: do_not_call.add(tx, tenant.id, {e164: note}))
        self._on_listed()
        log.info("do_not_call_added", tenant=tenant.id, added=added)
        return ExclusionReport(added, 1 - added, 0, ())

    async def add_many(self, tenant: Tenant, upload: Upload, note: str | None = None) -> ExclusionReport:
        """Put many numbers on the list, in steps; a column ``note`` goes before the common one.

        What is no number is reported and left out. Raises Rejected (``invalid_csv`` where it is no table, and then
        nothing is listed; ``rate_limited`` where too many lists wait) and StoreError: then the steps before the
        failing one stand, and sending the list again is harmless.
        """
        async with self._in_turn():
            # Read once for its form alone: a table that breaks off in its middle must list nothing.
            if upload.kind != "items":
                async for _ in self._batches(tenant, upload):
                    pass
            step = await self._step(tenant)
            added = valid = invalid = 0
            errors: list[RowError] = []
            async for rows in self._batches(tenant, upload):
                wrong = [row for row in rows if isinstance(row, RowError)]
                errors += wrong[: SHOWN_ERRORS - len(errors)]
                invalid += len(wrong)
                valid += len(rows) - len(wrong)
                good = [row for row in rows if isinstance(row, NewContact)]
                for start in range(0, len(good), step):
                    added += await self._list(tenant, good[start : start + step], note)
        log.info("do_not_call_added", tenant=tenant.id, added=added, invalid=invalid)
        return ExclusionReport(added, valid - added, invalid, tuple(errors))

    async def remove(self, tenant: Tenant, number: str) -> bool:
        """Take a number off the list; False where it is not on it. Raises StoreError."""
        try:
            e164 = self.normalised(tenant, number)
        except Rejected:
            return False
        removed = await self._store.write(lambda tx: do_not_call.remove(tx, tenant.id, e164))
        if removed:
            log.info("do_not_call_removed", tenant=tenant.id)
        return removed

    def normalised(self, tenant: Tenant, number: str) -> str:
        """A number in E.164, read as in the tenant's uploads. Raises Rejected (``invalid_request``)."""
        options = self._options(tenant)
        try:
            return normalise(number, options.default_region, options.validate)
        except BadNumber as error:
            detail = "the request does not fit"
            raise Rejected("invalid_request", detail, [FieldError("phone_number", error.message)]) from None

    async def _step(self, tenant: Tenant) -> int:
        """How many numbers fit in one transaction: each is looked for in every campaign that may still dial it."""
        async with self._store.read() as conn:
            unfinished = await campaigns.count_unfinished(conn, tenant.id)
        return max(1, min(STEP, _PROBES // max(1, unfinished)))

    async def _list(self, tenant: Tenant, rows: Sequence[NewContact], note: str | None) -> int:
        numbers = {row.phone_number: row.attributes.get(_NOTE, note) for row in rows}
        added = await self._store.write(lambda tx: do_not_call.add(tx, tenant.id, numbers), weight=STEP)
        self._on_listed()
        return added

    async def _batches(self, tenant: Tenant, upload: Upload) -> AsyncGenerator[list[Row], None]:
        try:
            async with contextlib.aclosing(read_upload(upload, self._options(tenant), self._clock, STEP)) as batches:
                async for rows in batches:
                    yield rows
        except InvalidTable as error:
            raise as_rejected(error) from None

    @contextlib.asynccontextmanager
    async def _in_turn(self) -> AsyncIterator[None]:
        """One list at a time: each may need a parser of its own."""
        async with contextlib.AsyncExitStack() as held:
            try:
                async with asyncio.timeout(TURN_SECONDS):
                    await held.enter_async_context(self._turn)
            except TimeoutError:
                raise Rejected("rate_limited", "the lists before this one take very long") from None
            yield
