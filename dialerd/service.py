"""The composition root: makes the daemon's parts from the configuration, starts them in order, and stops them."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import timedelta

import structlog

from dialerd import __version__
from dialerd.api.context import Api
from dialerd.api.context import Limits as ApiLimits
from dialerd.clock import Clock
from dialerd.config import Config
from dialerd.config.folders import upload_folder
from dialerd.config.reload import Changes, changes
from dialerd.core.campaign import FINISHED
from dialerd.core.model import AgentKind, Call, CampaignStatus, Tenant
from dialerd.core.variables import CAMPAIGN_PREFIX
from dialerd.dispatch.callbacks import Callbacks
from dialerd.dispatch.control import Control
from dialerd.dispatch.days import KEPT
from dialerd.dispatch.dispatcher import Dispatcher
from dialerd.dispatch.errors import Rejected
from dialerd.dispatch.exclusions import Exclusions
from dialerd.dispatch.explanations import Explanations
from dialerd.dispatch.feed import Feed
from dialerd.dispatch.forecasts import Forecasts
from dialerd.dispatch.journal import Journal
from dialerd.dispatch.limits import Limits
from dialerd.dispatch.live_call import Goal, LiveCall
from dialerd.dispatch.persistence import persist
from dialerd.dispatch.retention import Keep, Retention
from dialerd.dispatch.standby import REASON as STANDBY
from dialerd.dispatch.standby import Standby
from dialerd.dispatch.tasks import Tasks
from dialerd.dispatch.tenants import Tenants
from dialerd.dispatch.uploads import Uploads
from dialerd.dispatch.webhooks import Webhooks
from dialerd.intake.rows import IntakeOptions
from dialerd.links import Links, Make, dials_of
from dialerd.store import agents, calls, campaigns, contacts, notices, steps, trunks
from dialerd.store import tenants as stored
from dialerd.store.db import Store
from dialerd.store.errors import StoreError
from dialerd.store.tx import Committed
from dialerd.telemetry.logs import of_call
from dialerd.telemetry.metrics import Metrics
from dialerd.webhooks.addresses import Rules, networks
from dialerd.webhooks.transport import HttpTransport, Transport

log = structlog.get_logger(__name__)

CLOSE_SECONDS = 10.0
"""How long what is left to be done may take at each step of closing."""
_PAUSE_AGAIN = 5.0
"""Seconds after which a campaign that the store would not pause is paused again."""


class NotReloaded(Exception):
    """A changed configuration could not be taken up; nothing was changed."""


class ReloadDropped(NotReloaded):
    """The daemon stops; its next start reads the configuration anyway."""


class Daemon:
    """All parts of the dialer, wired together. Clock, transport and what makes drivers can be given.

    One that waits for another (``waits_for`` tells in words what for) is made of the same parts, with no driver among
    them, and only shows what is in the store: :meth:`standing_by` instead of :meth:`run`.
    """

    def __init__(
        self,
        config: Config,
        clock: Clock,
        metrics: Metrics,
        make: Make | None = None,
        transport: Transport | None = None,
        alone_since: float | None = None,
        waits_for: Callable[[], str] | None = None,
    ) -> None:
        """``alone_since``: from when on (monotonic) nobody else can have dialled from the store; by default now."""
        self._alone_since = clock.mono() if alone_since is None else alone_since
        self._config = config
        self._clock = clock
        dials = waits_for is None
        self._links = Links(clock, metrics, make)
        if dials:
            self._links.take_up(config)
        self.drivers = self._links.drivers
        self._tasks = Tasks(metrics.dropped.labels("background_work"), "background_work_failed")
        """What nobody waits for. It ends with the daemon; the next start takes up what has to be done."""
        self._background = self._tasks.spawn
        self._stopping = False
        self.metrics = metrics
        self.store = Store(config.store.url, clock, metrics)
        self.feed = Feed()
        self._trunks = {trunk.id: trunk for trunk in config.trunks()}
        self._tenants = Tenants(config.tenants(), self._trunks, self.store)
        tenants = self._tenants.live
        self._journal = Journal(self.store, clock, metrics)
        self.dispatcher = Dispatcher(
            self.store,
            self._journal,
            clock,
            metrics,
            self.drivers,
            tenants=tenants,
            trunks=self._trunks,
            pbxs=config.pbxs(),
            limits=Limits(config.dispatch.cps_guard_ms / 1000, config.dispatch.setup_seconds),
            places=config.places(),
        )
        self._uploads = Uploads(self.store, clock, self._intake_options, metrics, self._contacts_added)
        self.control = Control(
            self.store,
            self.dispatcher,
            self._uploads,
            clock,
            trunks=self._trunks,
            background=self._background,
        )
        self.webhooks = self._make_webhooks(transport)
        self.retention = self._make_retention()
        self._wire()
        self.standby: Standby | None = None
        if waits_for is not None:
            self.standby = Standby(self.store, self.feed, self._tenants, self.dispatcher.trunks, clock, waits_for)
            self.dispatcher.drain(STANDBY)
            self.dispatcher.trunks.stand_by(STANDBY)
        metrics.standby.set(not dials)
        self.api = self._make_api()

    def _make_webhooks(self, transport: Transport | None) -> Webhooks:
        own = self._config.webhooks
        rules = Rules(networks(own.allow_private), http=own.allow_http)
        return Webhooks(
            self.store,
            self._clock,
            self.metrics,
            transport or HttpTransport(rules, own.timeout_seconds, f"dialerd/{__version__}"),
            rules,
            concurrency=own.concurrency,
            max_concurrency=own.max_concurrency,
            background=self._background,
        )

    def _make_retention(self) -> Retention:
        keep = self._config.retention
        return Retention(
            self.store,
            self._clock,
            self.metrics,
            Keep(keep.events_days, keep.finished_campaigns_days, keep.deliveries_days),
            tenants=self._tenants.live.values,
            webhooks=self.webhooks,
        )

    def _make_api(self) -> Api:
        clock = self._clock
        return Api(
            store=self.store,
            control=self.control,
            callbacks=Callbacks(self.store, clock, self._intake_options, self._contacts_added),
            explanations=Explanations(self.dispatcher, clock, live=self.standby is None),
            forecasts=Forecasts(self.dispatcher, clock),
            exclusions=Exclusions(self.store, clock, self._intake_options, self.dispatcher.listed.changed),
            webhooks=self.webhooks,
            feed=self.feed,
            tenants=self._tenants,
            trunks=self.dispatcher.trunks,
            metrics=self.metrics,
            clock=clock,
            limits=ApiLimits(upload_bytes=self._config.server.max_body_bytes),
            places=lambda: self.dispatcher.places,
            upload_folder=upload_folder(self._config, os.environ),
            standby=self.standby,
        )

    def _wire(self) -> None:
        """Tell the parts whom they tell what."""
        self._tenants.on_change = self.dispatcher.tenant_changed
        self.dispatcher.on_place_refused = lambda call, reason: self._background(self._pause_for(call, reason))
        self.dispatcher.on_pbx_left = lambda pbx: self._background(self._let_go(pbx))
        self.store.on_commit = self._committed
        self.store.on_health = self.dispatcher.wake

    @contextlib.asynccontextmanager
    async def standing_by(self) -> AsyncIterator[None]:
        """Within this block the API may be served from a store that another daemon dials from; nothing is written."""
        # Imported only here: its driver is of no use to a SQLite file.
        from dialerd.store.listener import Listener

        assert self.standby is not None, "this daemon is made to dial"
        own = self.standby
        listener = Listener(self._config.store.url, notices.EVENTS, self._clock, heard=own.heard, look=own.look_again)
        own.look_again()
        tasks = [asyncio.create_task(each.run(), name="standby") for each in (own, listener)]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self.store.close()

    async def run(
        self, stop: asyncio.Event, *, hurry: asyncio.Event | None = None, ready: Callable[[], Awaitable[None]]
    ) -> None:
        """Run until ``stop`` is set; then finish the calls in flight, in ``drain_seconds`` or until ``hurry`` is set.

        ``ready`` is called when everything runs. Raises StoreError where the store cannot be used.
        """
        await self.store.open()
        # Whoever comes back for what the daemon before this one told nobody has it from the store.
        self.feed.skip(self.store.last_event)
        try:
            self._journal.start()
            leftovers = await self._uploads.leftovers()
            await self.webhooks.start()
            await self._take_up()
            async with asyncio.TaskGroup() as group:
                dispatching = group.create_task(self.dispatcher.run(), name="dispatcher")
                self._tasks.open(group)
                self._persist("leftovers", functools.partial(self._uploads.clean_up, leftovers))
                self._persist("stops", self.control.finish_stops)
                self._persist("webhooks", self.webhooks.clear)
                self._background(self.retention.run())
                try:
                    for name, driver in self.drivers.items():
                        await driver.start(functools.partial(self.dispatcher.hear, name))
                    await ready()
                    await stop.wait()
                    await self._drain(hurry or asyncio.Event())
                finally:
                    self._stopping = True
                    self._tasks.close()
                    await self._links.stop()
                    dispatching.cancel()
                    self._tasks.end()
        finally:
            self.store.closes_soon()
            await self._journal.close(CLOSE_SECONDS)
            await _in_time("webhooks", self.webhooks.close())
            await _in_time("uploads", self._uploads.close())
            await self.store.close()

    async def _take_up(self) -> None:
        """Load what was active, and the calls that were in flight, before any PBX is asked anything."""
        async with self.store.read() as conn:
            active = await campaigns.of_status(conn, CampaignStatus.ACTIVE)
            waiting = await campaigns.of_status(conn, CampaignStatus.PAUSED, CampaignStatus.DRAFT)
            known = {agent.id: agent for agent in await agents.everyone(conn)}
            unended = await calls.live(conn)
            first = not await calls.any_placed(conn)
            theirs = await contacts.get_many(conn, [call.contact_id for call in unended])
            # Days that seem to lie ahead too: the wall clock may have been set back since.
            by_day = await steps.calls_by_day(conn, self._clock.wall() - timedelta(days=KEPT - 1))
            stored_tenants = await stored.everyone(conn)
            paused = await trunks.paused(conn)
            campaigns_of = await campaigns.get_many(conn, {call.campaign_id for call in unended})
            hanging_up = await campaigns.hanging_up(conn, campaigns_of)
        # From here on to the end nothing waits: the calls' timers may be due at once.
        lives = []
        for call in unended:
            campaign, visible = campaigns_of[call.campaign_id]
            agent = known.get(call.agent_id) if call.agent_id is not None else None
            settings = campaign.settings
            queue = agent is not None and agent.kind is AgentKind.QUEUE
            live = LiveCall(
                call,
                theirs[call.contact_id],
                settings,
                settings.answer_timeout + self._config.dispatch.setup_seconds,
                hands_over=queue if call.hands_over is None else call.hands_over,
                stopped=campaign.status in FINISHED or not visible,
            )
            if campaign.id in hanging_up:
                live.aim(Goal.STOP)
            lives.append(live)
        self._tenants.load(stored_tenants)
        self.dispatcher.trunks.load(paused.values())
        self.dispatcher.count_days(by_day)
        self.control.load(active, waiting, known)
        self.dispatcher.resume_calls(lives, None if first else self._alone_since)
        if lives:
            log.info("calls_to_recover", calls=len(lives))

    async def _drain(self, hurry: asyncio.Event) -> None:
        """Send nothing more, and follow the calls in flight to their end for a while."""
        self.dispatcher.drain("the daemon is stopping")
        in_flight = len(self.dispatcher.calls)
        if in_flight:
            log.info("draining", calls=in_flight, seconds=self._config.dispatch.drain_seconds)
        idle = asyncio.ensure_future(self.dispatcher.idle())
        hurried = asyncio.ensure_future(hurry.wait())
        await asyncio.wait(
            (idle, hurried), timeout=self._config.dispatch.drain_seconds, return_when=asyncio.FIRST_COMPLETED
        )
        for waiter in (idle, hurried):
            waiter.cancel()
        left = len(self.dispatcher.calls)
        if left:
            log.warning("calls_left_to_the_pbx", calls=left)

    @property
    def config(self) -> Config:
        """The configuration as it binds now."""
        return self._config

    # -- a changed configuration --------------------------------------------------------------------------------

    async def reload(self, wanted: Config) -> Changes:
        """Take up a configuration that was read again, as far as a running daemon can.

        It binds from the next call on; calls in flight go on as they were placed. Raises NotReloaded: nothing changed.
        """
        try:
            async with self.store.read() as conn:
                stored_tenants = await stored.everyone(conn)
        except StoreError as error:
            if self._stopping:
                raise ReloadDropped("the daemon is stopping") from error
            raise NotReloaded(f"the store's tenants cannot be read: {error}") from error
        if self._stopping:
            raise ReloadDropped("the daemon is stopping")
        # From here on to the end nothing else runs: nobody sees half of a change.
        change = changes(self._config, wanted, self._links.made_of)
        config = change.config
        if self.standby is not None:
            self._take_names(config, stored_tenants)
            self.dispatcher.trunks.take_up()
            return change
        watched = {name: dials_of(self._config, name) for name in self.drivers}
        made = self._links.take_up(config)
        self._take_names(config, stored_tenants)
        self.dispatcher.take_up(config.pbxs(), self.drivers, config.dispatch.setup_seconds)
        for name in config.pbx:
            if name in made:
                await self.drivers[name].start(functools.partial(self.dispatcher.hear, name))
            elif (dials := dials_of(config, name)) != watched[name]:
                self._background(self.drivers[name].watch(dials))
        return change

    def _take_names(self, config: Config, stored_tenants: Sequence[Tenant]) -> None:
        """Let what is configured be looked up as it is now."""
        self._config = config
        self._trunks.clear()
        self._trunks.update((trunk.id, trunk) for trunk in config.trunks())
        self.dispatcher.places = config.places()
        self._tenants.take_up(config.tenants(), stored_tenants)

    async def _let_go(self, name: str) -> None:
        """A PBX that left the configuration has no call of ours any more."""
        if name in self._config.pbx:
            return  # it came back in this very moment
        await self._links.let_go(name)

    def status(self) -> str:
        """What the daemon does, in one line."""
        if self.standby is not None:
            return self.standby.reason
        links = ", ".join(f"{name} {driver.state.value}" for name, driver in self.drivers.items())
        return f"{len(self.dispatcher.calls)} calls in flight; PBXs: {links or 'none'}"

    def _committed(self, committed: Committed) -> None:
        if committed.events:
            lag = self._clock.wall() - committed.events[0].draft.at
            self.metrics.event_lag.observe(max(0.0, lag.total_seconds()))
        self.feed.publish(committed)
        self.webhooks.committed(committed)
        for end in committed.ends:
            self.control.campaign_ended(end.campaign_id)

    async def _pause_for(self, call: Call, reason: str) -> None:
        """The PBX does not know where a campaign's answered calls should go: it would refuse each of its calls."""
        what = "a variable of the campaign" if reason.startswith(CAMPAIGN_PREFIX) else "the place of its agent"
        why = f"PBX {call.pbx} refuses {what}: {reason}"
        while True:
            try:
                await self.control.pause(call.tenant, call.campaign_id, why)
            except Rejected:
                return  # the refusal of another call has paused it
            except StoreError as error:
                log.error("campaign_not_paused", **of_call(call), reason=str(error))
                await self._clock.sleep(_PAUSE_AGAIN)
                continue
            log.warning("campaign_paused", **of_call(call), reason=why)
            return

    def _contacts_added(self, campaign_id: int) -> None:
        self.control.contacts_added(campaign_id)

    def _intake_options(self, tenant: Tenant) -> IntakeOptions:
        numbers = self._config.numbers
        return IntakeOptions(
            default_region=tenant.default_region or numbers.default_region, validate=numbers.validation
        )

    def _persist(self, what: str, work: Callable[[], Awaitable[None]]) -> None:
        """Do in the background what has to be done, however long the store fails."""
        self._background(persist(self._clock, what, work))


async def _in_time(what: str, closing: Awaitable[None]) -> None:
    """Close a part; what it still waits for after a while is ended by the store's own end."""
    try:
        async with asyncio.timeout(CLOSE_SECONDS):
            await closing
    except TimeoutError:
        log.error("not_closed_in_time", part=what)
