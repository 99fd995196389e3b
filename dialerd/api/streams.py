"""Event streams: caught up from the store, then live from the feed, and never held up by one slow client."""

from __future__ import annotations

import asyncio
import json
from collections import OrderedDict
from collections.abc import Sequence
from datetime import UTC, datetime

import structlog
from aiohttp import web

from dialerd.api.context import Limits
from dialerd.api.problems import RATE_LIMITED, refuse
from dialerd.clock import Clock, show_id
from dialerd.dispatch.feed import Feed, Lagged, Subscription
from dialerd.store import events
from dialerd.store.db import Store
from dialerd.store.errors import StoreError
from dialerd.store.records import Event
from dialerd.telemetry.metrics import Metrics

log = structlog.get_logger(__name__)

_PAGE = 500
_ENCODED = 5000
_RETRY_MS = 2000
_COMMENT = b":\n\n"


class Streams:
    """All open event streams."""

    def __init__(self, store: Store, feed: Feed, metrics: Metrics, clock: Clock, limits: Limits) -> None:
        self._store = store
        self._feed = feed
        self._metrics = metrics
        self._clock = clock
        self._limits = limits
        self._encoded: OrderedDict[int, bytes] = OrderedDict()
        self._waits: set[asyncio.Timeout] = set()
        self._open = 0
        self._closing = False

    def close(self) -> None:
        """End all streams; their clients may come back to the next daemon."""
        self._closing = True
        now = asyncio.get_running_loop().time()
        for wait in self._waits:
            wait.reschedule(now)

    async def serve(self, raw: web.Request, campaign_id: int, after: int | None, last: int) -> web.StreamResponse:
        """Tell a campaign's events after a number (None: from now on) until the client leaves or the daemon stops.

        ``last`` is the number of the last event in the store. The stream opens with the id of its beginning: a client
        that loses it before the first event misses nothing.

        Raises Rejected (``rate_limited``) where too many streams are open.
        """
        if self._open >= self._limits.streams:
            raise refuse(RATE_LIMITED, "too many event streams are open")
        response = web.StreamResponse(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        response.content_type = "text/event-stream"
        response.charset = "utf-8"
        self._open += 1
        self._metrics.sse_clients.inc()
        try:
            # Followed before the headers are sent: what happens once the client knows of its stream is in it.
            with self._feed.follow(campaign_id) as subscription:
                await response.prepare(raw)
                if raw.transport is not None:
                    raw.transport.set_write_buffer_limits(high=self._limits.stream_buffer_bytes)
                place = max(last, subscription.after) if after is None else after
                await self._write(response, f"retry: {_RETRY_MS}\nid: {place}\n\n".encode())
                await self._tell(response, campaign_id, subscription, after)
        except ConnectionError:
            pass  # the client left
        except _Slow:
            self._metrics.sse_dropped.inc()
            log.info("event_stream_dropped", campaign_id=campaign_id, remote=raw.remote)
            if raw.transport is not None:
                raw.transport.abort()
        except StoreError as error:
            # The status is sent already: the stream ends, and the client asks again from where it was.
            log.warning("event_stream_ended", campaign_id=campaign_id, reason=str(error))
        finally:
            self._open -= 1
            self._metrics.sse_clients.dec()
        return response

    async def _tell(
        self, response: web.StreamResponse, campaign_id: int, subscription: Subscription, after: int | None
    ) -> None:
        if after is not None:
            subscription.after = await self._catch_up(response, campaign_id, after, subscription.after)
        while not self._closing:
            try:
                fresh = await self._next(subscription)
            except Lagged:
                place = subscription.after
                subscription.after = await self._catch_up(response, campaign_id, place, self._feed.last)
                continue
            if not fresh:
                if not self._closing:
                    await self._write(response, _COMMENT)
                continue
            await self._write(response, self._encode(fresh))
            # One write for what comes close together: a thousand clients cost a thousand writes, not one per event.
            await self._clock.sleep(self._limits.stream_pause_seconds)

    async def _next(self, subscription: Subscription) -> list[Event]:
        """The next events; none where nothing happened for a heartbeat, or the daemon stops. Raises Lagged."""
        try:
            async with asyncio.timeout(self._limits.heartbeat_seconds) as wait:
                self._waits.add(wait)
                try:
                    return await subscription.next(_PAGE)
                finally:
                    self._waits.discard(wait)
        except TimeoutError:
            return []

    async def _catch_up(self, response: web.StreamResponse, campaign_id: int, after: int, upto: int) -> int:
        """Tell from the store what was missed; returns the place from which the feed goes on."""
        while not self._closing:
            async with self._store.read() as conn:
                missed = await events.after(conn, campaign_id, after, _PAGE)
            if missed:
                await self._write(response, self._encode(missed))
                after = missed[-1].seq
            if len(missed) < _PAGE:
                break
        return max(after, upto)

    async def _write(self, response: web.StreamResponse, chunk: bytes) -> None:
        try:
            async with asyncio.timeout(self._limits.drain_seconds):
                await response.write(chunk)
        except TimeoutError:
            raise _Slow from None

    def _encode(self, told: Sequence[Event]) -> bytes:
        return b"".join([self._encode_one(each) for each in told])

    def _encode_one(self, event: Event) -> bytes:
        chunk = self._encoded.get(event.seq)
        if chunk is None:
            chunk = self._encoded[event.seq] = encode(event)
            if len(self._encoded) > _ENCODED:
                self._encoded.popitem(last=False)
        return chunk


def encode(event: Event) -> bytes:
    """An event as it goes over the wire."""
    draft = event.draft
    data = {
        "campaign_id": show_id(draft.campaign_id),
        "contact_id": None if draft.contact_id is None else show_id(draft.contact_id),
        "call_id": draft.call_id,
        "status": draft.status,
        "outcome": draft.outcome,
        "phone_number": draft.phone_number,
        "at": _time(draft.at),
    }
    if draft.reason is not None:
        data["reason"] = draft.reason
    # JSON escapes line breaks, so that the data is one line whatever it holds.
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return f"event: {draft.kind.value}\nid: {event.seq}\ndata: {text}\n\n".encode()


def _time(at: datetime) -> str:
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


class _Slow(Exception):
    """The client did not read for too long."""
