"""The composition root: makes the daemon's parts from the configuration, starts them in order, and stops them."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import signal
import ssl
from collections.abc import Awaitable, Callable, Coroutine, Mapping

import structlog
from aiohttp import web

from dialerd.api.context import Api
from dialerd.api.context import Limits as ApiLimits
from dialerd.clock import Clock, SystemClock
from dialerd.config import Config, PbxConfig, ServerConfig
from dialerd.core.campaign import FINISHED
from dialerd.core.model import AgentKind, Call, CampaignStatus, Tenant
from dialerd.dispatch.callbacks import Callbacks
from dialerd.dispatch.calls import LiveCall
from dialerd.dispatch.control import Control
from dialerd.dispatch.dispatcher import Dispatcher
from dialerd.dispatch.errors import Rejected
from dialerd.dispatch.exclusions import Exclusions
from dialerd.dispatch.explanations import Explanations
from dialerd.dispatch.feed import Feed
from dialerd.dispatch.forecasts import Forecasts
from dialerd.dispatch.journal import Journal
from dialerd.dispatch.limits import Limits
from dialerd.dispatch.tenants import Tenants
from dialerd.dispatch.uploads import Uploads
from dialerd.intake.rows import IntakeOptions
from dialerd.pbx.asterisk import AsteriskDriver, AsteriskSettings
from dialerd.pbx.driver import PbxDriver
from dialerd.pbx.esl_link import EslSettings
from dialerd.pbx.freeswitch import FreeSwitchDriver
from dialerd.pbx.simulated import SimulatedDriver, SimulatedPbx
from dialerd.store import agents, calls, campaigns, contacts, steps, trunks
from dialerd.store import tenants as stored
from dialerd.store.db import Store
from dialerd.store.errors import StoreError
from dialerd.store.tx import Committed
from dialerd.telemetry.logs import of_call
from dialerd.telemetry.metrics import Metrics
from dialerd.telemetry.systemd import ServiceManager

log = structlog.get_logger(__name__)

_CLOSE_SECONDS = 10.0
_LAG_EVERY = 1.0
_PAUSE_AGAIN = 5.0
"""Seconds after which a campaign that the store would not pause is paused again."""


class Daemon:
    """All parts of the dialer, wired together. Its clock and its drivers can be given, for simulation."""

    def __init__(
        self, config: Config, clock: Clock, metrics: Metrics, drivers: Mapping[str, PbxDriver] | None = None
    ) -> None:
        self._config = config
        self._clock = clock
        self.drivers = drivers if drivers is not None else make_drivers(config, clock)
        self._tasks: asyncio.TaskGroup | None = None
        self._unwaited: set[asyncio.Task[None]] = set()
        self._stopping = False
        self.metrics = metrics
        self.store = Store(config.store.url, clock, metrics)
        self.feed = Feed()
        self._tenants = Tenants(config.tenants(), config.trunk, self.store)
        tenants = self._tenants.live
        self._journal = Journal(self.store, clock, metrics)
        self.dispatcher = Dispatcher(
            self.store,
            self._journal,
            clock,
            metrics,
            self.drivers,
            tenants=tenants,
            trunks=config.trunks(),
            pbxs=config.pbxs(),
            limits=Limits(config.dispatch.cps_guard_ms / 1000, config.dispatch.setup_seconds),
        )
        self._uploads = Uploads(self.store, clock, self._intake_options, metrics, self._contacts_added)
        self.control = Control(
            self.store,
            self.dispatcher,
            self._uploads,
            clock,
            trunks={trunk.id: trunk for trunk in config.trunks()},
            pbxs=tuple(self.drivers),
            background=self._background,
        )
        self._tenants.on_change = self.dispatcher.tenant_changed
        self.dispatcher.on_place_refused = lambda call, reason: self._background(self._pause_for(call, reason))
        for name, driver in self.drivers.items():
            if isinstance(driver, AsteriskDriver | FreeSwitchDriver):
                metrics.watch_link(name, functools.partial(getattr, driver, "counters"))
        self.store.on_commit = self._committed
        self.store.on_health = self.dispatcher.wake
        self.api = Api(
            store=self.store,
            control=self.control,
            callbacks=Callbacks(self.store, clock, self._intake_options, self._contacts_added),
            explanations=Explanations(self.dispatcher, clock),
            forecasts=Forecasts(self.dispatcher, clock),
            exclusions=Exclusions(self.store, clock, self._intake_options),
            feed=self.feed,
            tenants=self._tenants,
            trunks=self.dispatcher.trunks,
            metrics=metrics,
            clock=clock,
            limits=ApiLimits(upload_bytes=config.server.max_body_bytes),
            applications=frozenset(config.agents.applications),
        )

    async def run(
        self, stop: asyncio.Event, *, hurry: asyncio.Event | None = None, ready: Callable[[], Awaitable[None]]
    ) -> None:
        """Run until ``stop`` is set; then finish the calls in flight, in ``drain_seconds`` or until ``hurry`` is set.

        ``ready`` is called when everything runs. Raises StoreError where the store cannot be used.
        """
        await self.store.open()
        try:
            self._journal.start()
            leftovers = await self._uploads.leftovers()
            await self._take_up()
            async with asyncio.TaskGroup() as self._tasks:
                dispatching = self._tasks.create_task(self.dispatcher.run(), name="dispatcher")
                self._background(self._uploads.clean_up(leftovers))
                self._background(self.control.finish_stops())
                try:
                    for name, driver in self.drivers.items():
                        await driver.start(functools.partial(self.dispatcher.hear, name))
                    await ready()
                    await stop.wait()
                    await self._drain(hurry or asyncio.Event())
                finally:
                    for driver in self.drivers.values():
                        await driver.stop()
                    dispatching.cancel()
                    self._stopping = True
                    for task in self._unwaited:
                        task.cancel()
        finally:
            await self._journal.close(_CLOSE_SECONDS)
            await self._uploads.close()
            await self.store.close()

    async def _take_up(self) -> None:
        """Load what was active, and the calls that were in flight, before any PBX is asked anything."""
        async with self.store.read() as conn:
            active = await campaigns.of_status(conn, CampaignStatus.ACTIVE)
            waiting = await campaigns.of_status(conn, CampaignStatus.PAUSED, CampaignStatus.DRAFT)
            known = {agent.id: agent for agent in await agents.everyone(conn)}
            unended = await calls.live(conn)
            theirs = await contacts.get_many(conn, [call.contact_id for call in unended])
            today = await steps.calls_of_day(conn, self._clock.wall())
            stored_tenants = await stored.everyone(conn)
            paused = await trunks.paused(conn)
            campaigns_of = await campaigns.get_many(conn, {call.campaign_id for call in unended})
        lives = []
        for call in unended:
            campaign, visible = campaigns_of[call.campaign_id]
            agent = known.get(call.agent_id) if call.agent_id is not None else None
            settings = campaign.settings
            lives.append(
                LiveCall(
                    call,
                    theirs[call.contact_id],
                    settings,
                    settings.answer_timeout + self._config.dispatch.setup_seconds,
                    hands_over=agent is not None and agent.kind is AgentKind.QUEUE,
                    stopped=campaign.status in FINISHED or not visible,
                )
            )
        self._tenants.load(stored_tenants)
        self.dispatcher.trunks.load(paused.values())
        self.dispatcher.count_day(today)
        self.dispatcher.resume_calls(lives)
        self.control.load(active, waiting, known)
        if lives:
            log.info("calls_to_recover", calls=len(lives))

    async def _drain(self, hurry: asyncio.Event) -> None:
        """Send nothing more, and follow the calls in flight to their end for a while."""
        self.dispatcher.drain("the daemon is stopping")
        in_flight = len(self.dispatcher.calls)
        if not in_flight:
            return
        log.info("draining", calls=in_flight, seconds=self._config.dispatch.drain_seconds)
        empty = asyncio.ensure_future(self.dispatcher.calls.empty())
        hurried = asyncio.ensure_future(hurry.wait())
        await asyncio.wait(
            (empty, hurried), timeout=self._config.dispatch.drain_seconds, return_when=asyncio.FIRST_COMPLETED
        )
        for waiter in (empty, hurried):
            waiter.cancel()
        left = len(self.dispatcher.calls)
        if left:
            log.warning("calls_left_to_the_pbx", calls=left)

    def status(self) -> str:
        """What the daemon does, in one line."""
        links = ", ".join(f"{name} {driver.state.value}" for name, driver in self.drivers.items())
        return f"{len(self.dispatcher.calls)} calls in flight; PBXs: {links or 'none'}"

    def _committed(self, committed: Committed) -> None:
        if committed.events:
            lag = self._clock.wall() - committed.events[0].draft.at
            self.metrics.event_lag.observe(max(0.0, lag.total_seconds()))
        self.feed.publish(committed)
        for end in committed.ends:
            self.control.campaign_ended(end.campaign_id)

    async def _pause_for(self, call: Call, reason: str) -> None:
        """The PBX does not know where a campaign's answered calls should go: it would refuse each of its calls."""
        why = f"PBX {call.pbx} refuses the place of its agent: {reason}"
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

    def _background(self, work: Awaitable[None]) -> None:
        """Do what nobody waits for. It ends with the daemon; the next start takes up what has to be done."""

        async def guarded() -> None:
            try:
                await work
            except Exception:
                log.exception("background_work_failed")
                self.metrics.dropped.labels("background_work").inc()

        assert self._tasks is not None, "the daemon does not run yet"
        if self._stopping:
            if isinstance(work, Coroutine):
                work.close()
            return
        task = self._tasks.create_task(guarded())
        self._unwaited.add(task)
        task.add_done_callback(self._unwaited.discard)


def make_drivers(config: Config, clock: Clock) -> dict[str, PbxDriver]:
    """Make a driver for each PBX of the configuration."""
    return {
        name: _driver(name, pbx, {trunk.id: trunk.dial for trunk in config.trunks() if trunk.pbx == name}, clock)
        for name, pbx in config.pbx.items()
    }


def _driver(name: str, pbx: PbxConfig, trunks: Mapping[str, str], clock: Clock) -> PbxDriver:
    if pbx.driver == "simulated":
        return SimulatedDriver(name, SimulatedPbx(pbx.simulated, clock), clock, trunks)
    secret = pbx.secret.get_secret_value() if pbx.secret else ""
    if pbx.driver == "freeswitch":
        link = EslSettings(
            host=pbx.host,
            port=pbx.link_port,
            secret=secret,
            action_deadline=pbx.action_deadline_seconds,
            ping_every=pbx.ping_seconds,
        )
        return FreeSwitchDriver(name, link, clock, trunks)
    settings = AsteriskSettings(
        host=pbx.host,
        port=pbx.link_port,
        username=pbx.username or "",
        secret=secret,
        action_deadline=pbx.action_deadline_seconds,
        ping_every=pbx.ping_seconds,
    )
    return AsteriskDriver(name, settings, clock, trunks)


def web_app(api: Api) -> web.Application:
    """Make the web application: the API, and beside it the dashboard at ``/``."""
    from dialerd.api.server import build_app
    from dialerd.dashboard.pages import add_routes

    app = build_app(api)
    add_routes(app)
    return app


async def serve(config: Config) -> int:
    """Run the daemon until SIGTERM or SIGINT; returns the process's exit status."""
    from dialerd.api.server import ApiServer

    clock, metrics, status = SystemClock(), Metrics(), 0
    try:
        _prepare(config)
        daemon = Daemon(config, clock, metrics)
        stop, hurry = _signals()
        server, tls, manager = ApiServer(web_app(daemon.api)), _tls(config.server), ServiceManager(clock, os.environ)

        async def ready() -> None:
            await server.start(config.server.host, config.server.port, tls)
            log.info("ready", listen=config.server.listen, port=server.port, pbxs=list(config.pbx))
            manager.ready(daemon.status())

        async def tell_of_stop() -> None:
            await stop.wait()
            manager.stopping(config.dispatch.drain_seconds + 4 * _CLOSE_SECONDS)

        beside = [
            asyncio.create_task(each)
            for each in (_measure_lag(clock, metrics), manager.feed(daemon.status), tell_of_stop())
        ]
        try:
            await daemon.run(stop, hurry=hurry, ready=ready)
        finally:
            for task in beside:
                task.cancel()
            await server.stop(_CLOSE_SECONDS)
    except* (StoreError, OSError) as failures:
        for error in failures.exceptions:
            log.error("not_started", reason=str(error))
        status = 1
    log.info("stopped", status=status)
    return status


def _tls(server: ServerConfig) -> ssl.SSLContext | None:
    """The certificate to serve with; None: plain HTTP. Raises OSError where it cannot be used."""
    if server.tls_certificate is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(server.tls_certificate, server.tls_key)
    except ssl.SSLError as error:
        raise OSError(f"server.tls_certificate and server.tls_key do not make a pair: {error.reason}") from error
    return context


async def _measure_lag(clock: Clock, metrics: Metrics) -> None:
    """Measure how late the event loop runs: whoever blocks it shows here."""
    while True:
        due = clock.mono() + _LAG_EVERY
        await clock.sleep(_LAG_EVERY)
        metrics.loop_lag.observe(max(0.0, clock.mono() - due))


def _prepare(config: Config) -> None:
    """Create a store that is not there yet; one that is there is only checked."""
    from dialerd.store.migrate import is_new, migrate

    if is_new(config.store.url):
        log.info("store_created", revision=migrate(config.store.url))


def _signals() -> tuple[asyncio.Event, asyncio.Event]:
    """The first signal asks to stop, the second to hurry."""
    stop, hurry = asyncio.Event(), asyncio.Event()

    def told() -> None:
        (hurry if stop.is_set() else stop).set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        with contextlib.suppress(NotImplementedError):
            loop.add_signal_handler(number, told)
    return stop, hurry
