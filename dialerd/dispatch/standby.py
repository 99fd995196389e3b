"""What a daemon does that waits for its turn: it shows what the store holds, and what the one that dials commits.

It writes nothing, dials nothing and sends nothing on (ADR 9).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from dialerd.clock import Clock
from dialerd.dispatch.feed import RING, Feed
from dialerd.dispatch.tenants import Tenants
from dialerd.dispatch.trunks import Trunks
from dialerd.store import events, notices, trunks
from dialerd.store import tenants as stored
from dialerd.store.db import Store
from dialerd.store.errors import StoreError, StoreNotReady
from dialerd.store.tx import Committed

log = structlog.get_logger(__name__)

REASON = "standby: another daemon dials from this store; ask that one"
_PAGE = 500
_PAUSE = 0.05
"""Seconds between two readings of fresh events: what is committed meanwhile is read together."""
_AGAIN = 1.0
"""Seconds after which a store that failed is read again."""


class Standby:
    """Follows a store from which another daemon dials."""

    def __init__(
        self, store: Store, feed: Feed, tenants: Tenants, ways_out: Trunks, clock: Clock, waits_for: Callable[[], str]
    ) -> None:
        """``waits_for`` tells in words what keeps this daemon from dialing."""
        self._store = store
        self._feed = feed
        self._tenants = tenants
        self._trunks = ways_out
        self._clock = clock
        self._waits_for = waits_for
        self._news = asyncio.Event()
        self._checked = False
        """Its schema was looked at, and is this version's."""

    @property
    def reason(self) -> str:
        """Why it does not dial, in words."""
        return f"standby: {self._waits_for()}"

    async def look(self) -> None:
        """Take up what the other may have changed and what is kept in memory: tenants, and the pauses of trunks.

        Raises StoreNotReady where the store is of another version, StoreError.
        """
        if not self._checked:
            await self._check()
        async with self._store.read() as conn:
            found, paused = await stored.everyone(conn), await trunks.paused(conn)
        self._tenants.follow(found)
        self._trunks.load(paused.values())

    def heard(self, payload: str) -> None:
        """Hear of a commit that wrote events. Never waits."""
        number = notices.last_event(payload)
        if number is None:
            log.warning("notice_not_understood", length=len(payload))
        elif number > self._feed.last:
            self._news.set()

    def look_again(self) -> None:
        """Something may have been committed that was not heard of."""
        self._checked = False
        self._news.set()

    async def run(self) -> None:
        """Tell the streams what is committed, in order, until cancelled."""
        while True:
            await self._news.wait()
            self._news.clear()
            pause = _PAUSE
            try:
                if not self._checked:
                    await self._check()
                while await self._catch_up():
                    pass
            except StoreError as error:
                log.warning("store_not_read", reason=str(error))
                if not isinstance(error, StoreNotReady):  # that one is looked at again when the next look is due
                    pause = _AGAIN
                    self._news.set()
            except Exception:
                log.exception("store_not_read")
                pause = _AGAIN
                self._news.set()
            await self._clock.sleep(pause)

    async def _check(self) -> None:
        await self._store.check()
        self._checked = True

    async def _catch_up(self) -> bool:
        """Tell the next events; whether there may be more. Raises StoreError."""
        feed = self._feed
        had, followed = feed.last, feed.followed
        async with self._store.read() as conn:
            last = await events.last(conn)
            if followed and last - had <= RING:
                upto = min(last, had + _PAGE)
                fresh = await events.span(conn, had, upto)
            else:
                # Nobody is told; or so much was missed that each stream had better read its own campaign's.
                upto, fresh = last, None
        if fresh is None:
            feed.skip(upto)
        else:
            feed.publish(Committed(tuple(fresh), ()))
            feed.last = upto
        return upto < last
