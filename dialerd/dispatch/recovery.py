"""After a restart, a lost link or a doubt: ask the PBX what lives, follow that on, and settle the rest.

What a PBX has kept of a call settles it as it was. A call is gone when two listings in a row do not show it, the first
of them begun long enough after it was sent that a fresh channel would have been there. Until a PBX has been asked once,
nothing is dialled on it.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Collection
from datetime import datetime, timedelta

import structlog

from dialerd.clock import Clock, Timer
from dialerd.core.model import CallStatus
from dialerd.core.snapshot import Gate
from dialerd.dispatch.calls import Calls
from dialerd.dispatch.live_call import LiveCall
from dialerd.dispatch.receipts import LISTING_LAG
from dialerd.pbx.driver import LinkLost, LinkState, PbxDriver
from dialerd.telemetry.logs import of_call
from dialerd.telemetry.metrics import Metrics

log = structlog.get_logger(__name__)

SECOND_LOOK = 1.0
"""Seconds between the two listings that prove a call gone."""
ROUTINE = 60.0
"""Seconds between two listings when nothing seems wrong."""
LONGEST_CALL = timedelta(seconds=86_400 + 300 + 3_600 + 60)
"""From the originate to the hangup by the PBX's own timers, at the very most: ``max_call_seconds``,
``answer_timeout`` and ``setup_seconds`` at the highest that they take, and a minute for a slow order."""
LATE_SECONDS = 300.0
"""How long listings go on each minute after a call was given up, should its channel come late and unheard."""
CLOSED_SECONDS = 5.0
"""How long a PBX that takes no calls is left alone before one is tried again."""
FULL_FIRST, FULL_MOST = 1.0, 30.0
"""How long a PBX that had no room for a call is left alone: twice as long each time, until it takes one again."""
_RETRY = 1.0


class Recovery:
    """Knows whether a PBX's calls are known, and makes them known again."""

    def __init__(
        self,
        pbx: str,
        driver: PbxDriver,
        calls: Calls,
        clock: Clock,
        metrics: Metrics,
        *,
        settled: Callable[[], None],
        wake: Callable[[], None],
    ) -> None:
        """``settled``: hears that no order is under way to this PBX any more, in whatever doubt it was."""
        self._pbx = pbx
        self._driver = driver
        self._calls = calls
        self._clock = clock
        self._metrics = metrics
        self._settled = settled
        self._wake = wake
        self._known = False
        self._doubted = -math.inf
        """When (monotonic) an order was last not answered."""
        self._since = _shown(clock.wall())
        self._wanted = asyncio.Event()
        self._timer: Timer | None = None
        self._closed: Gate | None = None
        """It refused a call of any kind; until one is tried again, or it comes back."""
        self._reopening: Timer | None = None
        self._told: Gate | None = None
        """Its own word that it takes no calls, until it takes that back or its link comes back."""
        self._full_seconds = FULL_FIRST
        self._late_until = -math.inf
        """Until when (monotonic) the channel of a call that was given up may still turn up."""
        self._missing: dict[str, float] = {}
        """Calls that a listing did not show, and when (monotonic) that listing was asked for."""

    def gate(self) -> Gate:
        """Whether the PBX takes calls now, and if not, why."""
        if self._driver.state is LinkState.UP and self._known:
            return self._told or self._closed or Gate(True)
        if self._driver.state is LinkState.UP:
            return Gate(False, f"pbx {self._pbx} is being asked which calls live")
        return Gate(False, f"{self._driver.reason or 'not connected'} on pbx {self._pbx} since {self._since}")

    def link_up(self) -> None:
        """The link is there again; what happened meanwhile was not heard."""
        self._reopen()
        self._told = None
        self._full_seconds = FULL_FIRST
        self._known = False
        self._wanted.set()

    def link_down(self) -> None:
        """The link is gone: the calls keep their slots until the PBX can be asked."""
        if self._known:
            self._since = _shown(self._clock.wall())
        self._known = False
        for live in self._calls.of_pbx(self._pbx):
            live.unheard = True
        # What a listing of before did not show stays so: a link that never lasts for two would settle nothing.
        self._settled()

    def closed(self, reason: str) -> None:
        """The PBX refuses every call: it is left alone for a while, and its link may well go in that time."""
        if self._closed is None:
            log.warning("pbx_closed", pbx=self._pbx, reason=reason)
            self._close(reason, CLOSED_SECONDS)

    def told(self, closed: str | None) -> None:
        """The PBX's own word that it takes no calls, and why; None: it takes them again."""
        if closed is not None:
            log.warning("pbx_closed", pbx=self._pbx, reason=closed)
        elif self._told is not None:
            log.info("pbx_open_again", pbx=self._pbx)
        self._told = None if closed is None else Gate(False, f"pbx {self._pbx} takes no calls: {closed}")

    def full(self, reason: str) -> None:
        """The PBX had no room for a call: it is left alone, longer each time in a row."""
        if self._closed is None:
            log.warning("pbx_full", pbx=self._pbx, reason=reason, seconds=self._full_seconds)
            self._close(f"it had no room for a call ({reason})", self._full_seconds)
            self._full_seconds = min(FULL_MOST, 2 * self._full_seconds)

    def taken(self) -> None:
        """The PBX has made a channel for a call: there is room."""
        if self._closed is None:
            self._full_seconds = FULL_FIRST

    def _close(self, reason: str, seconds: float) -> None:
        until = self._clock.wall() + timedelta(seconds=seconds)
        self._closed = Gate(False, f"pbx {self._pbx} takes no calls: {reason}", until)
        self._reopening = self._clock.call_at(self._clock.mono() + seconds, self._try_again)

    def _try_again(self) -> None:
        self._reopen()
        self._wake()

    def _reopen(self) -> None:
        self._closed = None
        if self._reopening is not None:
            self._reopening.cancel()
            self._reopening = None

    def in_doubt(self) -> bool:
        """An order was not answered: it may be under way still, so nothing is sent until a question after it is.

        False: the link is gone, and the order with it.
        """
        if self._driver.state is not LinkState.UP:
            return False
        self._known = False
        self._doubted = self._clock.mono()
        self._wanted.set()
        return True

    def doubt(self) -> None:
        """Something about a call of this PBX is not known: ask soon."""
        self._wanted.set()

    async def hang_up(self, live: LiveCall) -> None:
        """Ask the PBX to hang a call up, or see to it once the PBX can be asked."""
        if self._driver.state is not LinkState.UP or not self._known:
            # What became of the call meanwhile is not known: the listing tells, and asks again if it still is to end.
            log.info("hangup_put_off", **of_call(live.call), reason=self.gate().detail)
            return
        live.asked = True
        try:
            live.asked = await self._driver.hangup(live.call.id)
        except LinkLost as error:
            log.warning("hangup_not_asked", **of_call(live.call), reason=str(error))
            live.asked = False
        if not live.asked:
            self.doubt()

    async def hang_up_channel(self, call_id: str) -> bool:
        """Ask the PBX to hang up a channel that no call in flight stands for. Raises LinkLost; False: there is none."""
        try:
            asked = await self._driver.hangup(call_id)
        except LinkLost:
            self.doubt()
            raise
        if not asked:
            self._driver.forget(call_id)
        return asked

    async def run(self) -> None:
        """Ask whenever there is reason to, and each minute while calls are in flight. Runs until cancelled."""
        while True:
            await self._next_reason()
            self._wanted.clear()
            if self._driver.state is not LinkState.UP:
                self._outlast()
                continue
            try:
                await self._ask()
            except LinkLost as error:
                log.warning("listing_failed", pbx=self._pbx, reason=str(error))
                # A link that is gone asks again by itself; a listing that only failed is tried again.
                self._ask_in(_RETRY)
            except Exception:
                # What one PBX says must not end the daemon, and its next start as well: until it makes sense nothing
                # more is known of that PBX.
                log.exception("recovery_failed", pbx=self._pbx)
                self._metrics.dropped.labels("pbx_question").inc()
                self._ask_in(_RETRY)

    async def _next_reason(self) -> None:
        while not self._wanted.is_set():
            try:
                async with asyncio.timeout(ROUTINE):
                    await self._wanted.wait()
            except TimeoutError:
                if self._calls.of_pbx(self._pbx) or self._clock.mono() < self._late_until:
                    return

    async def _ask(self) -> None:
        asked_at = self._clock.mono()
        channels = {channel.call_id: channel for channel in await self._driver.live()}
        if self._driver.state is not LinkState.UP:
            return
        for channel in channels.values():
            if self._calls.get(channel.call_id) is not None:
                self._calls.confirm(channel)
            else:
                self._metrics.pbx_events_unknown.labels(self._pbx).inc()
                self._calls.on_stranger(self._pbx, channel.call_id)
        await self._settle_kept(channels, asked_at)
        if self._driver.state is not LinkState.UP:
            return
        lives = self._calls.of_pbx(self._pbx)
        in_flight = {live.call.id for live in lives}
        self._missing = {call_id: since for call_id, since in self._missing.items() if call_id in in_flight}
        for live in lives:
            if live.call.id in channels or live.heard_at > asked_at or live.end is not None:
                self._missing.pop(live.call.id, None)
            elif self._driver.ending(live.call.id):
                self._missing.pop(live.call.id, None)
                self._ask_in(SECOND_LOOK)  # should its end have been told while nobody listened
            elif live.sent_at is None:
                continue  # its order has not gone out, and waits for its rate, say: no listing can show it
            elif asked_at - live.sent_at < LISTING_LAG and not _was_there(live):
                self._ask_in(live.sent_at + LISTING_LAG - self._clock.mono())
            else:
                self._judge(live, asked_at)
        if not self._known and self._doubted <= asked_at:
            self._known = True
            self._settled()
            log.info("pbx_known", pbx=self._pbx, live=len(channels), in_flight=len(self._calls.of_pbx(self._pbx)))
            self._wake()
        if self._known:
            # Only now: until a PBX is known nobody is hung up on it.
            for call_id in channels:
                self._calls.press(call_id)

    async def _settle_kept(self, channels: Collection[str], asked_at: float) -> None:
        """Settle the missing calls of which the PBX has kept how they ended."""
        missing = {
            live.call.id: live
            for live in self._calls.of_pbx(self._pbx)
            if live.call.id not in channels and live.sent_at is not None and live.heard_at <= asked_at
        }
        if not missing:
            return
        for call_id, kept in (await self._driver.kept(missing)).items():
            live = missing[call_id]
            if self._calls.get(call_id) is live:
                log.info("call_found_ended", pbx=self._pbx, **of_call(live.call))
                self._driver.forget(call_id)
                self._calls.settle_kept(live, kept)

    def _outlast(self) -> None:
        """Settle the calls that are over for sure, by the PBX's own timers, on a PBX that cannot be asked."""
        over = self._clock.mono() - LONGEST_CALL.total_seconds()
        for live in self._calls.of_pbx(self._pbx):
            if live.sent_at is not None and live.sent_at < over:
                log.warning("call_outlasted", pbx=self._pbx, **of_call(live.call))
                self._driver.forget(live.call.id)
                self._calls.settle_unknown(live)

    def _judge(self, live: LiveCall, asked_at: float) -> None:
        """A call is missing from a listing: the second time it is gone."""
        call_id = live.call.id
        first = self._missing.setdefault(call_id, asked_at)
        if live.heard_at > first:
            # It spoke since: that listing was wrong about it, or old.
            first = self._missing[call_id] = asked_at
        if asked_at - first < SECOND_LOOK:
            self._ask_in(SECOND_LOOK - (asked_at - first))
            return
        del self._missing[call_id]
        log.warning("call_gone", pbx=self._pbx, **of_call(live.call))
        self._driver.forget(call_id)
        self._late_until = self._clock.mono() + LATE_SECONDS
        self._calls.settle_unknown(live, first)

    def _ask_in(self, seconds: float) -> None:
        if self._timer is None:
            self._timer = self._clock.call_at(self._clock.mono() + seconds, self._ask_now)

    def _ask_now(self) -> None:
        self._timer = None
        self._wanted.set()


def _was_there(live: LiveCall) -> bool:
    """Whether the process before this one heard a call ring: its channel is no fresh one, whenever that was."""
    return live.taken_up and live.call.status is not CallStatus.ORIGINATED


def _shown(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%MZ")
