"""Bodies on their way: how long they may take, how much of them may be held at once, and who looks at large ones."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from aiohttp import web
from aiohttp.http_exceptions import BadHttpMessage

from dialerd.api.context import Limits
from dialerd.api.problems import DATABASE_ERROR, INVALID_REQUEST, RATE_LIMITED, Refused, refuse
from dialerd.telemetry.metrics import Metrics

T = TypeVar("T")

_CLOSE = {"Connection": "close"}
_AGAIN_SECONDS = 5
WHOSE = web.RequestKey("whose", str)
"""The tenant whose request it is; empty for a system key's."""


class Quota:
    """How much of something all may have at once, and how much of it each."""

    def __init__(self, most: int, each: int) -> None:
        self._most = most
        self._each = each
        self._taken: Counter[str] = Counter()
        self._all = 0

    def take(self, who: str, amount: int) -> bool:
        """Take so much more, where there is so much left for this one and for all."""
        if self._taken[who] + amount > self._each or self._all + amount > self._most:
            return False
        self._taken[who] += amount
        self._all += amount
        return True

    def give_back(self, who: str, amount: int) -> None:
        """Let others have it."""
        self._all -= amount
        self._taken[who] -= amount
        if not self._taken[who]:
            del self._taken[who]


class Held:
    """What one request holds of a quota."""

    def __init__(self, quota: Quota, who: str, turn_away: Callable[[], Refused]) -> None:
        self._quota = quota
        self._who = who
        self._turn_away = turn_away
        self._amount = 0

    def take(self, amount: int) -> None:
        """Hold so much more. Raises Rejected (``rate_limited``) where there is not so much left."""
        if not self._quota.take(self._who, amount):
            raise self._turn_away()
        self._amount += amount

    def give_back(self) -> None:
        """Hold nothing any more."""
        self._quota.give_back(self._who, self._amount)
        self._amount = 0


class Arrivals:
    """The bodies that are on their way: a server that stops waits for none of them, for nobody could act on it."""

    def __init__(self, limits: Limits, metrics: Metrics) -> None:
        self._deadlines: set[asyncio.Timeout] = set()
        self._ended = False
        self._metrics = metrics
        self._bodies = Quota(limits.bodies_bytes, limits.tenant_bodies_bytes)
        # One at a time: two would only take the interpreter from each other, and both of them from the event loop.
        self._checking = ThreadPoolExecutor(max_workers=1, thread_name_prefix="bodies")

    def end(self) -> None:
        """Refuse those that are on their way, and all that come later."""
        self._ended = True
        for deadline in self._deadlines:
            if not deadline.expired():
                deadline.reschedule(0.0)
        self._checking.shutdown(wait=False)

    @contextlib.asynccontextmanager
    async def reading(self, seconds: float) -> AsyncIterator[None]:
        """Read a body in this block, for at most so many seconds. Raises Rejected, by what goes wrong on its way."""
        try:
            async with asyncio.timeout(0.0 if self._ended else seconds) as deadline:
                self._deadlines.add(deadline)
                try:
                    yield
                finally:
                    self._deadlines.discard(deadline)
        except TimeoutError:
            if self._ended:
                raise _stopping() from None
            raise refuse(INVALID_REQUEST, "the body did not arrive in time", _CLOSE) from None
        except (web.RequestPayloadError, BadHttpMessage):
            raise refuse(INVALID_REQUEST, "the body is cut short or badly encoded", _CLOSE) from None

    @contextlib.contextmanager
    def holding(self, raw: web.Request) -> Iterator[Held]:
        """Hold a request's body in memory within this block, as it comes and for as long as it is worked with."""
        held = Held(self._bodies, raw.get(WHOSE, ""), lambda: self.turn_away("memory", "bodies"))
        try:
            yield held
        finally:
            held.give_back()

    async def check(self, work: Callable[[], T], seconds: float) -> T:
        """Look at a large body beside the event loop, in turn. Raises Rejected, also where its turn does not come."""
        if self._ended:
            raise _stopping()
        try:
            async with asyncio.timeout(seconds):
                return await asyncio.get_running_loop().run_in_executor(self._checking, work)
        except TimeoutError:
            raise self.turn_away("turn", "bodies") from None

    def turn_away(self, reason: str, what: str) -> Refused:
        """The refusal of a body for which there is no room beside the others, counted by its reason."""
        self.count(reason)
        again = {"Retry-After": str(_AGAIN_SECONDS), **_CLOSE}
        return refuse(RATE_LIMITED, f"too many {what} are on their way; see Retry-After", again)

    def count(self, reason: str) -> None:
        """Count a body that is turned away."""
        self._metrics.bodies_turned_away.labels(reason).inc()


ARRIVALS = web.AppKey("arrivals", Arrivals)


def arriving(raw: web.Request, seconds: float) -> contextlib.AbstractAsyncContextManager[None]:
    """See :meth:`Arrivals.reading`; those of the request's own server."""
    return raw.app[ARRIVALS].reading(seconds)


def _stopping() -> Refused:
    return refuse(DATABASE_ERROR, "the daemon is stopping; the request changed nothing", _CLOSE)
