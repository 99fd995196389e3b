"""Due contacts whose own hours are closed: put off in the store to the moment at which they open."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta

import structlog

from dialerd.clock import Clock
from dialerd.core.snapshot import Deferral
from dialerd.dispatch.hopper import Hopper
from dialerd.store import contacts
from dialerd.store.db import GROUP_WEIGHT, Store
from dialerd.store.errors import StoreError
from dialerd.store.tx import Tx

log = structlog.get_logger(__name__)

_AGAIN = timedelta(seconds=5)
"""After which contacts whose deferral could not be committed are looked at again."""


class Deferrals:
    """Puts contacts off, in groups that the writer can take."""

    def __init__(self, store: Store, clock: Clock, hopper: Hopper, wake: Callable[[], None]) -> None:
        self._store = store
        self._clock = clock
        self._hopper = hopper
        self._wake = wake

    async def put_off(self, deferrals: Sequence[Deferral]) -> None:
        """Commit deferrals of contacts that were taken from the hopper."""
        for start in range(0, len(deferrals), GROUP_WEIGHT):
            await self._commit(deferrals[start : start + GROUP_WEIGHT])

    async def _commit(self, deferrals: Sequence[Deferral]) -> None:
        """Commit deferrals, then look for more: a batch that is all closed must not hide who is open behind it."""

        async def write(tx: Tx) -> None:
            await contacts.put_off(tx, [(each.contact.id, each.until, each.detail) for each in deferrals])

        again = None
        try:
            await self._store.write(write, weight=len(deferrals))
        except StoreError as error:
            log.warning("deferral_failed", contacts=len(deferrals), reason=str(error))
            again = self._clock.wall() + _AGAIN
        for each in deferrals:
            campaign_id = each.contact.campaign_id
            self._hopper.done(campaign_id, each.contact.id)
            if again is not None:
                self._hopper.fetch_again(campaign_id, again)
            elif each.until is not None:
                self._hopper.note_due(campaign_id, each.until, contacts.rank_of(each.contact))
        self._wake()
