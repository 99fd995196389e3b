"""Contacts get back what failures cost them, once the trunk turns out to be to blame."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import structlog

from dialerd.clock import Clock
from dialerd.dispatch.hopper import Hopper
from dialerd.dispatch.journal import Journal
from dialerd.store import put_back
from dialerd.store.db import Store
from dialerd.store.errors import StoreError
from dialerd.store.put_back import PutBack
from dialerd.telemetry.metrics import Metrics

log = structlog.get_logger(__name__)

_TRIES = 10
_AGAIN = 1.0
"""Seconds between two tries while the store fails."""

__all__ = ["PutBack", "PutBacks"]


class PutBacks:
    """Puts contacts back in one transaction, once the ends of their calls are durable."""

    def __init__(
        self,
        store: Store,
        journal: Journal,
        clock: Clock,
        metrics: Metrics,
        hopper: Hopper,
        wake: Callable[[], None],
    ) -> None:
        self._store = store
        self._journal = journal
        self._clock = clock
        self._metrics = metrics
        self._hopper = hopper
        self._wake = wake

    async def put_back(self, failures: Sequence[PutBack]) -> None:
        """Give these contacts their budgets back; whoever has moved on since is left alone."""
        await self._journal.durable()
        for _ in range(_TRIES):
            try:
                count = await self._store.write(lambda tx: put_back.put_back(tx, failures), weight=len(failures))
            except StoreError as error:
                log.warning("contacts_not_put_back", contacts=len(failures), reason=str(error))
                await self._clock.sleep(_AGAIN)
                continue
            log.info("contacts_put_back", contacts=count, trunk=failures[0].call.trunk)
            for campaign_id in {each.call.campaign_id for each in failures}:
                self._hopper.stir(campaign_id)
            self._wake()
            return
        self._metrics.dropped.labels("put_back").inc(len(failures))
