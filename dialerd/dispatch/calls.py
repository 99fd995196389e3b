"""The calls in flight: one event of a PBX becomes one step of the table, and one entry in the journal."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Protocol

import structlog

from dialerd.clock import Clock
from dialerd.core import contact as contact_table
from dialerd.core.contact import ContactEvent
from dialerd.core.machine import step
from dialerd.core.model import CallStatus, ContactStatus, HungUpBy
from dialerd.core.outcome import Fault, Outcome, Verdict
from dialerd.core.retry import settle
from dialerd.dispatch.lately import Lately
from dialerd.dispatch.live_call import Goal, LiveCall, final_verdict, last_known, left
from dialerd.pbx.driver import (
    Answered,
    CallEvent,
    ChannelState,
    Dialling,
    Ended,
    HandedOver,
    Kept,
    LiveChannel,
    Ringing,
)
from dialerd.store.records import CallStep, EventDraft, EventKind
from dialerd.telemetry.logs import debug_call, of_call
from dialerd.telemetry.metrics import Metrics

log = structlog.get_logger(__name__)

GRACE_SECONDS = 10.0
"""How much later than its own limit a call may end before the PBX is asked about it."""
_MOST_GIVEN_UP = 20_000


_EVENT_OF: dict[ContactEvent, EventKind] = {
    ContactEvent.COMPLETE: EventKind.COMPLETED,
    ContactEvent.FAIL: EventKind.FAILED,
    ContactEvent.RETRY: EventKind.RETRY_SCHEDULED,
}


class Steps(Protocol):
    """Who keeps what the PBX told of the calls: the journal."""

    def step(self, step: CallStep) -> None:
        """Take a step of a call. Never waits and never fails."""


class TrunkWatch(Protocol):
    """Who learns from the calls how well their trunks are."""

    def rang(self, live: LiveCall) -> None:
        """A call rings."""

    def answered(self, live: LiveCall) -> None:
        """A call was answered."""

    def judge(self, live: LiveCall, verdict: Verdict, event: Ended) -> bool:
        """A call ended; True: its trunk is to blame, so that it spends nothing of its contact's."""


class Calls:
    """Follows every call in flight. Never waits: what has to be durable goes to the journal."""

    def __init__(
        self,
        journal: Steps,
        clock: Clock,
        metrics: Metrics,
        *,
        trunks: TrunkWatch,
        on_end: Callable[[LiveCall], None],
        hang_up: Callable[[LiveCall], None],
        on_overdue: Callable[[LiveCall], None],
    ) -> None:
        self._journal = journal
        self._clock = clock
        self._metrics = metrics
        self._trunks = trunks
        self._on_end = on_end
        self._hang_up = hang_up
        self._on_overdue = on_overdue
        self._live: dict[str, LiveCall] = {}
        self._of_campaign: Counter[int] = Counter()
        self.given_up: Lately[str] = Lately(_MOST_GIVEN_UP)
        """The latest calls that were settled without a word of their PBX, and the PBX of each."""
        self.on_unheard_end: Callable[[LiveCall, Ended], None] = self.settle_ended
        """Hears of the end of a call of which something may not have been heard; :meth:`settle_ended` must follow."""
        self.on_stranger: Callable[[str, str], None] = lambda _pbx, _call_id: None
        """Hears of a channel (its PBX, its id) that no call in flight stands for."""
        self._empty = asyncio.Event()
        self._empty.set()

    def __len__(self) -> int:
        return len(self._live)

    async def empty(self) -> None:
        """Wait until no call is in flight."""
        await self._empty.wait()

    def get(self, call_id: str) -> LiveCall | None:
        """A call in flight."""
        return self._live.get(call_id)

    def of_pbx(self, pbx: str) -> list[LiveCall]:
        """The calls in flight on a PBX."""
        return [live for live in self._live.values() if live.call.pbx == pbx]

    def of_campaign(self, campaign_id: int) -> list[LiveCall]:
        """The calls in flight of a campaign."""
        if not self._of_campaign[campaign_id]:
            return []
        return [live for live in self._live.values() if live.call.campaign_id == campaign_id]

    def add(self, live: LiveCall) -> None:
        """Follow a committed call."""
        self._live[live.call.id] = live
        self._of_campaign[live.call.campaign_id] += 1
        self._empty.clear()
        live.heard_at = self._clock.mono()

    def sent(self, live: LiveCall) -> None:
        """The order is going to the PBX: from now on it may exist there, and must end in time."""
        live.sent_at = live.heard_at = self._clock.mono()
        debug_call("call_sent", live.call)
        self._overdue_after(live, live.setup_seconds + GRACE_SECONDS)

    def resume(self, live: LiveCall, sent_before: float) -> None:
        """Follow a call that was in flight before this process began; recovery asks for it.

        ``sent_before``: until when (monotonic) the process before this one may have sent it.
        """
        self.add(live)
        live.sent_at, live.taken_up, live.unheard = sent_before, True, True
        self._watch(live)

    def disarm(self) -> None:
        """Follow no call any more: the daemon stops."""
        for live in self._live.values():
            live.disarm()

    def stop_campaign(self, campaign_id: int) -> list[LiveCall]:
        """A campaign has ended: what its calls in flight end in is final."""
        calls = self.of_campaign(campaign_id)
        for live in calls:
            live.stopped = True
        return calls

    def hear(self, pbx: str, event: CallEvent) -> None:
        """Take one event of a PBX."""
        live = self._live.get(event.call_id)
        if live is None or live.call.pbx != pbx:
            # Late news of a settled call, or a channel of somebody else's.
            self._metrics.pbx_events_unknown.labels(pbx).inc()
            if live is None and not isinstance(event, Ended):
                self.on_stranger(pbx, event.call_id)
            return
        live.heard(self._clock.mono())
        if live.end is not None:
            return
        match event:
            case Dialling():
                pass
            case Ringing():
                self._ringing(live)
            case Answered():
                self._answered(live)
            case HandedOver():
                self._handed_over(live)
            case Ended() if live.unheard and event.channel:
                live.disarm()
                live.end = event
                self.on_unheard_end(live, event)
            case Ended():
                self._ended(live, event)

    def confirm(self, channel: LiveChannel) -> None:
        """A listing shows the channel of a call: take from it what was not heard."""
        live = self._live.get(channel.call_id)
        if live is None or live.end is not None:
            return
        live.heard(self._clock.mono())
        if channel.state is ChannelState.UP and live.goal in (Goal.SETUP, Goal.ANSWER_TIMEOUT) and not live.asked:
            # It was answered while nobody heard of it, and before anybody could give it up.
            live.goal = None
        if channel.state is ChannelState.RINGING:
            self._ringing(live)
        elif channel.state is ChannelState.UP:
            self._answered(live)

    def press(self, call_id: str) -> None:
        """A call lives: where it was to be hung up, the PBX was not told or did not do it, and is asked again."""
        live = self._live.get(call_id)
        if live is not None and live.goal is not None and live.end is None:
            self._hang_up(live)

    def settle_unknown(self, live: LiveCall, missing_since: float | None = None) -> None:
        """The PBX has no channel of this call and told no end: it is interrupted.

        ``missing_since``: the first listing (monotonic) without it. Its order had arrived by then or never will.
        """
        if missing_since is not None and live.arrived is not None:
            live.arrived(missing_since)
            live.arrived = None
        self.given_up[live.call.id] = live.call.pbx
        self._ended(live, Ended(live.call.id, Verdict(Outcome.INTERRUPTED, Fault.PBX), hung_up_by=None))

    def settle_kept(self, live: LiveCall, kept: Kept) -> None:
        """A call ended while nobody heard it, and the PBX has kept what became of it."""
        # By two clocks, so no earlier than what is known of it, and not in the future.
        ended_at = min(self._clock.wall(), max(last_known(live.call), kept.ended_at))
        self._take_kept(live, kept, ended_at)
        self._ended(live, kept.ended, ended_at)

    def settle_ended(self, live: LiveCall, ended: Ended, kept: Kept | None = None) -> None:
        """A call ended, as its PBX told; ``kept``: what that kept of it, which tells what was not heard before."""
        if kept is not None:
            self._take_kept(live, kept, self._clock.wall())
            talk = kept.ended.talk_seconds if ended.talk_seconds is None else ended.talk_seconds
            ended = replace(ended, talk_seconds=talk)
        self._ended(live, ended)

    def _take_kept(self, live: LiveCall, kept: Kept, ended_at: datetime) -> None:
        if live.call.answered_at is None:
            talk = timedelta(seconds=kept.ended.talk_seconds or 0.0)
            self._answered(live, max(last_known(live.call), ended_at - talk))
        if kept.handed_over and live.call.handed_over_at is None:
            live.call = replace(live.call, handed_over_at=live.call.answered_at)

    def withdraw(self, live: LiveCall, reason: str) -> None:
        """A committed call that will not be sent after all: its contact waits again, and nothing was spent."""
        verdict = Verdict(Outcome.CANCELLED, Fault.NONE)
        self._ended(live, Ended(live.call.id, verdict, hangup_text=reason, channel=False))

    def withdraw_unsent(self, reason: str) -> None:
        """Take back every committed call whose order has not gone out."""
        for live in [each for each in self._live.values() if each.sent_at is None]:
            self.withdraw(live, reason)

    def refuse(self, live: LiveCall, verdict: Verdict, reason: str) -> None:
        """The PBX refused the order: no channel was made."""
        self._ended(live, Ended(live.call.id, verdict, hangup_text=reason, channel=False))

    def _ringing(self, live: LiveCall) -> None:
        if live.call.status is not CallStatus.ORIGINATED:
            return
        at = self._clock.wall()
        live.call = replace(live.call, status=CallStatus.RINGING, ringing_at=at)
        self._record(live, None, EventKind.RINGING, at)
        self._watch(live)
        self._trunks.rang(live)

    def _answered(self, live: LiveCall, at: datetime | None = None) -> None:
        """``at``: when, where that was not just now."""
        if live.call.answered_at is not None:
            return
        at = at or self._clock.wall()
        # A place of the dialplan has the call from the answer on; a queue may let the callee wait.
        handed_over = None if live.hands_over else at
        live.call = replace(live.call, status=CallStatus.CONNECTED, answered_at=at, handed_over_at=handed_over)
        self._move(live, ContactEvent.ANSWER, EventKind.CONNECTED, at, live.contact.last_outcome)
        self._watch(live)
        self._trunks.answered(live)

    def _handed_over(self, live: LiveCall) -> None:
        if not live.hands_over or live.call.handed_over_at is not None:
            return
        self._answered(live)
        live.call = replace(live.call, handed_over_at=self._clock.wall())
        self._record(live, None, None, self._clock.wall())

    def _ended(self, live: LiveCall, event: Ended, at: datetime | None = None) -> None:
        """``at``: when, where that was not just now."""
        live.disarm()
        if event.place_refused:
            live.place_refused = f"it hung up an answered call: {event.hangup_text or 'no cause given'}"
        at = at or self._clock.wall()
        verdict = final_verdict(live, event)
        spared = self._trunks.judge(live, verdict, event)
        if spared:
            verdict = replace(verdict, fault=Fault.TRUNK)
        connected = live.call.answered_at is not None
        never_sent = not event.channel and not connected
        talk = event.talk_seconds if connected else None
        if live.call.answered_at is not None and talk is None and verdict.outcome is not Outcome.INTERRUPTED:
            # When an interrupted call ended nobody knows: it was found gone perhaps hours later.
            talk = max(0.0, (at - live.call.answered_at).total_seconds())
        live.call = replace(
            live.call,
            status=CallStatus.NOT_SENT if never_sent else CallStatus.ENDED,
            outcome=verdict.outcome,
            fault=verdict.fault,
            hangup_cause=event.hangup_cause,
            hangup_text=event.hangup_text,
            sip_status=event.sip_status,
            hung_up_by=HungUpBy.DIALER if live.asked and event.channel else event.hung_up_by,
            ended_at=at,
            talk_seconds=talk,
        )
        settlement = settle(
            live.settings,
            live.contact,
            verdict,
            at,
            connected=connected,
            stopped=live.stopped,
            never_sent=never_sent,
            spared=spared,
        )
        had = live.contact.last_outcome
        live.contact = replace(
            live.contact,
            callee_tries=settlement.callee_tries,
            mishaps=settlement.mishaps,
            outcomes=settlement.outcomes,
            last_outcome=verdict.outcome,
            next_attempt_at=settlement.next_attempt_at,
            # A promise is kept by a call, and not by one that we took back before it left or that its trunk spoilt.
            callback=live.contact.callback and (spared or (never_sent and verdict.outcome is Outcome.CANCELLED)),
        )
        self._move(live, settlement.event, _EVENT_OF[settlement.event], at, had)
        del self._live[live.call.id]
        self._of_campaign[live.call.campaign_id] -= 1
        if not self._of_campaign[live.call.campaign_id]:
            del self._of_campaign[live.call.campaign_id]
        if not self._live:
            self._empty.set()
        debug_call("call_ended", live.call, outcome=verdict.outcome.value)
        self._metrics.calls.labels(verdict.outcome.value, live.call.trunk, live.call.pbx).inc()
        self._on_end(live)

    def _move(self, live: LiveCall, event: ContactEvent, kind: EventKind, at: datetime, had: Outcome | None) -> None:
        """Step the contact; ``had`` is its last outcome before."""
        was = live.contact.status
        now = step(contact_table.TRANSITIONS, was, event)
        live.contact = replace(live.contact, status=now, updated_at=at)
        self._record(live, was, kind, at, had)

    def _record(
        self,
        live: LiveCall,
        was: ContactStatus | None,
        kind: EventKind | None,
        at: datetime,
        had: Outcome | None = None,
    ) -> None:
        call, contact = live.call, live.contact
        event = None
        if kind is not None:
            event = EventDraft(
                kind,
                call.campaign_id,
                contact.status.value,
                at,
                contact_id=contact.id,
                call_id=call.id,
                outcome=call.outcome,
                phone_number=call.phone_number,
            )
        self._journal.step(CallStep(call, None if was is None else contact, was or contact.status, event, had))

    def _watch(self, live: LiveCall) -> None:
        """Set the limits of a call's present state: of its ringing, of its talking, and when to ask about it."""
        live.disarm()
        call, now = live.call, self._clock.wall()
        if call.answered_at is not None:
            self._hang_up_after(live, left(live.settings.max_call_seconds, call.answered_at, now), Goal.CALL_LIMIT)
        elif call.ringing_at is not None:
            self._hang_up_after(live, left(live.settings.answer_timeout, call.ringing_at, now), Goal.ANSWER_TIMEOUT)
        else:
            self._overdue_after(live, live.setup_seconds + GRACE_SECONDS)

    def _hang_up_after(self, live: LiveCall, seconds: float, goal: Goal) -> None:
        def expire() -> None:
            live.aim(goal)
            self._hang_up(live)
            self._overdue_after(live, GRACE_SECONDS)

        live.timers.append(self._clock.call_at(self._clock.mono() + seconds, expire))

    def _overdue_after(self, live: LiveCall, seconds: float, *, again: bool = False) -> None:
        """``again``: it was asked about before. One that still only dials has outlived its PBX's own timer."""

        def overdue() -> None:
            self._metrics.calls_overdue.inc()
            log.warning("call_overdue", **of_call(live.call), pbx=live.call.pbx, status=live.call.status)
            self._on_overdue(live)
            if again and live.goal is None:  # those that ring or talk have a limit of ours
                live.aim(Goal.SETUP)
                self._hang_up(live)
            self._overdue_after(live, GRACE_SECONDS, again=True)

        live.timers.append(self._clock.call_at(self._clock.mono() + seconds, overdue))
