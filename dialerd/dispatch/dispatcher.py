"""The dispatcher: wakes when something happened or at the planned moment, plans, journals, sends. It never polls."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

import structlog

from dialerd.clock import Clock
from dialerd.core.contact_rules import closed_hours
from dialerd.core.fairness import charge
from dialerd.core.forecast import Pace
from dialerd.core.model import Agent, Call, CallStatus, Campaign, ContactStatus, Pbx, Tenant, Trunk
from dialerd.core.permit import number_rules
from dialerd.core.places import ANYWHERE, AllowedPlaces
from dialerd.core.plan import opening, plan
from dialerd.core.rules import explain
from dialerd.core.snapshot import OPEN, CampaignView, Gate, PlannedCall, Snapshot
from dialerd.core.throttle import Arrival, Capacity, Key, Level, Shares
from dialerd.core.windows import WindowMemo
from dialerd.dispatch.calls import Calls
from dialerd.dispatch.deferrals import Deferrals
from dialerd.dispatch.hopper import Hopper
from dialerd.dispatch.journal import Journal
from dialerd.dispatch.late import LateChannels
from dialerd.dispatch.limits import Configured, LimitBook, Limits, keys_of
from dialerd.dispatch.listed import ListWatch
from dialerd.dispatch.live_call import Goal, LiveCall
from dialerd.dispatch.put_back import PutBacks
from dialerd.dispatch.receipts import Receipts
from dialerd.dispatch.recoveries import Recoveries
from dialerd.dispatch.roster import Roster
from dialerd.dispatch.rounds import Rounds
from dialerd.dispatch.sending import Sender
from dialerd.dispatch.tasks import Tasks
from dialerd.dispatch.trunks import Trunks
from dialerd.pbx.driver import Ceilings, Dialling, LinkDown, LinkUp, PbxDriver, PbxEvent, TrunkState
from dialerd.store.contacts import rank_of
from dialerd.store.db import Store
from dialerd.store.records import CallStep
from dialerd.telemetry.metrics import Metrics

log = structlog.get_logger(__name__)

_AT_ONCE = 100
"""Calls of one round. A thousand that end at once are followed by others while the last of them are still read."""


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
        trunks: Mapping[str, Trunk],
        pbxs: Sequence[Pbx],
        limits: Limits,
        places: AllowedPlaces = ANYWHERE,
    ) -> None:
        self._store = store
        self._journal = journal
        self._clock = clock
        self._metrics = metrics
        self._configured = Configured(tenants, trunks, {each.id: each for each in pbxs})
        self.places = places
        """Where answered calls may go, from the next call on."""
        self._limits = LimitBook(self._configured, limits.cps_guard_seconds, metrics)
        self._book = self._limits.book
        self._shares = Shares()
        self._windows = WindowMemo()
        self._rounds = Rounds(clock)
        self._tasks = Tasks(metrics.dropped.labels("task"), "task_failed")
        self._draining: str | None = None
        self._leaving = False
        """Something left the configuration and may still be occupied."""
        self.on_place_refused: Callable[[Call, str], None] = lambda _call, _reason: None
        """Hears that a PBX does not know the place of a campaign's agent: the campaign was let go of, to be paused."""
        self.trunks = self._make_trunks(limits.cps_guard_seconds)
        self.calls = Calls(
            journal,
            clock,
            metrics,
            trunks=self.trunks,
            on_end=self._call_ended,
            hang_up=self._hang_up,
            on_overdue=self._overdue,
        )
        self._receipts = Receipts(clock)
        self._recoveries = Recoveries(self.calls, clock, metrics, self._receipts, self.wake)
        for name, driver in drivers.items():
            self._recoveries.add(name, driver)
        self.calls.on_unheard_end = lambda live, ended: self._tasks.spawn(self._recoveries.look_up(live, ended))
        self.calls.on_stranger = LateChannels(
            store,
            journal,
            self.calls,
            clock,
            metrics,
            spawn=self._tasks.spawn,
            hang_up=self._recoveries.hang_up_channel,
        ).seen
        self.on_pbx_left: Callable[[str], None] = lambda _pbx: None
        """Hears that a PBX which left the configuration has no call of ours any more."""
        self.hopper = Hopper(store, clock, self._tasks.spawn, self._rounds.fetched)
        self._roster = Roster(self.hopper)
        metrics.watch_queue("contacts_at_hand", self.hopper.__len__)
        metrics.before_render.append(lambda: metrics.campaigns_active.set(len(self._roster)))
        self._deferrals = Deferrals(store, clock, self.hopper, self.wake)
        self._put_backs = PutBacks(store, journal, clock, metrics, self.hopper, self.wake)
        self.listed = ListWatch(store)
        journal.on_written = self._steps_written
        self._sender = self._make_sender(drivers, limits.setup_seconds)

    def _make_trunks(self, guard_seconds: float) -> Trunks:
        return Trunks(
            self._configured.trunks,
            self._book,
            self._store,
            self._clock,
            self._metrics,
            guard_seconds=guard_seconds,
            pbx_gate=self.pbx_gate,
            put_back=lambda failures: self._tasks.spawn(self._put_backs.put_back(failures)),
            wake=self.wake,
        )

    def _make_sender(self, drivers: Mapping[str, PbxDriver], setup_seconds: float) -> Sender:
        return Sender(
            self._journal,
            self._clock,
            self._metrics,
            drivers,
            calls=self.calls,
            hopper=self.hopper,
            book=self._book,
            tasks=self._tasks,
            setup_seconds=setup_seconds,
            receipts=self._receipts,
            listed=self.listed,
            objection=self._objection,
            place_refused=self._place_refused,
            closed=self._recoveries.closed,
            in_doubt=self._recoveries.in_doubt,
            wake=self.wake,
        )

    # -- what others tell the dispatcher ------------------------------------------------------------------------

    def wake(self) -> None:
        """Something happened: plan again soon."""
        self._rounds.stir()

    def hear(self, pbx: str, event: PbxEvent) -> None:
        """Take an event from a PBX's driver. Never waits."""
        match event:
            case LinkUp(version, max_channels, max_calls_per_second):
                log.info(
                    "pbx_up",
                    pbx=pbx,
                    version=version,
                    max_channels=max_channels,
                    max_calls_per_second=max_calls_per_second,
                )
                self._limits.pbx_own(pbx, max_channels, max_calls_per_second)
                self.trunks.unknown(pbx)
                self._metrics.pbx_link_up.labels(pbx).set(1)
                self._metrics.pbx_connects.labels(pbx).inc()
                self._recoveries.link_up(pbx)
            case Ceilings(max_channels, max_calls_per_second, closed):
                self._limits.pbx_own(pbx, max_channels, max_calls_per_second)
                self._recoveries.told(pbx, closed)
            case LinkDown(reason, refused):
                log.warning("pbx_down", pbx=pbx, reason=reason, refused=refused)
                self._metrics.pbx_link_up.labels(pbx).set(0)
                self._recoveries.link_down(pbx)
                self.trunks.unknown(pbx)
            case TrunkState():
                self.trunks.hear(pbx, event)
            case _:
                if isinstance(event, Dialling):
                    self._recoveries.taken(pbx)
                self._metrics.pbx_events.labels(pbx, type(event).__name__.lower()).inc()
                self.calls.hear(pbx, event)
                return
        self.wake()

    def put(self, campaign: Campaign, agent: Agent | None) -> None:
        """A campaign is active, with these settings from the next call on."""
        self._roster.put(campaign, agent)
        settings = campaign.settings
        self._limits.campaign(campaign)
        if agent is not None:
            self._limits.agent(agent)
        tenant = self._configured.tenants.get(campaign.tenant)
        looks_back = None if tenant is None else number_rules(tenant, settings, ()).horizon
        self.hopper.open(campaign.id, settings.concurrent_calls, campaign.tenant, looks_back)
        self.wake()

    def remove(self, campaign_id: int) -> Campaign | None:
        """A campaign is no longer active: nothing more of it is sent, calls in flight go on. Returns it, if it was."""
        campaign = self._roster.remove(campaign_id)
        self.hopper.close(campaign_id)
        self._limits.drop_campaign(campaign_id, self._clock.mono())
        self.wake()
        return campaign

    def agent_changed(self, agent: Agent) -> None:
        """An agent was changed: the next call goes where it says now."""
        self._roster.agent_changed(agent)
        self._limits.agent(agent)
        self.wake()

    def tenant_changed(self, tenant: Tenant) -> None:
        """A tenant was made or changed: its limits bind from the next call on."""
        self._limits.tenant(tenant)
        for campaign, agent in self._roster.of_tenant(tenant.id):
            # What its rules look back on may be another now.
            self.put(campaign, agent)
        self.wake()

    def take_up(
        self,
        pbxs: Sequence[Pbx],
        drivers: Mapping[str, PbxDriver],
        setup_seconds: float,
    ) -> None:
        """The configuration has changed, the trunks and tenants given before with it: it binds from the next call on.

        ``drivers`` has the new PBXs' too. A PBX that is in ``pbxs`` no longer is followed until its calls have ended;
        then ``on_pbx_left`` is called.
        """
        known = self._configured.pbxs
        gone = known.keys() - {each.id for each in pbxs}
        known.clear()
        known.update((each.id, each) for each in pbxs)
        for name in known:
            self._recoveries.add(name, drivers[name])
        for name in gone:
            self._recoveries.retire(name)
        self._sender.setup_seconds = setup_seconds
        self._limits.take_up()
        self.trunks.take_up()
        self._leaving = True
        self.wake()

    def _let_go(self) -> None:
        """Forget what left the configuration, as soon as no call of ours occupies it."""
        if not self._leaving:
            return
        for name in self._recoveries.let_go(lambda pbx: self._book.get(Key(Level.PBX, pbx)).used > 0):
            log.info("pbx_left", pbx=name)
            self.on_pbx_left(name)
        self._leaving = not self._limits.sweep()

    def is_active(self, campaign_id: int) -> bool:
        """Whether the dispatcher dials for a campaign."""
        return campaign_id in self._roster

    def drain(self, reason: str) -> None:
        """Send nothing more; calls in flight go on."""
        self._draining = reason
        self.calls.withdraw_unsent(reason)
        self.wake()

    async def idle(self) -> None:
        """Wait until no call is in flight, or on its way to being one."""
        while self._sender.launching or len(self.calls):
            await self._sender.launched()
            await self.calls.empty()

    def hang_up_all(self, lives: Sequence[LiveCall]) -> None:
        """Hang calls up, each as soon as the PBX can be told."""
        for live in lives:
            live.aim(Goal.STOP)
            self._hang_up(live)

    def count_days(self, placed: Mapping[str, Mapping[str, int]]) -> None:
        """Take up what each tenant placed, by day, before this process began."""
        self._sender.days.load(placed)

    def resume_calls(self, lives: Sequence[LiveCall], dialled_before: float | None) -> None:
        """Take up calls that were in flight when the daemon last stopped. Before any driver starts.

        ``dialled_before``: until when (monotonic) a process before this one may have sent calls; None: no call was ever
        placed, so that no rate can have been used.
        """
        if dialled_before is None:
            return
        self._book.unknown_before(dialled_before)
        for live in lives:
            keys = tuple(keys_of(live.call))
            self._book.take(live.call.id, keys)
            if live.call.status is CallStatus.ORIGINATED:
                # Its order may be under way still: the process before this one sent it at the last moment, perhaps.
                arrival = Arrival()
                self._receipts.taken(arrival)
                live.arrived = partial(self._receipts.came, arrival)
                self._book.sent(keys, self._clock.mono(), arrival)
            self.calls.resume(live, dialled_before)
            self._recoveries.resume(live)

    def pace(self, campaign_id: int) -> Pace | None:
        """How fast a campaign goes; None for one that is not active."""
        return self._roster.pace(campaign_id)

    def view(self, campaign_id: int) -> CampaignView | None:
        """A campaign as the planner sees it; None for one that is not active."""
        return self._roster.view(campaign_id)

    def limits(self) -> Iterable[tuple[Key, Capacity]]:
        """Every holder of limits, with what is used of them."""
        return self._book.items()

    def pbx_gate(self, pbx: str) -> Gate:
        """Whether a PBX takes calls now, and if not, why."""
        return self._recoveries.gate(pbx)

    def pbx_gates(self) -> Iterable[Gate]:
        """The gates of all PBXs of the configuration."""
        return self._recoveries.gates().values()

    def warnings(self, campaign: Campaign, agent: Agent | None) -> list[str]:
        """What would keep an active campaign silent now, in words."""
        view = CampaignView(campaign, agent, (), None)
        reasons = explain(self.snapshot(), view, self._clock.now())
        return [reason.detail for reason in reasons if not reason.holds and reason.rule != "contacts"]

    # -- the loop -----------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Dial until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks.open(tasks)
                self._recoveries.open(tasks)
                while True:
                    self._plan()
                    await self._rounds.next()
        finally:
            # Calls that are left live on at the PBX; the next start finds them by their ids.
            self._tasks.close()
            self.calls.disarm()

    def _plan(self) -> None:
        self._let_go()
        self.trunks.pace()
        now = self._clock.now()
        if not self._rounds.begin(lambda: opening(self._configured.trunks.values(), self._gates(), self._book, now)):
            return
        planned = plan(self.snapshot(), now)
        self._rounds.planned(planned.wake_at)
        for campaign_id in planned.hungry:
            self.hopper.fill(campaign_id)
        for deferral in planned.deferrals:
            self.hopper.take(deferral.contact.campaign_id, deferral.contact)
        if planned.deferrals:
            self._tasks.spawn(self._deferrals.put_off(planned.deferrals))
        for call in planned.calls:
            charge(self._shares, call)
            if call.probe:
                self.trunks.probing(call.trunk.id)
            self.hopper.take(call.campaign.id, call.contact)
        if planned.calls:
            self._sender.send(planned.calls, now.wall)
        self._roster.note_waiting(planned, now.mono)

    def snapshot(self) -> Snapshot:
        """All that the planner would know if it were asked now."""
        return Snapshot(
            campaigns=self._roster.views(),
            tenants=self._configured.tenants,
            trunks=self._configured.trunks,
            pbxs=self._configured.pbxs,
            gates=self._gates(),
            book=self._book,
            shares=self._shares,
            placed_today=self._sender.days.of(self._clock.wall()),
            system=self._system(),
            places=self.places,
            windows=self._windows,
            horizon=self._rounds.horizon,
            most=_AT_ONCE,
        )

    def _gates(self) -> Mapping[Key, Gate]:
        return {**self._recoveries.gates(), **self.trunks.gates()}

    def _system(self) -> Gate:
        if self._draining is not None:
            return Gate(False, self._draining)
        objection = self._store.objection()
        return OPEN if objection is None else Gate(False, objection)

    def _objection(self, live: LiveCall, planned: PlannedCall) -> str | None:
        """Why a committed call must not go out after all; None: it may."""
        campaign = self._roster.get(live.call.campaign_id)
        if live.stopped or campaign is None:
            return "the campaign no longer dials"
        if (place := self.places.objection(planned.agent)) is not None:
            return f"its agent's {place.field} {place.message}"
        tenant = self._configured.tenants.get(live.call.tenant, planned.tenant)
        settings, wall = campaign.settings, self._clock.wall()
        closed = closed_hours(tenant, settings, planned.contact, self._windows, wall)
        if closed is not None:
            return closed
        if self._draining is not None:
            return self._draining
        if self._store.lease is not None and (doubt := self._store.lease.doubt()) is not None:
            return doubt
        gate = self.trunks.gate(live.call.trunk, probe=live.probe)
        if gate.open and (live.probe or not gate.probe):
            gate = self._recoveries.gate(live.call.pbx)
            return None if gate.open else gate.detail
        return gate.detail

    def _place_refused(self, live: LiveCall, reason: str) -> None:
        self.remove(live.call.campaign_id)
        self.on_place_refused(live.call, reason)

    # -- ends ---------------------------------------------------------------------------------------------------

    def _call_ended(self, live: LiveCall) -> None:
        self._book.release(live.call.id)
        self.trunks.ended(live)
        pace = self._roster.pace(live.call.campaign_id)
        if pace is None:
            self._limits.drop_campaign(live.call.campaign_id, self._clock.mono())
        elif live.contact.status is not ContactStatus.PENDING:
            pace.note(self._clock.mono())
        if live.place_refused is not None:
            self._place_refused(live, live.place_refused)
        self._recoveries.ended(live.call)
        self._rounds.freed()

    def _steps_written(self, steps: Sequence[CallStep]) -> None:
        """Contacts wait for their next attempt: told only now, for a fetch before the commit would have missed them."""
        self._recoveries.discard(steps)
        for each in steps:
            if each.contact is not None and each.contact.next_attempt_at is not None:
                self.hopper.note_due(each.contact.campaign_id, each.contact.next_attempt_at, rank_of(each.contact))
                self.wake()

    def _hang_up(self, live: LiveCall) -> None:
        self._tasks.spawn(self._recoveries.hang_up(live))

    def _overdue(self, live: LiveCall) -> None:
        self._recoveries.doubt(live.call.pbx)
