"""The application of all routes, and the server that offers it on a socket."""

from __future__ import annotations

import asyncio
import resource
import ssl
from collections.abc import Callable
from typing import Any, Final

import structlog
from aiohttp import web

from dialerd.api import (
    agents,
    callbacks,
    calls,
    campaigns,
    contacts,
    do_not_call,
    docs,
    explain,
    operations,
    results,
    standby,
    tenants,
    trunks,
    webhooks,
)
from dialerd.api.arrivals import ARRIVALS, Arrivals
from dialerd.api.auth import Doorkeeper
from dialerd.api.connections import Connection
from dialerd.api.context import Api, Limits
from dialerd.api.events import EventsResource
from dialerd.api.idempotency import Repeats
from dialerd.api.keys import KeysResource
from dialerd.api.listener import Listener
from dialerd.api.routes import PREFIX, AnyRoute
from dialerd.api.spool import SPOOLS, Spools
from dialerd.api.streams import Streams
from dialerd.api.wrapper import middleware, secure, wrap
from dialerd.clock import Clock
from dialerd.telemetry.metrics import Metrics

log = structlog.get_logger(__name__)

_START_SECONDS = 10.0
_KEEPALIVE_SECONDS = 75.0
_LINGER_SECONDS = 10.0  # how long the rest of a refused body is read, so that its sender gets to see the answer
CONNECTIONS = 12_000
"""Open at once; each costs some 10 kB. Whoever comes beyond is turned away, and the open ones are served on."""
TLS_CONNECTIONS = 2_000
"""The same with TLS, where each costs up to 310 kB on asyncio's loop, said hello or not, and some 55 kB on uvloop."""
_OTHER_FILES = 512
"""Descriptors that are never given to clients: the PBXs, the store and the daemon itself need theirs."""
_FEWEST = 64
_HEADER_BYTES = 8190
_HEADERS = 64
_CONNECTION: Final[dict[str, Any]] = {
    "access_log": None,
    "keepalive_timeout": _KEEPALIVE_SECONDS,
    "lingering_time": _LINGER_SECONDS,
    "max_line_size": _HEADER_BYTES,
    "max_field_size": _HEADER_BYTES,
    "max_headers": _HEADERS,
}
"""How every connection is served."""


def all_routes(streams: Streams, door: Doorkeeper) -> tuple[AnyRoute, ...]:
    """Every route of the API, in the contract's order."""
    return (
        *campaigns.ROUTES,
        *contacts.ROUTES,
        *callbacks.ROUTES,
        *explain.ROUTES,
        *EventsResource(streams).routes(),
        *calls.ROUTES,
        *results.ROUTES,
        *agents.ROUTES,
        *do_not_call.ROUTES,
        *trunks.ROUTES,
        *tenants.ROUTES,
        *KeysResource(door, streams).routes(),
        *webhooks.ROUTES,
    )


def build_app(api: Api) -> web.Application:
    """Make the web application. It ends its event streams, and the bodies on their way, when it is shut down."""
    app = web.Application(middlewares=[middleware(api)], client_max_size=api.limits.upload_bytes)
    # While this one stands by, keys are made and deleted through another daemon.
    trusts = api.standby is None
    door = Doorkeeper(api.store, api.clock, api.metrics, api.limits.failed_logins_per_minute, trusts=trusts)
    streams = Streams(api.store, api.feed, api.metrics, api.clock, api.limits, api.tenants, door.forget)
    routes = all_routes(streams, door)
    repeats = Repeats(api.store, api.clock)
    for route in routes:
        handler = wrap(route, api, door, repeats)
        app.router.add_route(route.method, PREFIX + route.path, handler)
        if route.method == "GET" and route.answers is not None:
            app.router.add_route("HEAD", PREFIX + route.path, handler)
    operations.add_routes(app, api)
    docs.add_routes(app, routes)
    app.on_response_prepare.append(secure)
    if api.standby is not None:
        app.on_response_prepare.append(standby.mark)

    app[ARRIVALS] = Arrivals(api.limits, api.metrics)
    app[SPOOLS] = Spools(api.upload_folder, api.limits, app[ARRIVALS])

    async def begin(app: web.Application) -> None:
        await app[SPOOLS].clean()

    async def end(app: web.Application) -> None:
        streams.close()
        app[ARRIVALS].end()

    async def close(app: web.Application) -> None:
        app[SPOOLS].close()

    app.on_startup.append(begin)
    app.on_shutdown.append(end)
    app.on_cleanup.append(close)
    return app


class ApiServer:
    """Serves an application."""

    def __init__(
        self,
        app: web.Application,
        clock: Clock,
        metrics: Metrics,
        *,
        connections: int | None = None,
        unread_seconds: float = Limits().drain_seconds,
    ) -> None:
        """``connections``: how many may be open at once, as far as the process may open files for them; None: as many
        as the module says.

        ``unread_seconds``: how long a client may take nothing of what waits for it before its connection is closed.
        """
        self._app = app
        self._clock = clock
        self._metrics = metrics
        self._unread_seconds = unread_seconds
        self._runner: web.AppRunner | None = None
        self._listener: Listener | None = None
        self._connections = connections
        self.port = 0
        """The port that is listened on, once started."""

    async def start(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> None:
        """Listen, with TLS where it is given; port 0 lets the system choose. Raises OSError, TimeoutError."""
        most = _room(self._connections or (CONNECTIONS if tls is None else TLS_CONNECTIONS))
        self._listener = Listener(self._connection, most, tls, self._clock, self._metrics)
        self._runner = web.AppRunner(self._app, handle_signals=False, **_CONNECTION)
        async with asyncio.timeout(_START_SECONDS):
            await self._runner.setup()
            self.port = await self._listener.open(host, port)
        log.info("api_listening", host=host, port=self.port, tls=tls is not None)

    def close_door(self) -> None:
        """Take no new connection: from now on another may listen here. Harmless when repeated."""
        if self._listener is not None:
            self._listener.close()

    async def stop(self, grace: float) -> None:
        """Take no more requests, end the streams, and give what is being answered so many seconds."""
        if self._runner is None:
            return
        runner, self._runner = self._runner, None
        if self._listener is not None:
            await self._listener.stop()
        await runner.shutdown()
        if runner.server is not None:
            runner.server.pre_shutdown()
            await runner.server.shutdown(grace)
        await runner.cleanup()

    def _connection(self, ended: Callable[[Connection], None]) -> Connection:
        assert self._runner is not None
        assert self._runner.server is not None
        return Connection(self._runner.server, self._unread_seconds, ended, **_CONNECTION)


def _room(connections: int) -> int:
    """So many, as far as the process may open files for them."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return connections if files == resource.RLIM_INFINITY else min(connections, max(_FEWEST, files - _OTHER_FILES))
