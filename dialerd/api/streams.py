"""Event streams: caught up from the store, then written to together, and never held up by one slow client."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Container, Iterator, Sequence

import structlog
from aiohttp import HttpVersion11, web
from aiohttp.abc import AbstractStreamWriter

from dialerd.api.connections import left_unread
from dialerd.api.context import Limits
from dialerd.api.fanout import COMMENT, PAGE, Client, Fanout, encode
from dialerd.api.problems import RATE_LIMITED, refuse
from dialerd.clock import Clock, show_id
from dialerd.dispatch.feed import Feed
from dialerd.store import events, keys
from dialerd.store.db import Store
from dialerd.store.errors import StoreError
from dialerd.store.keys import Principal
from dialerd.store.records import Event
from dialerd.telemetry.metrics import Metrics

log = structlog.get_logger(__name__)

_RETRY_MS = 2000


class Streams:
    """All open event streams."""

    def __init__(
        self,
        store: Store,
        feed: Feed,
        metrics: Metrics,
        clock: Clock,
        limits: Limits,
        tenants: Container[str],
        deleted: Callable[[int], None],
    ) -> None:
        """``tenants``: those that there are, now. ``deleted`` hears of a key that another process has deleted."""
        self._store = store
        self._feed = feed
        self._metrics = metrics
        self._clock = clock
        self._limits = limits
        self._tenants = tenants
        self._deleted = deleted
        self._clients: dict[Principal, set[Client]] = {}
        """Who is told, by the key that opened the stream."""
        self._watching: asyncio.Task[None] | None = None
        self._fanouts: dict[int, tuple[Fanout, asyncio.Task[None]]] = {}
        self._open = 0
        self._closing = False

    def close(self) -> None:
        """End all streams; their clients may come back to the next daemon."""
        self._closing = True
        for _, task in self._fanouts.values():
            task.cancel()
        if self._watching is not None:
            self._watching.cancel()

    def forget(self, key_id: int) -> None:
        """A key was deleted: end what it opened."""
        for principal in [each for each in self._clients if each.key_id == key_id]:
            self._end(principal)

    async def serve(
        self,
        raw: web.Request,
        principal: Principal,
        campaign_id: int,
        after: int | None,
        last: int,
        missed: int | None = None,
    ) -> web.StreamResponse:
        """Tell a campaign's events after a number (None: from now on) until the client leaves or the daemon stops.

        ``last`` is the number of the last event in the store. The stream opens with the id of its beginning: a client
        that loses it before the first event misses nothing. ``missed``: events after ``after`` up to this number are no
        longer kept, which an event ``reset`` tells.

        Raises Rejected (``rate_limited``) where too many streams are open.
        """
        if self._open >= self._limits.streams:
            raise refuse(RATE_LIMITED, "too many event streams are open")
        response = web.StreamResponse(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        response.content_type = "text/event-stream"
        response.charset = "utf-8"
        chunked = raw.version >= HttpVersion11
        if chunked:
            response.enable_chunked_encoding()
        self._open += 1
        self._metrics.sse_clients.inc()
        try:
            # Followed before the headers are sent: what happens once the client knows of its stream is in it.
            with self._following(campaign_id) as fanout:
                place = max(last, self._feed.last) if after is None else after
                writer = await response.prepare(raw)
                if writer is None or raw.transport is None:
                    raise ConnectionError("the client left")
                raw.transport.set_write_buffer_limits(high=self._limits.stream_buffer_bytes)
                client = Client(raw.transport, place, chunked=chunked, most=self._limits.stream_buffer_bytes)
                with self._opened_by(principal, client):
                    await self._write(writer, _opening(place, missed))
                    await self._tell(client, writer, campaign_id, fanout)
        except ConnectionError:
            if left_unread(raw):
                self._dropped(raw, campaign_id)
        except _Slow:
            self._dropped(raw, campaign_id)
            if raw.transport is not None:
                raw.transport.abort()
        except StoreError as error:
            # The status is sent already: the stream ends, and the client asks again from where it was.
            log.warning("event_stream_ended", campaign_id=campaign_id, reason=str(error))
        finally:
            self._open -= 1
            self._metrics.sse_clients.dec()
        return response

    @contextlib.contextmanager
    def _opened_by(self, principal: Principal, client: Client) -> Iterator[None]:
        """Meanwhile the stream ends as soon as its key opens nothing any more."""
        self._clients.setdefault(principal, set()).add(client)
        if self._watching is None or self._watching.done():
            self._watching = asyncio.create_task(self._watch_keys(), name="stream-keys")
        try:
            yield
        finally:
            clients = self._clients[principal]
            clients.discard(client)
            if not clients:
                del self._clients[principal]

    async def _watch_keys(self) -> None:
        """Look again with each heartbeat: another process may have deleted a key, a tenant may have left."""
        while self._clients:
            await self._clock.sleep(self._limits.heartbeat_seconds)
            asked = list(self._clients)
            try:
                async with self._store.read() as conn:
                    standing = await keys.standing(conn, [each.key_id for each in asked])
            except StoreError as error:
                log.warning("stream_keys_not_read", reason=str(error))
                continue
            for key_id in {each.key_id for each in asked} - standing:
                self._deleted(key_id)
            for principal in asked:
                if principal.key_id not in standing or principal.tenant not in self._tenants:
                    self._end(principal)

    def _end(self, principal: Principal) -> None:
        clients = self._clients.get(principal, ())
        log.info("event_streams_of_key_ended", key_id=show_id(principal.key_id), streams=len(clients))
        for client in clients:
            client.end()

    def _dropped(self, raw: web.Request, campaign_id: int) -> None:
        self._metrics.sse_dropped.inc()
        log.info("event_stream_dropped", campaign_id=campaign_id, remote=raw.remote)

    @contextlib.contextmanager
    def _following(self, campaign_id: int) -> Iterator[Fanout]:
        """The campaign's fan-out, which runs for as long as anybody is served from it."""
        known = self._fanouts.get(campaign_id)
        if known is None or known[0].ended:
            known = self._fanouts[campaign_id] = self._fanout(campaign_id)
        fanout, task = known
        fanout.users += 1
        try:
            yield fanout
        finally:
            fanout.users -= 1
            if not fanout.users:
                task.cancel()
                if self._fanouts.get(campaign_id) is known:
                    del self._fanouts[campaign_id]

    def _fanout(self, campaign_id: int) -> tuple[Fanout, asyncio.Task[None]]:
        with contextlib.ExitStack() as stack:
            subscription = stack.enter_context(self._feed.follow(campaign_id))

            async def missed(after: int) -> Sequence[Event]:
                return await self._page(campaign_id, after)

            limits = self._limits
            fanout = Fanout(
                subscription,
                missed,
                self._clock,
                pause=limits.stream_pause_seconds,
                heartbeat=limits.heartbeat_seconds,
            )
            task = asyncio.create_task(fanout.run(), name="event-fanout")
            kept = stack.pop_all()
            task.add_done_callback(lambda _: kept.close())
        return fanout, task

    async def _tell(self, client: Client, writer: AbstractStreamWriter, campaign_id: int, fanout: Fanout) -> None:
        while not self._closing and not fanout.ended and not client.ended:
            if not fanout.join(client):
                await self._catch_up(client, writer, campaign_id)
                continue
            try:
                await client.let_go()
            finally:
                fanout.leave(client)
            # What waits for it is to be read before more is written; a comment says nothing.
            await self._write(writer, COMMENT)

    async def _catch_up(self, client: Client, writer: AbstractStreamWriter, campaign_id: int) -> None:
        """Tell from the store what the client has not."""
        while not self._closing and not client.ended:
            upto = self._feed.last
            missed = await self._page(campaign_id, client.after)
            if missed:
                await self._write(writer, b"".join(map(encode, missed)))
                client.after = missed[-1].seq
            if len(missed) < PAGE:
                client.after = max(client.after, upto)
                break

    async def _page(self, campaign_id: int, after: int) -> Sequence[Event]:
        async with self._store.read() as conn:
            return await events.after(conn, campaign_id, after, PAGE)

    async def _write(self, writer: AbstractStreamWriter, chunk: bytes) -> None:
        try:
            async with asyncio.timeout(self._limits.drain_seconds):
                await writer.write(chunk)
                await writer.drain()
        except TimeoutError:
            raise _Slow from None


def _opening(place: int, missed: int | None) -> bytes:
    text = f"retry: {_RETRY_MS}\nid: {place}\n\n"
    if missed is not None:
        text += f'event: reset\nid: {missed}\ndata: {{"missed_up_to":"{missed}"}}\n\n'
    return text.encode()


class _Slow(Exception):
    """The client did not read for too long."""
