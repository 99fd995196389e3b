"""The courier of one webhook: takes events from the journal, sends them, and keeps in the store how far it has come."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

import structlog

from dialerd.clock import Clock, Timer, show_id
from dialerd.core.webhooks import Webhook, WebhookStatus
from dialerd.dispatch.event_pages import EventPages
from dialerd.dispatch.slots import Slots
from dialerd.store import events, webhooks
from dialerd.store.db import Store
from dialerd.store.errors import StoreError
from dialerd.store.records import Event
from dialerd.store.tx import Tx
from dialerd.telemetry.metrics import Metrics
from dialerd.webhooks import signing
from dialerd.webhooks.lanes import Item, Lanes
from dialerd.webhooks.transport import Answer, Transport

log = structlog.get_logger(__name__)

_PAUSE = 0.1
"""Seconds between two looks into the journal: events that come close together are read together."""
_FLUSH_SECONDS, _FLUSH_ROWS = 1.0, 200
_FLUSH_EVENTS = 5000
"""Events of others after which the place in the journal is kept, too: so many are read again after a restart."""
_AGAIN = 5.0
_TIMER_SLACK = 0.001
_EVENT_PREFIX = "evt_"


@dataclass(frozen=True, slots=True)
class Desk:
    """What all couriers share."""

    store: Store
    pages: EventPages
    transport: Transport
    clock: Clock
    metrics: Metrics
    slots: Slots
    """Attempts at once, of all webhooks together: each tenant has its share."""
    concurrency: int
    """Attempts at once of one webhook."""


class Courier:
    """Serves one enabled webhook, as it is when the courier is made."""

    def __init__(self, hook: Webhook, desk: Desk) -> None:
        self.hook = hook
        self.lanes = Lanes(hook.id, hook.position, hook.failing_since)
        self._desk = desk
        self._clock = desk.clock
        self._events: dict[int, Event] = {}
        """Those of the window; of a delivery that is tried again, the event is read again."""
        self._sends: set[asyncio.Task[None]] = set()
        self._woken = asyncio.Event()
        self._timer: Timer | None = None
        self._look_at = 0.0
        """When the journal may be looked into again."""
        self._kept = hook.position
        self._flush_at: float | None = None
        self._fault: BaseException | None = None
        """What broke a send: its lane would stand still for ever."""
        self._off: tuple[str, str] | None = None
        """Why it is to be switched off: in a word and in words."""

    def news(self) -> None:
        """Something was committed."""
        self._woken.set()

    async def run(self) -> Webhook:
        """Serve until the webhook is switched off, which is returned; or until cancelled. Raises StoreError."""
        async with self._desk.store.read() as conn:
            held = await webhooks.held(conn, self.hook.id)
        self.lanes.restore(held, self._clock.now())
        try:
            while self._off is None:
                if self._fault is not None:
                    raise self._fault
                await self._look()
                self._send_ready()
                await self._flush_if_due()
                await self._next()
        finally:
            await self._rest()
        return await self._switch_off(*self._off)

    async def flush(self) -> None:
        """Keep what is known. What the store does not take is sent again after a restart."""
        position, failing_since, changes = self.lanes.position, self.lanes.failing_since, self.lanes.changes()
        if not changes and position == self._kept:
            return

        async def keep(tx: Tx) -> None:
            await webhooks.progress(tx, self.hook.id, position, failing_since, changes)

        try:
            await self._desk.store.write(keep, weight=10 + len(changes))
        except StoreError as error:
            self.lanes.put_back(changes)
            self._flush_at = self._clock.mono() + _AGAIN
            log.warning("webhook_not_kept", **about(self.hook), reason=str(error))
            return
        self._kept, self._flush_at = position, None

    # -- inside -------------------------------------------------------------------------------------------------

    async def _look(self) -> None:
        """Take from the journal what there is room for."""
        if not self._may_look() or self._due_now() < self._look_at:
            return
        missed = self._desk.pages.forgotten - self.lanes.read_to
        if missed > 0:
            # They are not all its own, but nobody can tell any more.
            log.warning("webhook_events_not_kept", **about(self.hook), events=missed)
            self._desk.metrics.dropped.labels("webhook_event").inc(missed)
            self.lanes.read_to = self._desk.pages.forgotten
        try:
            while self._may_look():
                found, upto = await self._desk.pages.after(self.lanes.read_to)
                self._take(found, upto)
        except StoreError as error:
            log.warning("webhook_journal_not_read", **about(self.hook), reason=str(error))
        self._look_at = self._clock.mono() + _PAUSE

    def _may_look(self) -> bool:
        return self.lanes.room > 0 and self._desk.pages.last > self.lanes.read_to

    def _take(self, found: list[tuple[Event, str | None]], upto: int) -> None:
        now = self._clock.wall()
        for event, tenant in found:
            draft = event.draft
            if self.hook.wants(tenant, draft.campaign_id, draft.kind.value):
                if not self.lanes.room:
                    return
                self._events[event.seq] = event
                self.lanes.take(event.seq, draft.kind.value, draft.campaign_id, draft.contact_id, draft.at, now)
            self.lanes.read_to = event.seq
        self.lanes.read_to = upto

    def _send_ready(self) -> None:
        while len(self._sends) < self._desk.concurrency:
            item = self.lanes.ready(self._due_now())
            if item is None:
                return
            task = asyncio.create_task(self._send(item), name="webhook-send")
            self._sends.add(task)
            task.add_done_callback(self._sent)

    def _sent(self, task: asyncio.Task[None]) -> None:
        self._sends.discard(task)
        if not task.cancelled():
            self._fault = self._fault or task.exception()
        self._woken.set()

    async def _send(self, item: Item) -> None:
        async with self._desk.slots.take(self.hook.tenant):
            try:
                event = self._events.pop(item.seq, None) or await self._read(item.seq)
            except StoreError as error:
                log.warning("webhook_event_not_read", **about(self.hook), reason=str(error))
                self.lanes.postponed(item, self._clock.mono() + _AGAIN)
                return
            if event is None:
                self._given_up(1, "the event is no longer kept")
                self.lanes.dropped(item, self._clock.wall(), "the event is no longer kept")
                return
            answer = await deliver(self._desk, self.hook, event)
        now, was_ill = self._clock.now(), self.lanes.ill
        if self.lanes.answered(item, answer, now, self._clock.chance()):
            self._given_up(1, answer.error or "")
        if self.lanes.ill and not was_ill:
            log.warning("webhook_ill", **about(self.hook), reason=answer.error)
        elif was_ill and not self.lanes.ill:
            log.info("webhook_well", **about(self.hook))
        if answer.gone:
            self._off = ("gone", "the endpoint answered 410 Gone")
        elif not answer.delivered:
            log.debug("webhook_failed", **about(self.hook), delivery=delivery_id(item.seq), reason=answer.error)
            if self.lanes.is_dead(now.wall):
                self._off = ("dead", f"nothing was delivered for 24 hours; at last {answer.error}")

    async def _read(self, seq: int) -> Event | None:
        async with self._desk.store.read() as conn:
            return await events.get(conn, seq)

    async def _flush_if_due(self) -> None:
        now, unwritten = self._due_now(), self.lanes.unwritten
        if unwritten and self._flush_at is None:
            self._flush_at = now + _FLUSH_SECONDS
        far = self.lanes.position - self._kept >= _FLUSH_EVENTS
        due = self._flush_at is not None and now >= self._flush_at
        # A store that fails is asked again at the time that was set then, however much has come together.
        full = unwritten >= _FLUSH_ROWS and (self._flush_at is None or self._flush_at - now <= _FLUSH_SECONDS)
        if due or full or (far and self._flush_at is None):
            await self.flush()

    async def _next(self) -> None:
        """Wait until there is something to do."""
        moments = [] if self._flush_at is None else [self._flush_at]
        if self._may_look():
            moments.append(self._look_at)
        ready = self.lanes.next_moment() if len(self._sends) < self._desk.concurrency else None
        if ready is not None:
            moments.append(ready)
        if moments:
            self._timer = self._clock.call_at(min(moments), self._woken.set)
        try:
            await self._woken.wait()
        finally:
            if self._timer is not None:
                self._timer.cancel()
        self._woken.clear()

    def _due_now(self) -> float:
        """Up to when things are due: a timer may come a little early, and must find what it was set for."""
        return self._clock.mono() + _TIMER_SLACK

    async def _rest(self) -> None:
        """End what is under way: it is sent again."""
        for task in self._sends:
            task.cancel()
        await asyncio.gather(*self._sends, return_exceptions=True)

    async def _switch_off(self, word: str, reason: str) -> Webhook:
        """Tell it nothing more, and say so; however long the store fails."""
        now = self._clock.wall()
        self._given_up(self.lanes.give_up(now, "the webhook was switched off"), reason)
        off = replace(
            self.hook,
            status=WebhookStatus.DISABLED,
            disabled_reason=f"switched off at {now:%Y-%m-%d %H:%M} UTC: {reason}",
            failing_since=self.lanes.failing_since,
            position=self.lanes.position,
        )
        changes = self.lanes.changes()

        async def keep(tx: Tx) -> None:
            await webhooks.save(tx, off)
            if changes:
                await webhooks.put(tx, changes)

        while True:
            try:
                await self._desk.store.write(keep, weight=10 + len(changes))
                break
            except StoreError as error:
                log.error("webhook_not_switched_off", **about(self.hook), reason=str(error))
                await self._clock.sleep(_AGAIN)
        self._desk.metrics.webhooks_switched_off.labels(word).inc()
        log.warning("webhook_switched_off", **about(self.hook), reason=reason)
        return off

    def _given_up(self, count: int, reason: str) -> None:
        if count:
            self._desk.metrics.dropped.labels("webhook_delivery").inc(count)
            log.warning("webhook_deliveries_given_up", **about(self.hook), deliveries=count, reason=reason)


async def deliver(desk: Desk, hook: Webhook, event: Event) -> Answer:
    """Send an event once, now. It has the same id and body each time; only the signature's time is new."""
    body = {"type": event.draft.kind.value, "timestamp": event.draft.at, "data": events.shown(event.draft)}
    return await post(desk, hook, delivery_id(event.seq), body)


async def post(desk: Desk, hook: Webhook, message_id: str, message: Mapping[str, object]) -> Answer:
    """Send a message once, signed as of now."""
    now, begun = desk.clock.wall(), desk.clock.mono()
    body = json.dumps(message, ensure_ascii=False, separators=(",", ":"), default=_time).encode()
    try:
        answer = await desk.transport.post(hook.url, signing.headers(hook.secrets(now), message_id, now, body), body)
    except Exception:
        # A fault of ours in one attempt is a failed attempt, and not the end of the courier.
        log.exception("webhook_attempt_broken", **about(hook))
        answer = Answer(None, "the attempt failed inside the daemon; its log says why")
    desk.metrics.webhook_seconds.observe(desk.clock.mono() - begun)
    result = "delivered" if answer.delivered else "unreachable" if answer.status is None else "refused"
    desk.metrics.webhook_attempts.labels(result).inc()
    return answer


def delivery_id(seq: int) -> str:
    """The id of an event's delivery, which its receiver sees as ``webhook-id``: the same for each attempt."""
    return f"{_EVENT_PREFIX}{seq}"


def read_delivery_id(text: str) -> int | None:
    """The event's number; None for what never was a delivery's id."""
    digits = text.removeprefix(_EVENT_PREFIX)
    if digits == text or not (digits.isascii() and digits.isdigit() and len(digits) < 19):
        return None
    return int(digits)


def about(hook: Webhook) -> dict[str, str | int | None]:
    """The fields of every line that concerns a webhook. Its URL may hold a secret, and stays out."""
    return {"webhook_id": show_id(hook.id), "tenant": hook.tenant}


def _time(value: object) -> str:
    assert isinstance(value, datetime)
    return value.isoformat().replace("+00:00", "Z")
