"""One campaign's events to all who follow it: encoded once, and written to each client in the same chunk.

A client is no more here than a place: the number of the last event that it has. Whoever does not read what was written
to it is let go of, and comes back when it has caught up from the store.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from itertools import takewhile

import structlog

from dialerd.clock import Clock
from dialerd.dispatch.feed import Lagged, Subscription
from dialerd.store import events
from dialerd.store.errors import StoreError
from dialerd.store.records import Event

log = structlog.get_logger(__name__)

PAGE = 500
COMMENT = b":\n\n"
_RING = 2000
"""Encoded events kept for clients that come from the store: they find the end of it before it has moved on."""
_AT_ONCE = 50
"""Clients written to before others have a turn of the event loop."""

Missed = Callable[[int], Awaitable[Sequence[Event]]]
"""Reads the next events after a number from the store; none where there are no more. Raises StoreError."""


class Client:
    """Somebody who follows a campaign over one connection."""

    def __init__(self, transport: asyncio.Transport, after: int, *, chunked: bool, most: int) -> None:
        """``chunked``: by HTTP's chunked coding. ``most``: bytes that may wait for it."""
        self.after = after
        """The number of the last event that was written to it."""
        self._transport = transport
        self._chunked = chunked
        self._most = most
        self._let_go = asyncio.Event()
        self.ended = False
        """Nothing more is told to it: its key opens nothing any more."""

    async def let_go(self) -> None:
        """Wait until it is written to no more: it lags, or the stream ends. Raises ConnectionError where it is gone."""
        await self._let_go.wait()
        self._let_go.clear()
        if self._transport.is_closing():
            raise ConnectionError("the client left")

    def release(self) -> None:
        """It is written to no more."""
        self._let_go.set()

    def end(self) -> None:
        """Tell it nothing more, whatever waits for it in the store."""
        self.ended = True
        self.release()

    def write(self, chunk: bytes, framed: bytes | None = None) -> bool:
        """Write without waiting; False where it is to be let go of. ``framed``: the same, by the chunked coding."""
        if self._transport.is_closing() or self.ended:
            return False
        self._transport.write((framed or _framed(chunk)) if self._chunked else chunk)
        return self._transport.get_write_buffer_size() <= self._most


class Fanout:
    """Follows one campaign for many clients."""

    def __init__(
        self, subscription: Subscription, missed: Missed, clock: Clock, *, pause: float, heartbeat: float
    ) -> None:
        """``pause``: seconds between two chunks; ``heartbeat``: after so many without any, a comment is written."""
        self._subscription = subscription
        self._missed = missed
        self._clock = clock
        self._pause = pause
        self._heartbeat = heartbeat
        self._place = subscription.after
        """The number of the last event that was written to all."""
        self._recent: deque[tuple[int, bytes]] = deque(maxlen=_RING)
        self._forgotten = self._place
        """Events up to this number are not among the recent ones (any more)."""
        self._clients: dict[Client, None] = {}
        self._ended = False
        self.users = 0
        """Requests that are served from here, whether their client has caught up or not."""

    async def run(self) -> None:
        """Write what happens until cancelled, or until the store fails."""
        try:
            while True:
                if fresh := await self._next():
                    await self._tell(fresh)
                    await self._clock.sleep(self._pause)
                else:
                    await self._each(lambda client: client.write(COMMENT))
        except StoreError as error:
            # The clients' answers have begun: their streams end, and they ask again from where they were.
            log.warning("event_streams_ended", reason=str(error))
        finally:
            self._ended = True
            for client in list(self._clients):
                self._release(client)

    @property
    def ended(self) -> bool:
        """Whether nothing is written from here any more."""
        return self._ended

    def join(self, client: Client) -> bool:
        """Write to a client from now on what comes after its place; False where that is only in the store by now."""
        if client.after < self._forgotten or self._ended:
            return False
        self._clients[client] = None
        later = list(takewhile(lambda each: each[0] > client.after, reversed(self._recent)))
        client.after = max(client.after, self._place)
        if later and not client.write(b"".join(chunk for _, chunk in reversed(later))):
            self._release(client)
        return True

    def leave(self, client: Client) -> None:
        """Write to a client no more; harmless when repeated."""
        self._clients.pop(client, None)

    def _release(self, client: Client) -> None:
        self.leave(client)
        client.release()

    async def _next(self) -> Sequence[Event]:
        """The next events; none where nothing happened for a heartbeat. Raises StoreError."""
        try:
            async with asyncio.timeout(self._heartbeat):
                return await self._subscription.next(PAGE)
        except TimeoutError:
            return ()
        except Lagged:
            # So much at once, a stop of very many contacts, that the feed has let go of some of it.
            fresh = await self._missed(self._place)
            if fresh:
                self._subscription.after = fresh[-1].seq
            else:
                self._subscription.skip()
            return fresh

    async def _tell(self, fresh: Sequence[Event]) -> None:
        before, last = self._place, fresh[-1].seq
        encoded = [(event.seq, encode(event)) for event in fresh]
        whole = b"".join(chunk for _, chunk in encoded)
        whole_framed = _framed(whole)
        for each in encoded:
            if len(self._recent) == _RING:
                self._forgotten = self._recent[0][0]
            self._recent.append(each)
        # Whoever joins while this goes on has it all from the recent ones.
        self._place = last

        def write(client: Client) -> bool:
            had, client.after = client.after, max(client.after, last)
            if had >= last:
                return True
            if had > before:
                return client.write(b"".join(chunk for seq, chunk in encoded if seq > had))
            return client.write(whole, whole_framed)

        await self._each(write)

    async def _each(self, write: Callable[[Client], bool]) -> None:
        """Write to all, some at a time: nobody who dials waits for a thousand of them."""
        clients = list(self._clients)
        for start in range(0, len(clients), _AT_ONCE):
            for client in clients[start : start + _AT_ONCE]:
                if client in self._clients and not write(client):
                    self._release(client)
            await self._clock.sleep(0)


def _framed(chunk: bytes) -> bytes:
    """A chunk of HTTP's chunked coding (RFC 9112, 7.1)."""
    return b"%x\r\n%b\r\n" % (len(chunk), chunk)


def encode(event: Event) -> bytes:
    """An event as it goes over the wire."""
    # JSON escapes line breaks, so that the data is one line whatever it holds.
    text = json.dumps(events.shown(event.draft), ensure_ascii=False, separators=(",", ":"))
    return f"event: {event.draft.kind.value}\nid: {event.seq}\ndata: {text}\n\n".encode()
