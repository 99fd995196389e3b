"""The journal of events in pages, read once for all webhooks that follow it."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from dialerd.store import events, webhooks
from dialerd.store.db import Store
from dialerd.store.records import Event

PAGE = 500
_KEPT = 4
_CAMPAIGNS = 10_000


@dataclass(frozen=True, slots=True)
class _Page:
    events: Sequence[tuple[Event, str | None]]
    upto: int
    """It is complete up to this number."""


class EventPages:
    """Reads pages that begin at the same numbers for everybody: who follows the newest events shares one reading."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._pages: OrderedDict[int, _Page] = OrderedDict()
        self._tenants: dict[int, str] = {}
        self._reading = asyncio.Lock()
        self.last = 0
        """The number of the last committed event."""
        self.forgotten = 0
        """Events up to this number are not kept any more."""

    async def after(self, position: int) -> tuple[list[tuple[Event, str | None]], int]:
        """Some events after a number, each with its tenant (None: its campaign is gone), and up to which they go.

        Raises StoreError.
        """
        if position >= self.last:
            return [], position
        async with self._reading:
            page = await self._page(position // PAGE)
        return [each for each in page.events if each[0].seq > position], max(position, page.upto)

    async def _page(self, number: int) -> _Page:
        begin, end = number * PAGE, min(self.last, (number + 1) * PAGE)
        page = self._pages.get(number, _Page((), begin))
        if page.upto < end:
            page = self._pages[number] = _Page([*page.events, *await self._read(page.upto, end)], end)
        self._pages.move_to_end(number)
        while len(self._pages) > _KEPT:
            self._pages.popitem(last=False)
        return page

    async def _read(self, after: int, upto: int) -> list[tuple[Event, str | None]]:
        async with self._store.read() as conn:
            fresh = await events.span(conn, after, upto)
            if len(self._tenants) > _CAMPAIGNS:
                self._tenants.clear()
            strangers = {each.draft.campaign_id for each in fresh} - self._tenants.keys()
            if strangers:
                self._tenants |= await webhooks.tenants_of(conn, sorted(strangers))
        return [(each, self._tenants.get(each.draft.campaign_id)) for each in fresh]
