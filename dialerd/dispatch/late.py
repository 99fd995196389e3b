"""Channels that come after their call was given up: nobody follows them, so they are hung up.

A PBX may make a channel long after it took the order, when two listings have proven the call gone and its slot and its
contact went on to others. Such a channel is known by its id: in memory for a call that this process gave up, in the
store for one that a process before it did. Whatever else bears an id of our shape is another's, and left alone.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from dialerd.clock import Clock
from dialerd.dispatch.calls import Calls
from dialerd.dispatch.journal import Journal
from dialerd.dispatch.lately import Lately
from dialerd.dispatch.tasks import Spawn
from dialerd.pbx.driver import LinkLost
from dialerd.store import calls as stored
from dialerd.store.db import Store
from dialerd.store.errors import StoreError
from dialerd.telemetry.metrics import Metrics

log = structlog.get_logger(__name__)

NOTE: Final = "its channel came after the call was given up, and was hung up"
"""What the call's ``hangup_text`` says from then on."""
ASKED_AGAIN: Final = 2.0
"""Seconds after which a channel that still shows itself is hung up once more."""
_MOST_WONDERED: Final = 1000
"""Channels that wait for the store to say whose they are. Another dialer's are asked about once each."""
_MOST_REMEMBERED: Final = 20_000
_RETRY: Final = 1.0
_MOST_TRIES: Final = 60


class LateChannels:
    """Hangs up what turns up late, and says so in the call's books."""

    def __init__(
        self,
        store: Store,
        journal: Journal,
        calls: Calls,
        clock: Clock,
        metrics: Metrics,
        *,
        spawn: Spawn,
        hang_up: Callable[[str, str], Awaitable[bool]],
    ) -> None:
        """``hang_up``: asks a PBX to hang up a channel, as a driver's ``hangup`` does."""
        self._store = store
        self._journal = journal
        self._calls = calls
        self._clock = clock
        self._metrics = metrics
        self._spawn = spawn
        self._hang_up = hang_up
        self._wondered: dict[str, str] = {}
        """Channels that nobody knows yet, and the PBX of each."""
        self._looking = False
        self._others: Lately[None] = Lately(_MOST_REMEMBERED)
        """Ids that the store does not know."""
        self._asked: Lately[float] = Lately(_MOST_REMEMBERED)
        """Late channels, and when (monotonic) each was last to be hung up."""

    def seen(self, pbx: str, call_id: str) -> None:
        """A PBX shows a channel, with an id of our shape, that no call in flight stands for. Never waits."""
        asked = self._asked.get(call_id)
        if asked is not None:
            if self._clock.mono() - asked >= ASKED_AGAIN:
                self._end(pbx, call_id)
        elif self._calls.given_up.get(call_id) == pbx:
            self._end(pbx, call_id)
        elif call_id not in self._others and call_id not in self._wondered:
            self._wonder(pbx, call_id)

    def _end(self, pbx: str, call_id: str) -> None:
        first = call_id not in self._asked
        self._asked[call_id] = self._clock.mono()
        self._spawn(self._ask_to_end(pbx, call_id, first=first))

    async def _ask_to_end(self, pbx: str, call_id: str, *, first: bool) -> None:
        try:
            asked = await self._hang_up(pbx, call_id)
        except LinkLost as error:
            log.warning("late_channel_not_hung_up", pbx=pbx, call_id=call_id, reason=str(error))
            self._asked.pop(call_id, None)
            return  # the next listing shows it again
        if not asked or not first:
            return
        log.warning("late_channel_hung_up", pbx=pbx, call_id=call_id)
        self._metrics.late_channels.labels(pbx).inc()
        await self._journal.durable()  # the step that gave the call up would write over the note
        try:
            await self._store.write(lambda tx: stored.note_hangup(tx.conn, call_id, NOTE))
        except StoreError as error:
            log.warning("late_channel_not_noted", call_id=call_id, reason=str(error))

    def _wonder(self, pbx: str, call_id: str) -> None:
        if len(self._wondered) >= _MOST_WONDERED:
            self._metrics.dropped.labels("late_channel").inc()
            log.warning("channel_not_looked_up", pbx=pbx, call_id=call_id)
            return
        self._wondered[call_id] = pbx
        if not self._looking:
            self._looking = True
            self._spawn(self._look_up())

    async def _look_up(self) -> None:
        """Ask the store whose the channels are, until none is left to ask about."""
        tries = 0
        try:
            while self._wondered:
                asked = dict(self._wondered)
                try:
                    async with self._store.read() as conn:
                        ended = await stored.ended_by_id(conn, list(asked))
                except StoreError as error:
                    tries += 1
                    if tries < _MOST_TRIES:
                        await self._clock.sleep(_RETRY)
                        continue
                    log.warning("channels_not_looked_up", channels=len(asked), reason=str(error))
                    self._metrics.dropped.labels("late_channel").inc(len(self._wondered))
                    return
                for call_id, pbx in asked.items():
                    del self._wondered[call_id]
                    self._judge(pbx, call_id, ended)
        finally:
            self._wondered.clear()
            self._looking = False

    def _judge(self, pbx: str, call_id: str, ended: dict[str, tuple[str, bool]]) -> None:
        if call_id not in ended:
            self._others[call_id] = None
            return
        theirs, over = ended[call_id]
        # One that has not ended by the store is in flight at whoever dials from it, or its end is just being written.
        if over and theirs == pbx and self._calls.get(call_id) is None:
            self._end(pbx, call_id)
