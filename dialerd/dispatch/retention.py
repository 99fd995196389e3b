"""Retention: what is older than the configuration keeps is removed, a little at a time, beside the dialing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from dialerd.clock import Clock
from dialerd.core.model import Tenant
from dialerd.dispatch.clearing import Clearing
from dialerd.dispatch.errors import Rejected
from dialerd.dispatch.pace import Pace
from dialerd.dispatch.webhooks import Webhooks
from dialerd.store import campaigns, retention
from dialerd.store.db import Store
from dialerd.store.errors import StoreError
from dialerd.store.tx import Tx
from dialerd.telemetry.metrics import Metrics

log = structlog.get_logger(__name__)

FIRST, EVERY = 60.0, 3600.0
"""Seconds after the start, and between two sweeps."""
_SOME = 50
"""Campaigns looked up at once."""
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Keep:
    """For how many days what is kept; 0: for ever."""

    events: int
    finished_campaigns: int
    deliveries: int


class Retention:
    """Sweeps once an hour. It remembers nothing: what a restart cut short, the next sweep finds again."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        metrics: Metrics,
        keep: Keep,
        *,
        tenants: Callable[[], Iterable[Tenant]],
        webhooks: Webhooks,
    ) -> None:
        self._store = store
        self._clock = clock
        self._metrics = metrics
        self._keep = keep
        self._tenants = tenants
        self._webhooks = webhooks
        self._clearing = Clearing(store, clock)

    async def run(self) -> None:
        """Sweep until cancelled."""
        await self._clock.sleep(FIRST)
        while True:
            try:
                await self.sweep()
            except StoreError as error:
                log.warning("retention_broke_off", reason=str(error))
            await self._clock.sleep(EVERY)

    async def sweep(self) -> None:
        """Remove all that is old by now. Raises StoreError; what is removed by then stays so."""
        now = self._clock.wall()
        if self._keep.events:
            await self._events(now - self._keep.events * _DAY)
        if self._keep.deliveries:
            await self._deliveries(now - self._keep.deliveries * _DAY)
        if self._keep.finished_campaigns:
            await self._campaigns(now - max(self._keep.finished_campaigns * _DAY, self._counted()))

    def _counted(self) -> timedelta:
        """How far back rules count the calls to a number: what they count stays, whatever became of its campaign."""
        periods = (each.number_period_hours for each in self._tenants() if each.max_calls_per_number is not None)
        return timedelta(hours=max(periods, default=0.0))

    async def _events(self, before: datetime) -> None:
        upto = 0

        async def some(tx: Tx, rows: int) -> int:
            nonlocal upto
            removed, last = await retention.remove_events(tx, before, rows)
            upto = max(upto, last)
            return removed

        try:
            await self._until_none("events", some)
        finally:
            self._webhooks.forgotten(upto)

    async def _deliveries(self, before: datetime) -> None:
        async with self._store.read() as conn:
            ids = await retention.webhook_ids(conn)
        for webhook_id in ids:

            async def some(tx: Tx, rows: int, webhook_id: int = webhook_id) -> int:
                return await retention.remove_deliveries(tx, webhook_id, before, rows)

            await self._until_none("deliveries", some)

    async def _campaigns(self, before: datetime) -> None:
        stuck: set[int] = set()
        while True:
            async with self._store.read() as conn:
                found = await retention.old_campaigns(conn, before, _SOME + len(stuck))
            fresh = [each for each in found if each not in stuck]
            if not fresh:
                return
            for campaign_id in fresh:
                await self._campaign(campaign_id)
                stuck.add(campaign_id)

    async def _campaign(self, campaign_id: int) -> None:
        """Hide it first, so that nobody sees half of it; then remove what is its own, and at last itself."""
        await self._store.write(lambda tx: campaigns.set_visible(tx, campaign_id, visible=False))
        await self._clearing.remove_campaign(campaign_id)
        async with self._store.read() as conn:
            hooks = await retention.webhooks_of(conn, campaign_id)
        for tenant, webhook_id in hooks:
            try:
                await self._webhooks.remove(tenant, webhook_id)
            except Rejected:
                continue  # somebody removed it in this moment

        async def some(tx: Tx, rows: int) -> int:
            return await retention.remove_rest(tx, campaign_id, rows)

        await self._until_none("rows_of_campaigns", some)
        async with self._store.read() as conn:
            gone = not await campaigns.get_many(conn, [campaign_id])
        if gone:
            self._metrics.retention_removed.labels("campaigns").inc()
            log.info("campaign_removed", campaign_id=campaign_id)

    async def _until_none(self, what: str, step: Callable[[Tx, int], Awaitable[int]]) -> None:
        pace = Pace(self._store, self._clock)

        async def some(tx: Tx) -> int:
            return await step(tx, pace.rows)

        while removed := await pace.write(some):
            self._metrics.retention_removed.labels(what).inc(removed)
