"""The process around the daemon: its socket and its certificate, its signals, and the service manager."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import resource
import signal
import ssl
from collections.abc import Callable

import structlog
from aiohttp import web

from dialerd.api.context import Api
from dialerd.clock import Clock, SystemClock
from dialerd.config import Config, ConfigError, ServerConfig, warnings
from dialerd.service import CLOSE_SECONDS, Daemon, NotReloaded
from dialerd.store.errors import StoreError
from dialerd.store.file_lock import alone_with
from dialerd.telemetry import logs
from dialerd.telemetry.metrics import Metrics
from dialerd.telemetry.systemd import ServiceManager

log = structlog.get_logger(__name__)

_LAG_EVERY = 1.0
_GC_THRESHOLDS = (10_000, 20, 100)
"""Python's own (700, 10, 10) let the collector walk through all that lives every few seconds: with 10,000 connections
open it stopped the loop for 0.3 s each time. What the daemon makes is nearly always freed by its reference counts."""
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


async def serve(config: Config, reread: Callable[[], Config]) -> int:
    """Run the daemon until SIGTERM or SIGINT; returns the process's exit status.

    ``reread`` reads the configuration again, at SIGHUP. Raises ConfigError.
    """
    from dialerd.api.server import ApiServer

    clock, metrics, status = SystemClock(), Metrics(), 0
    gc.set_threshold(*_GC_THRESHOLDS)
    _raise_file_limit()
    # First of all: a signal that comes while the store is made must not kill the process.
    signals = _Signals()
    try:
        with alone_with(config.store.url):
            _prepare(config)
            daemon = Daemon(config, clock, metrics)
            server, tls, manager = (
                ApiServer(web_app(daemon.api)),
                _tls(config.server),
                ServiceManager(clock, os.environ),
            )

            async def ready() -> None:
                await server.start(config.server.host, config.server.port, tls)
                loop = type(asyncio.get_running_loop()).__module__.partition(".")[0]
                pbxs = list(config.pbx)
                log.info("ready", listen=config.server.listen, port=server.port, pbxs=pbxs, event_loop=loop)
                manager.ready(daemon.status())
                gc.collect()
                gc.freeze()
                reloads = _Reloads(daemon, reread, tls, clock, manager)
                beside.append(asyncio.create_task(reloads.run(signals.reload), name="reloads"))

            async def tell_of_stop() -> None:
                await signals.stop.wait()
                manager.stopping(config.dispatch.drain_seconds + 4 * CLOSE_SECONDS)

            beside = [
                asyncio.create_task(each)
                for each in (_measure_lag(clock, metrics), manager.feed(daemon.status), tell_of_stop())
            ]
            try:
                await daemon.run(signals.stop, hurry=signals.hurry, ready=ready)
            finally:
                for task in beside:
                    task.cancel()
                await server.stop(CLOSE_SECONDS)
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
            except ConfigError as error:
                log.error("config_not_reloaded", problems=[f"{key}: {message}" for key, message in error.problems])
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
