"""The dispatcher: wakes when something happened or at the planned moment, plans, journals, sends. It never polls."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import structlog

from dialerd.clock import Clock, show_id
from dialerd.core.forecast import Pace
from dialerd.core.model import Agent, AgentKind, Call, CallStatus, Campaign, ContactStatus, Pbx, Tenant, Trunk
from dialerd.core.permit import number_rules
from dialerd.core.phone import format_dial
from dialerd.core.plan import (
    OPEN,
    CampaignView,
    Deferral,
    Gate,
    Plan,
    PlannedCall,
    Snapshot,
    charge,
    explain,
    plan,
)
from dialerd.core.throttle import Book, Capacity, Key, Level, Shares
from dialerd.core.variables import channel_variables
from dialerd.core.windows import WindowMemo
from dialerd.core.zones import callee_zones
from dialerd.dispatch.calls import Calls, Goal, LiveCall
from dialerd.dispatch.hopper import Hopper
from dialerd.dispatch.journal import Journal
from dialerd.dispatch.recovery import Recovery
from dialerd.dispatch.trunks import Trunks
from dialerd.pbx.driver import (
    Accepted,
    InDoubt,
    LinkDown,
    LinkLost,
    LinkState,
    LinkUp,
    Originate,
    PbxDriver,
    PbxEvent,
    Place,
    Refused,
)
from dialerd.store import contacts
from dialerd.store.db import GROUP_WEIGHT, Store
from dialerd.store.errors import StoreError
from dialerd.store.records import CallStep, EventDraft, EventKind, Originating
from dialerd.store.steps import day_of
from dialerd.store.tx import Tx
from dialerd.telemetry.metrics import Metrics

log = structlog.get_logger(__name__)

_LONGEST_SLEEP = 60.0
"""A wall clock that jumps moves the planned moment: it is looked at again after so many seconds at most."""
_DEFER_AGAIN = timedelta(seconds=5)
"""After which contacts whose deferral could not be committed are looked at again."""
_TIMER_RESOLUTION = 1e-6
"""Seconds that a timer may fire early; the guard of a rate is ten thousand times that."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What the configuration says beyond the tables of PBXs, trunks and tenants."""

    cps_guard_seconds: float = 0.06
    setup_seconds: float = 10.0
    """Allowed for post-dial delay, on top of a campaign's answer_timeout."""


@dataclass(slots=True)
class _Active:
    """An active campaign in memory."""

    campaign: Campaign
    agent: Agent | None
    waiting_since: float | None = None
    pace: Pace = field(default_factory=Pace)


@dataclass(slots=True)
class _Configured:
    """What the configuration names."""

    tenants: Mapping[str, Tenant]
    trunks: Mapping[str, Trunk]
    pbxs: Mapping[str, Pbx]


@dataclass(slots=True)
class _Sending:
    """A planned call on its way to the wire."""

    live: LiveCall
    planned: PlannedCall


class Dispatcher:
    """Decides with the planner, and does what it decided."""

    def __init__(
        self,
        store: Store,
        journal: Journal,
        clock: Clock,
        metrics: Metrics,
        drivers: Mapping[str, PbxDriver],
        *,
        tenants: Mapping[str, Tenant],
        trunks: Sequence[Trunk],
        pbxs: Sequence[Pbx],
        limits: Limits,
    ) -> None:
        self._store = store
        self._journal = journal
        self._clock = clock
        self._metrics = metrics
        self._drivers = drivers
        self._limits = limits
        self._configured = _Configured(tenants, {each.id: each for each in trunks}, {each.id: each for each in pbxs})
        self._campaigns: dict[int, _Active] = {}
        self._book = Book()
        self._shares = Shares()
        self._windows = WindowMemo()
        self._woken = asyncio.Event()
        self._tasks: asyncio.TaskGroup | None = None
        self._draining: str | None = None
        self._stopped = False
        self._placed: Counter[str] = Counter()
        """Calls of each tenant today, as the journal counts them."""
        self._today = ""
        self.calls = Calls(
            journal, clock, metrics, on_end=self._call_ended, hang_up=self._hang_up, on_overdue=self._overdue
        )
        self.hopper = Hopper(store, clock, self._spawn, self.wake)
        self._recoveries = {
            name: Recovery(name, driver, self.calls, clock, metrics, wake=self.wake) for name, driver in drivers.items()
        }
        journal.on_written = self._steps_written
        self.trunks = Trunks(self._configured.trunks, self._book, store, clock, pbx_gate=self.pbx_gate, wake=self.wake)
        self._set_limits()
        metrics.before_render.append(self._measure)

    # -- what others tell the dispatcher ------------------------------------------------------------------------

    def wake(self) -> None:
        """Something happened: plan again soon."""
        self._woken.set()

    def hear(self, pbx: str, event: PbxEvent) -> None:
        """Take an event from a PBX's driver. Never waits."""
        match event:
            case LinkUp(version):
                log.info("pbx_up", pbx=pbx, version=version)
                self._metrics.pbx_link_up.labels(pbx).set(1)
                self._recoveries[pbx].link_up()
            case LinkDown(reason, refused):
                log.warning("pbx_down", pbx=pbx, reason=reason, refused=refused)
                self._metrics.pbx_link_up.labels(pbx).set(0)
                self._recoveries[pbx].link_down()
            case _:
                self._metrics.pbx_events.labels(pbx, type(event).__name__.lower()).inc()
                self.calls.hear(pbx, event)
                return
        self.wake()

    def put(self, campaign: Campaign, agent: Agent | None) -> None:
        """A campaign is active, with these settings from the next call on."""
        known = self._campaigns.get(campaign.id)
        if known is None:
            self._campaigns[campaign.id] = _Active(campaign, agent)
        else:
            known.campaign, known.agent = campaign, agent
        settings = campaign.settings
        self._limit(Key(Level.CAMPAIGN, campaign.id), settings.concurrent_calls, settings.max_calls_per_second)
        if agent is not None:
            self._limit(Key(Level.AGENT, agent.id), agent.max_concurrent_calls, None)
        tenant = self._configured.tenants.get(campaign.tenant)
        looks_back = None if tenant is None else number_rules(tenant, settings, ()).horizon
        self.hopper.open(campaign.id, settings.concurrent_calls, campaign.tenant, looks_back)
        self.wake()

    def remove(self, campaign_id: int) -> None:
        """A campaign is no longer active: nothing more of it is sent, calls in flight go on."""
        self._campaigns.pop(campaign_id, None)
        self.hopper.close(campaign_id)
        self._book.drop(Key(Level.CAMPAIGN, campaign_id))
        self.wake()

    def agent_changed(self, agent: Agent) -> None:
        """An agent was changed: the next call goes where it says now."""
        for active in self._campaigns.values():
            if active.campaign.agent_id == agent.id:
                active.agent = agent
        self._limit(Key(Level.AGENT, agent.id), agent.max_concurrent_calls, None)
        self.wake()

    def tenant_changed(self, tenant: Tenant) -> None:
        """A tenant was made or changed: its limits bind from the next call on."""
        self._limit(Key(Level.TENANT, tenant.id), tenant.max_concurrent_calls, tenant.max_calls_per_second)
        for active in self._campaigns.values():
            if active.campaign.tenant == tenant.id:
                # What its rules look back on may be another now.
                self.put(active.campaign, active.agent)
        self.wake()

    def is_active(self, campaign_id: int) -> bool:
        """Whether the dispatcher dials for a campaign."""
        return campaign_id in self._campaigns

    def drain(self, reason: str) -> None:
        """Send nothing more; calls in flight go on."""
        self._draining = reason
        self.wake()

    def hang_up_all(self, lives: Sequence[LiveCall]) -> None:
        """Hang calls up, each as soon as the PBX can be told."""
        for live in lives:
            live.goal = live.goal or Goal.STOP
            self._hang_up(live)

    def resume_calls(self, lives: Sequence[LiveCall]) -> None:
        """Take up calls that were in flight when the daemon last stopped. Before any driver starts."""
        for live in lives:
            self._book.take(live.call.id, self._keys_of(live))
            self.calls.resume(live)

    def keys_of(self, campaign: Campaign, agent: Agent | None, trunk: Trunk) -> tuple[Key, ...]:
        """The holders of limits that a call occupies."""
        return self._keys(trunk.id, trunk.pbx, campaign.tenant, campaign.id, agent.id if agent else None)

    def snapshot(self) -> Snapshot:
        """All that the planner would know if it were asked now."""
        return self._snapshot()

    def pace(self, campaign_id: int) -> Pace | None:
        """How fast a campaign goes; None for one that is not active."""
        active = self._campaigns.get(campaign_id)
        return None if active is None else active.pace

    def view(self, campaign_id: int) -> CampaignView | None:
        """A campaign as the planner sees it; None for one that is not active."""
        active = self._campaigns.get(campaign_id)
        return None if active is None else self._view(active)

    def limits(self) -> Iterable[tuple[Key, Capacity]]:
        """Every holder of limits, with what is used of them."""
        return self._book.items()

    def pbx_gate(self, pbx: str) -> Gate:
        """Whether a PBX takes calls now, and if not, why."""
        return self._recoveries[pbx].gate()

    def warnings(self, campaign: Campaign, agent: Agent | None) -> list[str]:
        """What would keep an active campaign silent now, in words."""
        view = CampaignView(campaign, agent, (), None)
        reasons = explain(self._snapshot(), view, self._clock.now())
        return [reason.detail for reason in reasons if not reason.holds and reason.rule != "contacts"]

    # -- the loop -----------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Dial until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                for recovery in self._recoveries.values():
                    tasks.create_task(recovery.run())
                while True:
                    wake_at = self._plan()
                    await self._sleep_until(wake_at)
        finally:
            # Calls that are left live on at the PBX; the next start finds them by their ids.
            self._stopped = True
            self.calls.disarm()

    async def _sleep_until(self, wake_at: float | None) -> None:
        seconds = None if wake_at is None else min(_LONGEST_SLEEP, max(0.0, wake_at - self._clock.mono()))
        try:
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        except TimeoutError:
            pass
        self._woken.clear()

    def _plan(self) -> float | None:
        now = self._clock.now()
        planned = plan(self._snapshot(), now)
        for campaign_id in planned.hungry:
            self.hopper.fill(campaign_id)
        for deferral in planned.deferrals:
            self.hopper.take(deferral.contact.campaign_id, deferral.contact)
        if planned.deferrals:
            self._spawn(self._defer(planned.deferrals))
        for call in planned.calls:
            charge(self._shares, call)
            self.hopper.take(call.campaign.id, call.contact)
        if planned.calls:
            self._spawn(self._launch(self._commit_to(planned.calls, now.wall)))
        self._note_waiting(planned, now.mono)
        return planned.wake_at

    def _snapshot(self) -> Snapshot:
        return Snapshot(
            campaigns=[self._view(active) for active in self._campaigns.values()],
            tenants=self._configured.tenants,
            trunks=self._configured.trunks,
            pbxs=self._configured.pbxs,
            gates={
                **{Key(Level.PBX, name): recovery.gate() for name, recovery in self._recoveries.items()},
                **self.trunks.gates(),
            },
            book=self._book,
            shares=self._shares,
            placed_today=self._placed_today(),
            system=self._system(),
            windows=self._windows,
        )

    def _view(self, active: _Active) -> CampaignView:
        campaign_id = active.campaign.id
        return CampaignView(
            campaign=active.campaign,
            agent=active.agent,
            contacts=self.hopper.at_hand(campaign_id),
            next_due=self.hopper.next_due(campaign_id),
            loading=self.hopper.loading(campaign_id),
            waiting_since=active.waiting_since,
        )

    def _placed_today(self) -> Mapping[str, int]:
        today = day_of(self._clock.wall())
        if today != self._today:
            self._today = today
            self._placed.clear()
        return self._placed

    def _system(self) -> Gate:
        if self._draining is not None:
            return Gate(False, self._draining)
        if self._store.trouble is not None:
            return Gate(False, f"the store fails: {self._store.trouble}")
        return OPEN

    def _note_waiting(self, planned: Plan, now: float) -> None:
        served = {call.campaign.id for call in planned.calls}
        for campaign_id, active in self._campaigns.items():
            if campaign_id in served or not self.hopper.at_hand(campaign_id):
                active.waiting_since = None
            elif active.waiting_since is None:
                active.waiting_since = now

    # -- from plan to wire --------------------------------------------------------------------------------------

    def _commit_to(self, planned: Sequence[PlannedCall], at: datetime) -> list[_Sending]:
        """Take the slots and the rates of planned calls, so that the next plan counts them."""
        sending = []
        for each in planned:
            call = self._call(each, at)
            contact = replace(
                each.contact,
                status=ContactStatus.ORIGINATED,
                attempts=each.contact.attempts + 1,
                next_attempt_at=None,
                updated_at=at,
            )
            setup = each.campaign.settings.answer_timeout + self._limits.setup_seconds
            live = LiveCall(call, contact, each.campaign.settings, setup, hands_over=each.agent.kind is AgentKind.QUEUE)
            self._placed[call.tenant] += 1
            self._book.take(call.id, each.keys)
            self._book.reserve(each.keys, each.send_at)
            sending.append(_Sending(live, each))
        return sending

    def _call(self, planned: PlannedCall, at: datetime) -> Call:
        return Call(
            id=self._clock.uuid(),
            tenant=planned.tenant.id,
            campaign_id=planned.campaign.id,
            contact_id=planned.contact.id,
            attempt=planned.contact.attempts + 1,
            pbx=planned.trunk.pbx,
            trunk=planned.trunk.id,
            agent_id=planned.agent.id,
            caller_id=planned.caller_id,
            phone_number=planned.contact.phone_number,
            status=CallStatus.ORIGINATED,
            originated_at=at,
        )

    def count_day(self, placed: Mapping[str, int]) -> None:
        """Take up what was placed today before this process began."""
        self._today = day_of(self._clock.wall())
        self._placed = Counter(placed)

    async def _launch(self, sending: Sequence[_Sending]) -> None:
        """Commit calls to the journal; only then does each go its way to the wire."""
        try:
            claimed = await self._journal.originate([self._originating(each) for each in sending])
        except StoreError as error:
            log.error("calls_not_committed", calls=len(sending), reason=str(error))
            claimed = frozenset()
        for each in sending:
            self.hopper.done(each.live.call.campaign_id, each.live.contact.id)
            if each.live.call.id in claimed:
                self.calls.add(each.live)
                self._spawn(self._send(each))
            else:
                # The contact was cancelled meanwhile, or the store fails: it is as if nothing had been planned.
                self._book.release(each.live.call.id)
                self._placed[each.live.call.tenant] -= 1
        if len(claimed) < len(sending):
            for campaign_id in {each.live.call.campaign_id for each in sending}:
                self.hopper.stir(campaign_id)
        self.wake()

    def _originating(self, sending: _Sending) -> Originating:
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

    async def _send(self, sending: _Sending) -> None:
        """Wait for the moment that every limit allows, look once more, and send. Never sent twice."""
        live, planned = sending.live, sending.planned
        while True:
            now = self._clock.mono()
            moment = max(planned.send_at, self._book.lawful(planned.keys))
            if moment - now < _TIMER_RESOLUTION:
                break
            await self._clock.sleep(moment - now)
        if self.calls.get(live.call.id) is not live:
            return  # settled while it waited
        refusal = self._changed_our_mind(live)
        if refusal is not None:
            self.calls.withdraw(live, refusal)
            return
        self._book.sent(planned.keys, now)
        self._metrics.dispatch_delay.observe(max(0.0, now - planned.send_at))
        self.calls.sent(live)
        answer = await self._drivers[live.call.pbx].originate(self._order(planned, live))
        self._receipt(live, answer)

    def _changed_our_mind(self, live: LiveCall) -> str | None:
        """Why a committed call must not go out after all; None: it may."""
        if live.stopped or not self.is_active(live.call.campaign_id):
            return "the campaign no longer dials"
        if self._draining is not None:
            return self._draining
        gate = self.trunks.gate(live.call.trunk)
        if gate.open:
            gate = self._recoveries[live.call.pbx].gate()
        return None if gate.open else gate.detail

    def _order(self, planned: PlannedCall, live: LiveCall) -> Originate:
        return Originate(
            call_id=live.call.id,
            dial=format_dial(planned.trunk.dial, live.call.phone_number),
            caller_id=planned.caller_id,
            place=_place(planned.agent),
            setup_seconds=live.setup_seconds,
            max_call_seconds=planned.campaign.settings.max_call_seconds,
            variables=channel_variables(live.call, live.contact, planned.campaign.settings.variables, show_id=show_id),
            hands_over=live.hands_over,
        )

    def _receipt(self, live: LiveCall, answer: Accepted | Refused | InDoubt) -> None:
        pbx = live.call.pbx
        match answer:
            case Accepted():
                self._metrics.originates.labels(pbx, "accepted").inc()
            case InDoubt(reason):
                self._metrics.originates.labels(pbx, "in_doubt").inc()
                log.warning("originate_in_doubt", call_id=live.call.id, pbx=pbx, reason=reason)
                self._recoveries[pbx].doubt()
            case Refused(reason, verdict):
                self._metrics.originates.labels(pbx, "refused").inc()
                log.warning("originate_refused", call_id=live.call.id, pbx=pbx, reason=reason)
                if self.calls.get(live.call.id) is not live:
                    return
                if self._drivers[pbx].state is LinkState.UP:
                    self.calls.refuse(live, verdict, reason)
                else:
                    self.calls.withdraw(live, reason)

    # -- ends ---------------------------------------------------------------------------------------------------

    def _call_ended(self, live: LiveCall) -> None:
        self._book.release(live.call.id)
        self.trunks.ended(live.call)
        active = self._campaigns.get(live.call.campaign_id)
        if active is None:
            self._book.drop(Key(Level.CAMPAIGN, live.call.campaign_id))
        elif live.contact.status is not ContactStatus.PENDING:
            active.pace.note(self._clock.mono())
        self.wake()

    def _steps_written(self, steps: Sequence[CallStep]) -> None:
        """Contacts wait for their next attempt: told only now, for a fetch before the commit would have missed them."""
        for each in steps:
            if each.contact is not None and each.contact.next_attempt_at is not None:
                self.hopper.note_due(each.contact.campaign_id, each.contact.next_attempt_at)
                self.wake()

    def _hang_up(self, live: LiveCall) -> None:
        self._spawn(self._ask_to_hang_up(live))

    async def _ask_to_hang_up(self, live: LiveCall) -> None:
        recovery = self._recoveries[live.call.pbx]
        gate = recovery.gate()
        if not gate.open:
            # What became of the call meanwhile is not known: the listing tells, and asks again if it still is to end.
            log.info("hangup_put_off", call_id=live.call.id, reason=gate.detail)
            return
        live.asked = True
        try:
            live.asked = await self._drivers[live.call.pbx].hangup(live.call.id)
        except LinkLost as error:
            log.warning("hangup_not_asked", call_id=live.call.id, reason=str(error))
            live.asked = False
        if not live.asked:
            recovery.doubt()

    def _overdue(self, live: LiveCall) -> None:
        self._recoveries[live.call.pbx].doubt()

    async def _defer(self, deferrals: Sequence[Deferral]) -> None:
        for start in range(0, len(deferrals), GROUP_WEIGHT):
            await self._put_off(deferrals[start : start + GROUP_WEIGHT])

    async def _put_off(self, deferrals: Sequence[Deferral]) -> None:
        """Commit deferrals, then look for more: a batch that is all closed must not hide who is open behind it."""

        async def put_off(tx: Tx) -> None:
            await contacts.put_off(tx, [(each.contact.id, each.until, each.detail) for each in deferrals])

        again = None
        try:
            await self._store.write(put_off, weight=len(deferrals))
        except StoreError as error:
            log.warning("deferral_failed", contacts=len(deferrals), reason=str(error))
            again = self._clock.wall() + _DEFER_AGAIN
        for each in deferrals:
            campaign_id = each.contact.campaign_id
            self.hopper.done(campaign_id, each.contact.id)
            if (due := again or each.until) is not None:
                self.hopper.note_due(campaign_id, due)
        self.wake()

    # -- limits -------------------------------------------------------------------------------------------------

    def _set_limits(self) -> None:
        for trunk in self._configured.trunks.values():
            self._limit(Key(Level.TRUNK, trunk.id), trunk.max_channels, trunk.max_calls_per_second)
        for pbx in self._configured.pbxs.values():
            self._limit(Key(Level.PBX, pbx.id), pbx.max_channels, pbx.max_calls_per_second)
        for tenant in self._configured.tenants.values():
            self._limit(Key(Level.TENANT, tenant.id), tenant.max_concurrent_calls, tenant.max_calls_per_second)

    def _limit(self, key: Key, slots: int | None, per_second: float | None) -> None:
        self._book.set(key, slots, per_second, self._limits.cps_guard_seconds)

    def _keys_of(self, live: LiveCall) -> tuple[Key, ...]:
        call = live.call
        return self._keys(call.trunk, call.pbx, call.tenant, call.campaign_id, call.agent_id)

    @staticmethod
    def _keys(trunk: str, pbx: str, tenant: str, campaign_id: int, agent_id: int | None) -> tuple[Key, ...]:
        keys = (
            Key(Level.TRUNK, trunk),
            Key(Level.PBX, pbx),
            Key(Level.TENANT, tenant),
            Key(Level.CAMPAIGN, campaign_id),
        )
        return keys if agent_id is None else (*keys, Key(Level.AGENT, agent_id))

    def _measure(self) -> None:
        for key, capacity in self._book.items():
            if key.level in (Level.TRUNK, Level.PBX, Level.TENANT):
                self._metrics.slots_used.labels(key.level.value, key.name).set(capacity.used)
                if capacity.slots is not None:
                    self._metrics.slots_limit.labels(key.level.value, key.name).set(capacity.slots)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        if self._stopped:
            work.close()
            return
        assert self._tasks is not None, "the dispatcher does not run yet"
        self._tasks.create_task(self._guarded(work))

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        """A fault in one call's handling is that call's: it is logged and counted, and recovery settles the call."""
        try:
            await work
        except Exception:
            log.exception("task_failed")
            self._metrics.dropped.labels("task").inc()


def _place(agent: Agent) -> Place:
    if agent.kind is AgentKind.QUEUE:
        return Place(application="Queue", data=agent.queue or "")
    if agent.kind is AgentKind.APPLICATION:
        return Place(application=agent.application, data=agent.data or "")
    return Place(context=agent.context, exten=agent.exten, priority=agent.priority)
