"""A campaign dialled in memory: the daemon's planner, limits, trunks' health and calls, on simulated PBXs.

What it leaves out is what takes no time of the calls': the store, the sockets and recovery. Contacts wait in memory.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from dialerd.clock import StepClock, Timer
from dialerd.config import Config
from dialerd.core.fairness import charge
from dialerd.core.model import Agent, AgentKind, Campaign, CampaignStatus, Contact, ContactStatus, Moment, Tenant
from dialerd.core.outcome import Verdict
from dialerd.core.permit import number_rules
from dialerd.core.phone import format_dial
from dialerd.core.plan import plan
from dialerd.core.rules import AFTER
from dialerd.core.settings import CampaignSettings
from dialerd.core.snapshot import OPEN, CampaignView, Gate, PlannedCall, Snapshot
from dialerd.core.throttle import Key, Level, Shares
from dialerd.core.windows import WindowMemo
from dialerd.dispatch.ailments import Ailments
from dialerd.dispatch.calls import Calls
from dialerd.dispatch.limits import Configured, LimitBook
from dialerd.dispatch.live_call import LiveCall
from dialerd.dispatch.put_back import PutBack
from dialerd.dispatch.sending import live_call
from dialerd.forecast.assumptions import Assumptions
from dialerd.forecast.tally import Tally
from dialerd.forecast.waiting import Waiting
from dialerd.pbx.driver import CallEvent, Ended, Originate, Place
from dialerd.pbx.simulated_pbx import SimulatedPbx, TrunkWord
from dialerd.store.records import CallStep
from dialerd.store.steps import day_of
from dialerd.telemetry.metrics import Metrics

CAMPAIGN, AGENT = 1, 1
_TIMER_RESOLUTION = 1e-6
_ANYWHERE = Place(context="c", exten="s")
_RARELY = (200_000, 20, 50)
"""The collector's thresholds: a call leaves no cycle behind, and what else does is little."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is to be foretold."""

    config: Config
    tenant: Tenant
    settings: CampaignSettings
    start: datetime
    """Aware."""
    assumptions: Assumptions = field(default_factory=Assumptions)
    agent_calls: int | None = None
    """Calls that the agent takes at once; None: as many as come."""
    seed: int = 1
    longest: timedelta = timedelta(days=90)
    """Nothing is foretold beyond."""


@dataclass(frozen=True, slots=True)
class Came:
    """What came of it."""

    tally: Tally
    contacts: Counter[ContactStatus]
    """How many ended in which status; those that are left are pending."""
    seconds: float
    """Until the last call ended, or until nothing more could happen."""
    why_not: str | None
    """Why contacts are left; None: the list is done."""
    why_rule: str | None
    """The rule that says so, if one does."""
    settings: CampaignSettings
    trunk_limits: dict[str, int]
    of_part: int | None = None
    """How many contacts were dialled, where all figures are multiplied from a part of the list; None: all of them."""


class _Trunks:
    """The health of the trunks, as the dispatcher follows it; nobody pauses one here."""

    def __init__(self, ailments: dict[str, Ailments]) -> None:
        self.ailments = ailments

    def rang(self, live: LiveCall) -> None:
        if live.probe:
            self.ailments[live.call.trunk].rang(live)

    def answered(self, live: LiveCall) -> None:
        self.ailments[live.call.trunk].answered(live)

    def judge(self, live: LiveCall, verdict: Verdict, event: Ended) -> bool:
        return self.ailments[live.call.trunk].judge(live, verdict, event)


class Run:
    """One campaign, from its start to the last call."""

    def __init__(self, question: Question, contacts: Iterable[Contact], told: Callable[[int], None] = lambda _: None):
        """``told`` hears now and then how many contacts are through. Raises Unfit."""
        self._question = question
        self._told = told
        config, settings, tenant = question.config, question.settings, question.tenant
        self._clock = StepClock(question.seed, question.start)
        metrics = Metrics()
        self._configured = Configured(
            {tenant.id: tenant},
            {each.id: each for each in config.trunks()},
            {each.id: each for each in config.pbxs()},
        )
        guard = config.dispatch.cps_guard_ms / 1000
        limits = LimitBook(self._configured, guard, metrics)
        self._book = limits.book
        self._agent = Agent(AGENT, tenant.id, "agent", AgentKind.DIALPLAN, question.agent_calls, context="c", exten="s")
        self._campaign = Campaign(
            CAMPAIGN, tenant.id, "forecast", None, AGENT, CampaignStatus.ACTIVE, settings, question.start
        )
        limits.campaign(self._campaign)
        limits.agent(self._agent)
        self._trunks = _Trunks(
            {
                trunk.id: Ailments(trunk, self._book, self._clock, metrics, guard, self._put_back)
                for trunk in self._configured.trunks.values()
            }
        )
        self._calls = Calls(
            self,
            self._clock,
            metrics,
            trunks=self._trunks,
            on_end=self._ended,
            hang_up=self._hang_up,
            on_overdue=lambda _: None,
        )
        self._pbxs: dict[str, SimulatedPbx] = {}
        for index, (name, pbx) in enumerate(config.pbx.items()):
            made = SimulatedPbx(question.assumptions.settings(pbx, question.seed + index), self._clock)
            made.connect(functools.partial(self._hear, name), lambda _: None)
            limits.pbx_own(name, made.settings.max_channels, None)
            self._pbxs[name] = made
        looks_back = number_rules(tenant, settings, ()).horizon
        listed = list(contacts)
        self._waiting = Waiting(listed, question.start, settings.concurrent_calls, looks_back)
        self._left = len(listed)
        self._through: Counter[ContactStatus] = Counter()
        self._tally = Tally(settings.zone(), tuple(self._configured.trunks))
        self._shares, self._windows = Shares(), WindowMemo()
        self._placed: Counter[str] = Counter()
        self._today = ""
        self._woken = False
        self._alarm: Timer | None = None
        self._alarm_at = math.inf
        self._why: tuple[str, str | None] = ("nothing could be dialled", None)
        """Why not now, and the rule that says so."""
        self._last_end = 0.0

    def run(self) -> Came:
        """Dial until all contacts are through, or nothing can happen any more."""
        with _uncollected():
            return self._run()

    def _run(self) -> Came:
        longest = self._question.longest.total_seconds()
        self._plan()
        why: tuple[str | None, str | None] = (None, None)
        while self._left:
            if not self._clock.step(longest):
                late = self._clock.step() and len(self._calls) == 0
                why = (f"{self._question.longest.days} days are over", None) if late else self._why
                break
            if self._woken:
                self._plan()
        self._tally.close(self._clock.now())
        self._through[ContactStatus.PENDING] = self._left
        limits = {each.id: each.max_channels - each.reserved_channels for each in self._configured.trunks.values()}
        return Came(self._tally, self._through, self._last_end, *why, self._question.settings, limits)

    # -- planning -----------------------------------------------------------------------------------------------

    def _plan(self) -> None:
        self._woken = False
        now = self._clock.now()
        for ailments in self._trunks.ailments.values():
            ailments.pace(now.mono)
        self._waiting.refill(now.wall)
        planned = plan(self._snapshot(), now)
        for deferral in planned.deferrals:
            self._waiting.take(deferral.contact)
            if deferral.until is None:
                self._over(replace(deferral.contact, status=ContactStatus.CANCELLED))
            else:
                self._waiting.put_off(deferral.contact, deferral.until)
        for call in planned.calls:
            charge(self._shares, call)
            if call.probe:
                self._trunks.ailments[call.trunk.id].probing()
            self._waiting.take(call.contact)
            self._send(call, now.wall)
        reason = planned.reasons.get(CAMPAIGN)
        self._tally.keeps(reason, now)
        if reason is not None:
            self._why = (reason.detail, reason.rule)
        # A batch that is used up must not hide who is behind it; and who was put off falls due at a time that this plan
        # did not know.
        refilled = planned.hungry != () and self._waiting.refill(now.wall)
        self._woken = refilled or planned.deferrals != ()
        self._set_alarm(now.mono if self._woken else planned.wake_at)

    def _set_alarm(self, at: float | None) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm_at = math.inf if at is None else at
        self._alarm = None if at is None else self._clock.call_at(at, self._wake)

    def _wake_when_due(self, now: Moment) -> None:
        if (due := self._waiting.next_due) is not None:
            at = now.mono + max(0.0, (due - now.wall).total_seconds()) + AFTER
            if at < self._alarm_at:
                self._set_alarm(at)

    def _wake(self) -> None:
        self._woken = True

    def _snapshot(self) -> Snapshot:
        today = day_of(self._clock.wall())
        if today != self._today:
            self._today = today
            self._placed.clear()
        gates = ((name, self._gate(name)) for name in self._configured.trunks)
        return Snapshot(
            campaigns=[CampaignView(self._campaign, self._agent, self._waiting.at_hand, self._waiting.next_due)],
            tenants=self._configured.tenants,
            trunks=self._configured.trunks,
            pbxs=self._configured.pbxs,
            gates={Key(Level.TRUNK, name): gate for name, gate in gates if gate is not OPEN},
            book=self._book,
            shares=self._shares,
            placed_today=self._placed,
            windows=self._windows,
        )

    def _gate(self, trunk: str, *, probe: bool = False) -> Gate:
        return self._trunks.ailments[trunk].gate(self._clock.now(), probe=probe)

    # -- calls --------------------------------------------------------------------------------------------------

    def _send(self, planned: PlannedCall, at: datetime) -> None:
        setup = self._question.config.dispatch.setup_seconds
        live = live_call(planned, self._clock.uuid(), at, setup)
        self._placed[live.call.tenant] += 1
        self._book.take(live.call.id, planned.keys)
        self._book.reserve(planned.keys, planned.send_at)
        self._calls.add(live)
        self._tally.began(live.call.trunk, self._clock.now())
        self._waiting.dialled(live.call.phone_number, at)
        self._send_when_lawful(planned, live)

    def _send_when_lawful(self, planned: PlannedCall, live: LiveCall) -> None:
        now = self._clock.mono()
        moment = max(planned.send_at, self._book.lawful(planned.keys))
        if moment - now >= _TIMER_RESOLUTION:
            self._clock.call_at(moment, functools.partial(self._send_when_lawful, planned, live))
            return
        gate = self._gate(live.call.trunk, probe=live.probe)
        if not gate.open or (gate.probe and not live.probe):
            self._calls.withdraw(live, gate.detail)
            return
        self._book.sent(planned.keys, now)
        self._calls.sent(live)
        refused = self._pbxs[live.call.pbx].place(_order(planned, live))
        if refused is not None:
            self._calls.refuse(live, refused.verdict, refused.reason)

    def _hear(self, pbx: str, event: CallEvent | TrunkWord) -> None:
        if not isinstance(event, TrunkWord):
            self._calls.hear(pbx, event)

    def _hang_up(self, live: LiveCall) -> None:
        live.asked = True
        # Not within the call's own timer, as it is never with a real PBX: that timer is not done with the call yet.
        pbx = self._pbxs[live.call.pbx]
        self._clock.call_at(self._clock.mono(), lambda: pbx.hangup(live.call.id))

    def _ended(self, live: LiveCall) -> None:
        now, call = self._clock.now(), live.call
        self._book.release(call.id)
        self._trunks.ailments[call.trunk].settled(live)
        assert call.outcome is not None
        if call.outcome == "cancelled":
            self._tally.withdrawn(call.trunk, now)
        else:
            self._tally.ended(call.trunk, call.outcome.value, answered=call.answered_at is not None, now=now)
        self._last_end = now.mono
        if self._waiting.at_hand:
            self._wake()
        else:
            # A slot that frees is of use to nobody; and its own contact may be the next to fall due.
            self._wake_when_due(now)

    # -- contacts -----------------------------------------------------------------------------------------------

    def step(self, step: CallStep) -> None:
        """Take a step of a call, as the journal does: its contact waits for its next attempt, or is through."""
        contact = step.contact
        if contact is None or contact.status is ContactStatus.CONNECTED:
            return
        if contact.status is ContactStatus.PENDING:
            assert contact.next_attempt_at is not None
            self._waiting.put_off(contact, contact.next_attempt_at)
        else:
            self._over(contact)

    def _over(self, contact: Contact) -> None:
        self._waiting.settled(contact)
        self._through[contact.status] += 1
        self._left -= 1
        if self._left % 1000 == 0:
            self._told(self._through.total())

    def _put_back(self, failures: Sequence[PutBack]) -> None:
        # The last call of each is settled first, as it is by the daemon, which waits for it to be durable.
        self._clock.call_at(self._clock.mono(), lambda: self._do_put_back(failures))

    def _do_put_back(self, failures: Sequence[PutBack]) -> None:
        for contact in self._waiting.put_back(failures, self._clock.wall()):
            if contact.status is not ContactStatus.PENDING:
                self._through[contact.status] -= 1
                self._left += 1
        self._wake()


def _order(planned: PlannedCall, live: LiveCall) -> Originate:
    """What the simulated PBX needs of an order: its callees hear no variables, and every place takes calls."""
    return Originate(
        call_id=live.call.id,
        dial=format_dial(planned.trunk.dial, live.call.phone_number),
        caller_id=None,
        place=_ANYWHERE,
        setup_seconds=live.setup_seconds,
        max_call_seconds=planned.campaign.settings.max_call_seconds,
        hands_over=live.hands_over,
    )


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Keep the collector from a list that stays: looking through it again and again finds nothing to free."""
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(*_RARELY)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
