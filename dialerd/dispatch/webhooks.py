"""Webhooks: made and changed by people, each followed by a courier of its own."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import structlog

from dialerd.clock import Clock, show_id
from dialerd.core.webhooks import OVERLAP, Delivery, DeliveryStatus, Webhook, WebhookStatus
from dialerd.dispatch.courier import Courier, Desk, about, deliver, post
from dialerd.dispatch.errors import FieldError, Rejected
from dialerd.dispatch.event_pages import EventPages
from dialerd.dispatch.pace import Pace
from dialerd.dispatch.persistence import persist
from dialerd.dispatch.slots import Slots
from dialerd.dispatch.tasks import Spawn
from dialerd.store import campaigns, events, retention, webhooks
from dialerd.store.db import Store
from dialerd.store.errors import StoreError
from dialerd.store.tx import Committed, Tx
from dialerd.telemetry.metrics import Metrics
from dialerd.webhooks import signing
from dialerd.webhooks.addresses import Rules
from dialerd.webhooks.transport import Answer, Transport

log = structlog.get_logger(__name__)

MOST_PER_TENANT = 20
_AGAIN = 5.0
_TRIES = 2
"""Attempts of one webhook at once that people ask for."""


@dataclass(frozen=True, slots=True)
class NewWebhook:
    """What a person says of a new webhook."""

    url: str
    description: str | None
    campaign_id: int | None
    kinds: frozenset[str]


@dataclass(frozen=True, slots=True)
class WebhookChange:
    """What is to change; None: stays."""

    url: str | None = None
    description: str | None = None
    undescribed: bool = False
    """Its description is taken away."""
    kinds: frozenset[str] | None = None
    status: WebhookStatus | None = None
    rotate_secret: bool = False
    after: int | None = None
    """Where one that is enabled again goes on; None: from now on."""


class Webhooks:
    """All webhooks, and the couriers of those that are enabled."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        metrics: Metrics,
        transport: Transport,
        rules: Rules,
        *,
        concurrency: int,
        max_concurrency: int,
        background: Spawn,
    ) -> None:
        self._store = store
        self._clock = clock
        self._metrics = metrics
        self._transport = transport
        self._rules = rules
        self._background = background
        self._pages = EventPages(store)
        self._desk = Desk(store, self._pages, transport, clock, metrics, Slots(max_concurrency), concurrency)
        self.concurrency = concurrency
        """Attempts at once of one webhook."""
        self._couriers: dict[int, Courier] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._changing = asyncio.Lock()
        self._tries: Counter[int] = Counter()
        self._open = False
        metrics.before_render.append(self._measure)

    # -- the daemon's life --------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Take up every webhook that is enabled. Raises StoreError."""
        async with self._store.read() as conn:
            self._pages.last = await events.last(conn)
            oldest = await retention.oldest_event(conn)
            self._pages.forgotten = 0 if oldest is None else oldest[0] - 1
            found = await webhooks.enabled(conn)
        self._open = True
        for each in found:
            self._follow(each)

    async def close(self) -> None:
        """Send nothing more, and keep how far each has come."""
        self._open = False
        # All at once: what they keep goes into one commit, or fails with it.
        await asyncio.gather(*(self._unfollow(webhook_id) for webhook_id in list(self._tasks)))
        await self._transport.close()

    async def clear(self) -> None:
        """Remove the deliveries of webhooks that were removed, in short steps. Raises StoreError."""
        pace = Pace(self._store, self._clock)

        async def some(tx: Tx) -> int:
            return await webhooks.remove_orphans(tx, pace.rows)

        while await pace.write(some):
            pass

    def committed(self, committed: Committed) -> None:
        """Hear of a commit. Never waits."""
        if committed.events:
            self._pages.last = committed.events[-1].seq
            for courier in self._couriers.values():
                courier.news()

    def forgotten(self, upto: int) -> None:
        """Events up to a number were removed for their age. What nobody was told of by then is lost, and counted."""
        self._pages.forgotten = max(self._pages.forgotten, upto)

    # -- what people do -----------------------------------------------------------------------------------------

    async def create(self, tenant: str, new: NewWebhook) -> Webhook:
        """Make a webhook, told of what happens from now on. Raises Rejected, StoreError."""
        self._check_url(new.url)
        made = Webhook(
            id=self._clock.number(),
            tenant=tenant,
            campaign_id=new.campaign_id,
            url=new.url,
            description=new.description,
            kinds=new.kinds,
            status=WebhookStatus.ENABLED,
            disabled_reason=None,
            secret=self._secret(),
            old_secret=None,
            old_secret_until=None,
            position=0,
            failing_since=None,
            created_at=self._clock.wall(),
        )

        async def insert(tx: Tx) -> Webhook:
            if new.campaign_id is not None and await campaigns.get(tx.conn, tenant, new.campaign_id) is None:
                raise _unfit("campaign_id", "names no campaign")
            _, count = await webhooks.page(tx.conn, tenant, limit=1, offset=0)
            if count >= MOST_PER_TENANT:
                raise Rejected("too_many_webhooks", f"a tenant has {MOST_PER_TENANT} webhooks at most")
            placed = replace(made, position=await events.last(tx.conn))
            await webhooks.save(tx, placed)
            return placed

        placed = await self._store.write(insert)
        self._follow(placed)
        log.info("webhook_made", **about(placed))
        return placed

    async def change(self, tenant: str, webhook_id: int, change: WebhookChange) -> Webhook:
        """Change a webhook; what is under way to it is sent again. Raises Rejected, StoreError."""
        if change.url is not None:
            self._check_url(change.url)
        secret = self._secret() if change.rotate_secret else None

        async def revise(tx: Tx) -> Webhook:
            found = await webhooks.get(tx.conn, tenant, webhook_id)
            if found is None:
                raise _missing()
            revised = _revised(found, change, secret, self._clock)
            if found.status is WebhookStatus.DISABLED and revised.status is WebhookStatus.ENABLED:
                last = await events.last(tx.conn)
                if change.after is not None and change.after > last:
                    raise _unfit("after", "is no event's id yet")
                position = last if change.after is None else change.after
                revised = replace(revised, position=position)
                await webhooks.forget_held(tx, webhook_id, position)
            elif change.after is not None:
                raise _unfit("after", "goes with status enabled, of a webhook that is disabled")
            await webhooks.save(tx, revised)
            return revised

        async with self._changing:
            if await self._found(tenant, webhook_id) is None:
                raise _missing()
            await self._unfollow(webhook_id)
            try:
                revised = await self._store.write(revise)
            except BaseException:
                before = self._store_again(tenant, webhook_id)
                self._tasks[webhook_id] = asyncio.create_task(before, name="webhook")
                raise
            if revised.status is WebhookStatus.ENABLED:
                self._follow(revised)
        log.info("webhook_changed", **about(revised), status=revised.status.value)
        return revised

    async def remove(self, tenant: str, webhook_id: int) -> None:
        """Remove a webhook; nothing is sent to it from then on. Raises Rejected, StoreError."""

        async def remove(tx: Tx) -> None:
            if await webhooks.get(tx.conn, tenant, webhook_id) is None:
                raise _missing()
            await webhooks.remove(tx, webhook_id)

        async with self._changing:
            await self._store.write(remove)
            await self._unfollow(webhook_id)
        log.info("webhook_removed", webhook_id=show_id(webhook_id), tenant=tenant)
        self._background(persist(self._clock, "webhooks", self.clear))

    async def test(self, tenant: str, webhook_id: int) -> tuple[Answer, float]:
        """Send a message of the kind ``test`` once, also to one that is disabled; returns the answer and its seconds.

        Raises Rejected, StoreError.
        """
        hook = await self._found(tenant, webhook_id)
        if hook is None:
            raise _missing()
        begun = self._clock.mono()
        message: dict[str, object] = {
            "type": "test",
            "timestamp": self._clock.wall(),
            "data": {"webhook_id": show_id(webhook_id)},
        }
        async with self._try(hook):
            answer = await post(self._desk, hook, f"test_{show_id(self._clock.number())}", message)
        return answer, self._clock.mono() - begun

    async def redeliver(self, tenant: str, webhook_id: int, seq: int) -> Delivery:
        """Send a delivery once more, now and out of its turn. Raises Rejected, StoreError."""
        async with self._store.read() as conn:
            hook = await webhooks.get(conn, tenant, webhook_id)
            if hook is None:
                raise _missing()
            known = await webhooks.delivery(conn, webhook_id, seq)
            event = await events.get(conn, seq)
        if known is None:
            raise Rejected("delivery_not_found", "there is no such delivery")
        if event is None:
            raise Rejected("event_gone", "the event is no longer kept")
        async with self._try(hook):
            answer = await deliver(self._desk, hook, event)
        courier = self._couriers.get(webhook_id)
        if courier is not None and answer.delivered and courier.lanes.settle_by_hand(seq, answer, self._clock.now()):
            courier.news()

        async def note(tx: Tx) -> Delivery:
            current = await webhooks.delivery(tx.conn, webhook_id, seq) or known
            noted = replace(
                current,
                status=DeliveryStatus.DELIVERED if answer.delivered else current.status,
                attempts=current.attempts + 1,
                status_code=answer.status,
                error=answer.error,
                last_attempt_at=tx.clock.wall(),
                next_attempt_at=None if answer.delivered else current.next_attempt_at,
            )
            await webhooks.put(tx, [noted])
            return noted

        return await self._store.write(note)

    # -- inside -------------------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def _try(self, hook: Webhook) -> AsyncIterator[None]:
        """Hold a place for an attempt that a person asks for. Raises Rejected where enough of them are under way."""
        if self._tries[hook.id] >= _TRIES:
            raise Rejected("rate_limited", f"{_TRIES} tries of this webhook are under way already")
        self._tries[hook.id] += 1
        try:
            async with self._desk.slots.take(hook.tenant):
                yield
        finally:
            self._tries[hook.id] -= 1
            if not self._tries[hook.id]:
                del self._tries[hook.id]

    async def _found(self, tenant: str, webhook_id: int) -> Webhook | None:
        async with self._store.read() as conn:
            return await webhooks.get(conn, tenant, webhook_id)

    def _check_url(self, url: str) -> None:
        try:
            self._rules.check_url(url)
        except ValueError as error:
            raise _unfit("url", str(error)) from None

    def _secret(self) -> str:
        return signing.encode_secret(self._clock.token(signing.SECRET_BYTES).encode())

    def _follow(self, hook: Webhook) -> None:
        if self._open:
            self._couriers[hook.id] = Courier(hook, self._desk)
            self._tasks[hook.id] = asyncio.create_task(self._serve(hook.tenant, hook.id), name="webhook")

    async def _serve(self, tenant: str, webhook_id: int) -> None:
        """Let a courier work; a fault of ours, or of the store's, in one does not end the webhook."""
        while True:
            courier = self._couriers[webhook_id]
            try:
                await courier.run()
                break
            except StoreError as error:
                log.warning("webhook_broke_off", **about(courier.hook), reason=str(error))
            except Exception:
                log.exception("webhook_broke_off", **about(courier.hook))
            await courier.flush()
            await self._clock.sleep(_AGAIN)
            hook = await self._enabled(tenant, webhook_id)
            if hook is None:
                break
            self._couriers[webhook_id] = Courier(hook, self._desk)
        self._couriers.pop(webhook_id, None)
        self._tasks.pop(webhook_id, None)

    async def _store_again(self, tenant: str, webhook_id: int) -> None:
        """A change was not confirmed: go on as the store has it."""
        hook = await self._enabled(tenant, webhook_id)
        self._tasks.pop(webhook_id, None)
        if hook is not None:
            self._follow(hook)

    async def _enabled(self, tenant: str, webhook_id: int) -> Webhook | None:
        while True:
            try:
                hook = await self._found(tenant, webhook_id)
            except StoreError as error:
                log.warning("webhook_not_read", webhook_id=show_id(webhook_id), tenant=tenant, reason=str(error))
                await self._clock.sleep(_AGAIN)
                continue
            return hook if hook is not None and hook.status is WebhookStatus.ENABLED else None

    async def _unfollow(self, webhook_id: int) -> None:
        task, courier = self._tasks.pop(webhook_id, None), self._couriers.pop(webhook_id, None)
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        if courier is not None:
            await courier.flush()

    def _measure(self) -> None:
        couriers = self._couriers.values()
        self._metrics.webhooks_enabled.set(len(couriers))
        self._metrics.webhooks_ill.set(sum(each.lanes.ill for each in couriers))
        self._metrics.webhook_backlog.set(sum(each.lanes.backlog for each in couriers))
        oldest = min((each.lanes.oldest for each in couriers if each.lanes.oldest is not None), default=None)
        now = self._clock.wall()
        self._metrics.webhook_lag.set(0.0 if oldest is None else max(0.0, (now - oldest).total_seconds()))


def _revised(found: Webhook, change: WebhookChange, secret: str | None, clock: Clock) -> Webhook:
    described = found.description if change.description is None and not change.undescribed else change.description
    revised = replace(
        found,
        url=change.url if change.url is not None else found.url,
        description=described,
        kinds=change.kinds if change.kinds is not None else found.kinds,
    )
    if secret is not None:
        revised = replace(revised, secret=secret, old_secret=found.secret, old_secret_until=clock.wall() + OVERLAP)
    if change.status is WebhookStatus.ENABLED and found.status is WebhookStatus.DISABLED:
        revised = replace(revised, status=WebhookStatus.ENABLED, disabled_reason=None, failing_since=None)
    if change.status is WebhookStatus.DISABLED and found.status is WebhookStatus.ENABLED:
        revised = replace(revised, status=WebhookStatus.DISABLED, disabled_reason="disabled by hand")
    return revised


def _unfit(field: str, message: str) -> Rejected:
    return Rejected("invalid_request", "the request does not fit", (FieldError(field, message),))


def _missing() -> Rejected:
    return Rejected("webhook_not_found", "there is no such webhook")
