"""The way of a planned call to the wire: its slots, its commit, the moment that every rate allows, and the order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

import structlog

from dialerd.clock import Clock, show_id
from dialerd.core.model import Agent, AgentKind, Call, CallStatus, ContactStatus
from dialerd.core.outcome import Fault, Outcome, Verdict
from dialerd.core.permit import number_rules
from dialerd.core.phone import format_dial, formatted
from dialerd.core.snapshot import PlannedCall
from dialerd.core.throttle import Arrival, Book
from dialerd.core.variables import channel_variables
from dialerd.core.zones import callee_zones
from dialerd.dispatch.calls import Calls
from dialerd.dispatch.days import DayCounts
from dialerd.dispatch.hopper import Hopper
from dialerd.dispatch.journal import Journal
from dialerd.dispatch.listed import ListWatch
from dialerd.dispatch.live_call import LiveCall
from dialerd.dispatch.receipts import Receipts
from dialerd.dispatch.tasks import Tasks
from dialerd.pbx.driver import Accepted, InDoubt, Originate, PbxDriver, Place, Refused
from dialerd.store.errors import StoreError
from dialerd.store.records import EventDraft, EventKind, Originating
from dialerd.telemetry.logs import of_call
from dialerd.telemetry.metrics import Metrics

log = structlog.get_logger(__name__)

_TIMER_RESOLUTION = 1e-6
"""Seconds that a timer may fire early; the guard of a rate is ten thousand times that."""


@dataclass(slots=True)
class _Sending:
    """A planned call on its way to the wire."""

    live: LiveCall
    planned: PlannedCall
    looked: int = 0
    """The version of the do-not-call lists that the call's commit, or a later look, has seen at least."""


class Sender:
    """Sends what the planner planned, each call once or not at all."""

    def __init__(
        self,
        journal: Journal,
        clock: Clock,
        metrics: Metrics,
        drivers: Mapping[str, PbxDriver],
        *,
        calls: Calls,
        hopper: Hopper,
        book: Book,
        tasks: Tasks,
        setup_seconds: float,
        receipts: Receipts,
        listed: ListWatch,
        objection: Callable[[LiveCall, PlannedCall], str | None],
        place_refused: Callable[[LiveCall, str], None],
        closed: Callable[[str, str], None],
        in_doubt: Callable[[str], bool],
        wake: Callable[[], None],
    ) -> None:
        self._journal = journal
        self._clock = clock
        self._metrics = metrics
        self._drivers = drivers
        self._calls = calls
        self._hopper = hopper
        self._book = book
        self._tasks = tasks
        self.setup_seconds = setup_seconds
        """Allowed from the originate to the first ring, of each call from now on."""
        self._receipts = receipts
        self._listed = listed
        self._objection = objection
        """Why a committed call must not go out after all; None: it may."""
        self._place_refused = place_refused
        self._closed = closed
        """A PBX takes no calls at present, for this reason."""
        self._in_doubt = in_doubt
        """An order to a PBX may still be under way: it is asked what lives. False: its link is gone, so it is not."""
        self._wake = wake
        self.days = DayCounts()
        self.launching = 0
        """Rounds of calls on their way to their commits."""
        self._launched = asyncio.Event()
        self._launched.set()

    async def launched(self) -> None:
        """Wait until no call is on its way to its commit."""
        await self._launched.wait()

    def send(self, planned: Sequence[PlannedCall], at: datetime) -> None:
        """Take the slots and the rates of planned calls, so that the next plan counts them, and send them."""
        sending = []
        for each in planned:
            live = live_call(each, self._clock.uuid(), at, self.setup_seconds)
            self.days.add(live.call)
            self._book.take(live.call.id, each.keys)
            self._book.reserve(each.keys, each.send_at)
            sending.append(_Sending(live, each, self._listed.version))
        self.launching += 1
        self._launched.clear()
        self._tasks.spawn(self._launch(sending))

    async def _launch(self, sending: Sequence[_Sending]) -> None:
        try:
            await self._commit(sending)
        finally:
            self.launching -= 1
            if not self.launching:
                self._launched.set()

    async def _commit(self, sending: Sequence[_Sending]) -> None:
        """Commit calls to the journal; only then does each go its way to the wire."""
        try:
            claimed = await self._journal.originate([_originating(each) for each in sending])
        except StoreError as error:
            log.error("calls_not_committed", calls=len(sending), reason=str(error))
            claimed = frozenset()
        except Exception:
            # A fault of ours, before anything was committed. Their contacts stay taken until the next start: they would
            # be planned again at once, and fail again.
            for each in sending:
                self._unplan(each.live.call)
            raise
        for each in sending:
            self._hopper.done(each.live.call.campaign_id, each.live.contact.id)
            if each.live.call.id in claimed:
                self._calls.add(each.live)
                self._tasks.spawn(self._send_or_settle(each))
            else:
                # The contact was cancelled meanwhile, or the store fails: it is as if nothing had been planned.
                self._unplan(each.live.call)
        if len(claimed) < len(sending):
            for campaign_id in {each.live.call.campaign_id for each in sending}:
                self._hopper.stir(campaign_id)
            self._wake()

    def _unplan(self, call: Call) -> None:
        self._book.release(call.id)
        self.days.take_back(call)

    async def _send_or_settle(self, sending: _Sending) -> None:
        """Send a committed call. One that a fault of ours keeps from it is over: nothing else would end it."""
        try:
            await self._send(sending)
        except Exception:
            live = sending.live
            if live.sent_at is None and self._calls.get(live.call.id) is live:
                self._calls.refuse(live, Verdict(Outcome.FAILED, Fault.DAEMON), "a fault of the daemon's, see its log")
            raise

    async def _send(self, sending: _Sending) -> None:
        """Wait for the moment that every limit allows, look once more, and send. Never sent twice."""
        live, planned = sending.live, sending.planned
        while True:
            now = self._clock.mono()
            moment = max(planned.send_at, self._book.lawful(planned.keys))
            if self._calls.get(live.call.id) is not live:
                return  # settled while it waited
            objection = self._objection(live, planned)
            if objection is None and moment - now >= _TIMER_RESOLUTION:
                await self._receipts.until(moment)
                continue
            if objection is None and sending.looked != self._listed.version:
                sending.looked = self._listed.version
                objection = await self._listed.objection(live.call)
                if objection is None:
                    continue
            break
        if objection is not None:
            if self._calls.get(live.call.id) is live:
                self._calls.withdraw(live, objection)
            return
        arrival = Arrival()
        live.arrived = partial(self._receipts.came, arrival)
        self._book.sent(planned.keys, now, arrival)
        self._metrics.dispatch_delay.observe(max(0.0, now - planned.send_at))
        self._calls.sent(live)
        try:
            answer = await self._drivers[live.call.pbx].originate(order_of(planned, live))
        except Exception:
            self._receipt(live, InDoubt("the driver failed"), arrival)  # it may be under way, and must not stay so
            raise
        self._receipt(live, answer, arrival)

    def _receipt(self, live: LiveCall, answer: Accepted | Refused | InDoubt, arrival: Arrival) -> None:
        pbx, trunk = live.call.pbx, live.call.trunk
        match answer:
            case Accepted():
                self._receipts.taken(arrival)
                self._metrics.originates.labels(pbx, trunk, "accepted").inc()
            case InDoubt(reason):
                self._metrics.originates.labels(pbx, trunk, "in_doubt").inc()
                log.warning("originate_in_doubt", **of_call(live.call), pbx=pbx, reason=reason)
                if self._in_doubt(pbx):
                    self._receipts.missing(pbx, arrival)
                else:
                    self._receipts.taken(arrival)
            case Refused(reason, verdict, place_refused, pbx_closed):
                self._receipts.came(arrival)
                self._metrics.originates.labels(pbx, trunk, "refused").inc()
                log.warning("originate_refused", **of_call(live.call), pbx=pbx, reason=reason)
                if pbx_closed:
                    self._closed(pbx, reason)
                if self._calls.get(live.call.id) is not live:
                    return
                if place_refused:
                    # Nothing is wrong with the contact, and every next call of the campaign would be refused as well.
                    self._calls.withdraw(live, reason)
                    self._place_refused(live, reason)
                elif pbx_closed:
                    self._calls.withdraw(live, reason)
                else:
                    self._calls.refuse(live, verdict, reason)


def live_call(planned: PlannedCall, call_id: str, at: datetime, setup_seconds: float) -> LiveCall:
    """A planned call as it is followed, with its contact as the call leaves it behind."""
    contact = replace(
        planned.contact,
        status=ContactStatus.ORIGINATED,
        attempts=planned.contact.attempts + 1,
        next_attempt_at=None,
        updated_at=at,
    )
    call = Call(
        id=call_id,
        tenant=planned.tenant.id,
        campaign_id=planned.campaign.id,
        contact_id=contact.id,
        attempt=contact.attempts,
        pbx=planned.trunk.pbx,
        trunk=planned.trunk.id,
        agent_id=planned.agent.id,
        caller_id=planned.caller_id,
        phone_number=contact.phone_number,
        status=CallStatus.ORIGINATED,
        originated_at=at,
        hands_over=planned.agent.kind is AgentKind.QUEUE,
    )
    settings = planned.campaign.settings
    setup = settings.answer_timeout + setup_seconds
    return LiveCall(call, contact, settings, setup, hands_over=bool(call.hands_over), probe=planned.probe)


def _originating(sending: _Sending) -> Originating:
    call, contact = sending.live.call, sending.live.contact
    event = EventDraft(
        EventKind.ORIGINATED,
        call.campaign_id,
        contact.status.value,
        call.originated_at,
        contact_id=contact.id,
        call_id=call.id,
        phone_number=call.phone_number,
    )
    settings = sending.live.settings
    zones = callee_zones(settings, contact) or ()
    return Originating(call, contact, event, number_rules(sending.planned.tenant, settings, zones))


def order_of(planned: PlannedCall, live: LiveCall) -> Originate:
    """What the PBX is told of a call."""
    return Originate(
        call_id=live.call.id,
        dial=format_dial(planned.trunk.dial, live.call.phone_number),
        caller_id=planned.caller_id and formatted(planned.caller_id, planned.trunk.caller_id_format),
        place=_place(planned.agent),
        setup_seconds=live.setup_seconds,
        max_call_seconds=planned.campaign.settings.max_call_seconds,
        variables=channel_variables(live.call, live.contact, planned.campaign.settings.variables, show_id=show_id),
        hands_over=live.hands_over,
    )


def _place(agent: Agent) -> Place:
    if agent.kind is AgentKind.QUEUE:
        return Place(queue=agent.queue or "")
    if agent.kind is AgentKind.APPLICATION:
        return Place(application=agent.application, data=agent.data or "")
    return Place(context=agent.context, exten=agent.exten, priority=agent.priority)
