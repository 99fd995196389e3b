"""The process around the daemon: its socket and its certificate, its signals, and the service manager."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import structlog
from aiohttp import web

from dialerd import collector
from dialerd.api.context import Api
from dialerd.clock import Clock, SystemClock
from dialerd.config import Config, ConfigError, ServerConfig, warnings
from dialerd.service import CLOSE_SECONDS, Daemon, NotReloaded, ReloadDropped
from dialerd.store.errors import StoreError, StoreTakenOver
from dialerd.store.file_lock import alone_with, file_of
from dialerd.telemetry import logs
from dialerd.telemetry.metrics import Metrics
from dialerd.telemetry.systemd import ServiceManager

if TYPE_CHECKING:
    from dialerd.store.lease import Lease

log = structlog.get_logger(__name__)

_LAG_EVERY = 1.0
_AT_ONCE = 0.5
"""Seconds within which a lease that is free is taken: only then does a standby begin to serve."""
_MOST_FILES = 65_536


def web_app(api: Api) -> web.Application:
    """Make the web application: the API, and beside it the dashboard at ``/``."""
    from dialerd.api.server import build_app
    from dialerd.dashboard.pages import add_routes

    app = build_app(api)
    add_routes(app)
    return app


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's event loop, where it is installed (``pip install dialerd[speed]``); None: asyncio's own."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


class _Turn:
    """The time in which this process, and no other, dials from its store; until it comes, a standby.

    A SQLite file is one process's alone, and another ends at once. On PostgreSQL others wait for their turn.
    """

    def __init__(
        self,
        config: Config,
        reread: Callable[[], Config],
        clock: Clock,
        signals: _Signals,
        manager: ServiceManager,
        tls: ssl.SSLContext | None,
    ) -> None:
        self.config = config
        """The configuration to dial with: it may have been read again while this process stood by."""
        self._reread = reread
        self._clock = clock
        self._signals = signals
        self._manager = manager
        self._tls = tls
        self._held = contextlib.AsyncExitStack()
        self.since = 0.0
        """From this moment (monotonic) on nobody else dialled from the store: whoever did is dead, or may not."""

    async def __aenter__(self) -> Lease | None:
        """Wait for it, or for the signal to stop. Raises StoreError."""
        url = self.config.store.url
        async with contextlib.AsyncExitStack() as held:
            held.enter_context(alone_with(url))
            self.since = self._clock.mono()
            _prepare(self.config)
            lease = None
            if url.startswith("postgresql:"):
                # Imported only here: its driver is of no use to a SQLite file.
                from dialerd.store.lease import Lease

                lease = Lease(url, self._clock)
                held.push_async_callback(lease.give_back)
                await self._wait(lease, held)
                self.since = self._clock.mono()
            self._held = held.pop_all()
        return lease

    async def __aexit__(self, *raised: object) -> None:
        await self._held.aclose()

    async def _wait(self, lease: Lease, held: contextlib.AsyncExitStack) -> None:
        taking = asyncio.create_task(lease.take())
        stopping = asyncio.create_task(self._signals.stop.wait())
        try:
            await asyncio.wait((taking, stopping), timeout=_AT_ONCE, return_when=asyncio.FIRST_COMPLETED)
            if not taking.done() and not stopping.done():
                await self._stand_by(lease, held, (taking, stopping))
            if taking.done():
                await taking
        finally:
            await _ended(taking, stopping)

    async def _stand_by(
        self, lease: Lease, held: contextlib.AsyncExitStack, until: tuple[asyncio.Task[Any], ...]
    ) -> None:
        """Serve what the store holds until one of these tasks is done. Raises OSError where nobody can listen.

        What is being answered then is answered beside the daemon's start, which waits for none of it.
        """
        from dialerd.api.server import ApiServer

        server_config, enough = self.config.server, asyncio.Event()
        daemon = Daemon(self.config, self._clock, Metrics(), waits_for=lambda: lease.waits_for)
        server = ApiServer(web_app(daemon.api), self._clock, daemon.metrics)

        async def serve_reading() -> None:
            async with daemon.standing_by():
                await server.start(server_config.host, server_config.port, self._tls)
                log.info("standby_serves", listen=server_config.listen, port=server.port)
                self._manager.ready(daemon.status())
                try:
                    await enough.wait()
                finally:
                    await server.stop(CLOSE_SECONDS)

        serving = asyncio.create_task(serve_reading(), name="standby")
        held.push_async_callback(_finished, serving)
        reloads = _Reloads(daemon, self._reread, self._tls, self._clock, self._manager)
        work = (
            _measure_lag(self._clock, daemon.metrics),
            self._manager.feed(daemon.status),
            reloads.run(self._signals.reload),
        )
        beside = [asyncio.create_task(each) for each in work]
        try:
            await asyncio.wait((*until, serving), return_when=asyncio.FIRST_COMPLETED)
            if serving.done():
                await serving
        finally:
            enough.set()
            server.close_door()
            await _ended(*beside)
            self.config = daemon.config


async def _dial(
    config: Config,
    reread: Callable[[], Config],
    clock: Clock,
    metrics: Metrics,
    signals: _Signals,
    manager: ServiceManager,
    tls: ssl.SSLContext | None,
    lease: Lease | None,
    since: float,
) -> None:
    """Run the daemon and its API. Raises StoreError where the store is taken over by another."""
    from dialerd.api.server import ApiServer

    daemon = Daemon(config, clock, metrics, alone_since=since)
    if lease is not None:
        daemon.store.lease = lease
        lease.on_change = daemon.dispatcher.wake
    server = ApiServer(web_app(daemon.api), clock, daemon.metrics)

    async def ready() -> None:
        await server.start(config.server.host, config.server.port, tls)
        loop = type(asyncio.get_running_loop()).__module__.partition(".")[0]
        pbxs = list(config.pbx)
        log.info("ready", listen=config.server.listen, port=server.port, pbxs=pbxs, event_loop=loop)
        manager.ready(daemon.status())
        collector.settle()
        reloads = _Reloads(daemon, reread, tls, clock, manager)
        beside.append(asyncio.create_task(reloads.run(signals.reload), name="reloads"))

    async def tell_of_stop() -> None:
        await signals.stop.wait()
        manager.stopping(daemon.config.dispatch.drain_seconds + 4 * CLOSE_SECONDS)

    async def yield_to_another() -> None:
        if lease is not None:
            await lease.lost.wait()
            # Its calls are the other's now: there is nothing to follow to an end.
            signals.hurry.set()
            signals.stop.set()

    work = (_measure_lag(clock, metrics), manager.feed(daemon.status), tell_of_stop(), yield_to_another())
    beside = [asyncio.create_task(each) for each in work]
    try:
        await daemon.run(signals.stop, hurry=signals.hurry, ready=ready)
    finally:
        await _ended(*beside)
        await server.stop(CLOSE_SECONDS)
    if lease is not None and lease.lost.is_set():
        raise StoreTakenOver("another daemon has taken the store over")


async def serve(config: Config, reread: Callable[[], Config]) -> int:
    """Run the daemon until SIGTERM or SIGINT; returns the process's exit status.

    ``reread`` reads the configuration again, at SIGHUP. Raises ConfigError.
    """
    clock, metrics, status = SystemClock(), Metrics(), 0
    _raise_file_limit()
    # First of all: a signal that comes while the store is made must not kill the process.
    signals = _Signals()
    try:
        manager, tls = ServiceManager(clock, os.environ), _tls(config.server)
        turn = _Turn(config, reread, clock, signals, manager, tls)
        async with turn as lease:
            if not signals.stop.is_set():
                await _dial(turn.config, reread, clock, metrics, signals, manager, tls, lease, turn.since)
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


def _raise_file_limit() -> None:
    """Take the open files that the system allows, as LimitNOFILE of the unit does: a shell's own limit is low."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


async def _finished(task: asyncio.Task[None]) -> None:
    await asyncio.wait((task,))


async def _ended(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks, and wait until they have ended."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _measure_lag(clock: Clock, metrics: Metrics) -> None:
    """Measure how late the event loop runs: whoever blocks it shows here."""
    while True:
        due = clock.mono() + _LAG_EVERY
        await clock.sleep(_LAG_EVERY)
        metrics.loop_lag.observe(max(0.0, clock.mono() - due))


def _prepare(config: Config) -> None:
    """Create a store that is not there yet; one that is there is only checked."""
    file = file_of(config.store.url)
    if file is not None and file.exists():
        return
    # Imported only here: it costs a third of a second.
    from dialerd.store.migrate import is_new, migrate

    if is_new(config.store.url):
        log.info("store_created", revision=migrate(config.store.url))


class _Signals:
    """What the process is told: the first SIGTERM or SIGINT to stop, the next to hurry, SIGHUP to reload."""

    def __init__(self) -> None:
        self.stop, self.hurry, self.reload = asyncio.Event(), asyncio.Event(), asyncio.Event()
        loop = asyncio.get_running_loop()
        told = {signal.SIGTERM: self._stop, signal.SIGINT: self._stop, signal.SIGHUP: self.reload.set}
        for number, tell in told.items():
            with contextlib.suppress(NotImplementedError):
                loop.add_signal_handler(number, tell)

    def _stop(self) -> None:
        (self.hurry if self.stop.is_set() else self.stop).set()


class _Reloads:
    """Reads the configuration again and takes it up, one after the other. A mistake changes nothing and is told."""

    def __init__(
        self,
        daemon: Daemon,
        reread: Callable[[], Config],
        tls: ssl.SSLContext | None,
        clock: Clock,
        manager: ServiceManager,
    ) -> None:
        self._daemon = daemon
        self._reread = reread
        self._tls = tls
        self._clock = clock
        self._manager = manager

    async def run(self, asked: asyncio.Event) -> None:
        """Reload whenever it is asked for. Runs until cancelled."""
        while True:
            await asked.wait()
            asked.clear()
            self._manager.reloading()
            try:
                await self._reload()
            except asyncio.CancelledError:
                asked.set()  # a standby's turn has come meanwhile: the daemon that dials takes it up
                raise
            except ConfigError as error:
                log.error("config_not_reloaded", problems=[f"{key}: {message}" for key, message in error.problems])
            except ReloadDropped as error:
                log.info("reload_dropped", reason=str(error))
            except (NotReloaded, OSError) as error:
                log.error("config_not_reloaded", problems=[str(error)])
            except Exception:
                log.exception("config_not_reloaded")
            self._manager.ready(self._daemon.status())

    async def _reload(self) -> None:
        wanted = await asyncio.to_thread(self._reread)
        _tls(wanted.server)  # a pair that does not match is a mistake as well
        change = await self._daemon.reload(wanted)
        server, logging = change.config.server, change.config.logging
        if self._tls is not None and server.tls_certificate is not None:
            # Also where the files alone were renewed: the next handshake shows what they hold now.
            self._tls.load_cert_chain(server.tls_certificate, server.tls_key)
        logs.configure(logging.level, logging.format, self._clock, full_numbers=logging.full_numbers)
        for key, message in warnings(change.config):
            log.warning("config_warning", config_key=key, message=message)
        log.info("config_reloaded", applied=list(change.applied))
        if change.waiting:
            log.warning("config_needs_restart", keys=list(change.waiting))
