"""What a handler works with: the daemon's parts, the bounds of a request, and the request itself."""

from __future__ import annotations

import asyncio
import functools
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

from aiohttp import web

from dialerd.api.problems import Code, refuse
from dialerd.clock import Clock, read_id
from dialerd.core.model import Tenant
from dialerd.core.places import ANYWHERE, AllowedPlaces
from dialerd.dispatch.callbacks import Callbacks
from dialerd.dispatch.control import Control
from dialerd.dispatch.exclusions import Exclusions
from dialerd.dispatch.explanations import Explanations
from dialerd.dispatch.feed import Feed
from dialerd.dispatch.forecasts import Forecasts
from dialerd.dispatch.standby import Standby
from dialerd.dispatch.tenants import Tenants
from dialerd.dispatch.trunks import Trunks
from dialerd.dispatch.webhooks import Webhooks
from dialerd.store.db import Store
from dialerd.store.keys import Principal
from dialerd.telemetry.metrics import Metrics

Q = TypeVar("Q")
B = TypeVar("B")


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of what a client may send, hold open, or leave unread."""

    json_bytes: int = 256 * 2**10
    """The largest JSON body without a list of contacts or numbers: it is held in memory."""
    list_bytes: int = 8 * 2**20
    """The largest JSON body with one."""
    bodies_bytes: int = 32 * 2**20
    """Of all bodies that are held in memory at once, as far as they have come; read, a list takes ten times as much."""
    tenant_bodies_bytes: int = 16 * 2**20
    """Of those of one tenant."""
    upload_bytes: int = 256 * 2**20
    """The largest contact list, as CSV, NDJSON or multipart: it is spooled to a file."""
    uploads: int = 32
    """Uploads at once, from their first byte until they are visible; on disk they take four of the largest at most."""
    tenant_uploads: int = 8
    """Those of one tenant, which take two of the largest at most."""
    form_value_bytes: int = 64 * 2**10
    form_parts: int = 100
    body_seconds: float = 30.0
    """How long a JSON body may take, and how long an upload may pause."""
    upload_seconds: float = 3600.0
    """How long an upload may take as a whole."""
    heartbeat_seconds: float = 15.0
    """Between two comments on an event stream that has nothing to tell."""
    stream_pause_seconds: float = 0.1
    """Events that come this close together travel in one write."""
    stream_buffer_bytes: int = 256 * 2**10
    """What may wait in memory for a client that does not read."""
    drain_seconds: float = 30.0
    """How long that client may leave it unread before it is dropped."""
    streams: int = 5000
    """Event streams open at once."""
    failed_logins_per_minute: int = 20
    search_seconds: float = 10.0
    """How long a search through a whole list waits for its turn before it is told to come again."""


SEARCHES = 2
"""Searches through whole lists at once. The other half of the store's readers is left to all else."""


@dataclass(frozen=True, slots=True)
class Api:
    """The parts of the daemon that the handlers use."""

    store: Store
    control: Control
    callbacks: Callbacks
    explanations: Explanations
    forecasts: Forecasts
    exclusions: Exclusions
    webhooks: Webhooks
    feed: Feed
    tenants: Tenants
    trunks: Trunks
    metrics: Metrics
    clock: Clock
    limits: Limits = Limits()
    places: Callable[[], AllowedPlaces] = lambda: ANYWHERE
    """The places that an agent may name, now."""
    upload_folder: Path = Path(tempfile.gettempdir(), "dialerd-uploads")
    """Where uploads are kept while they are read."""
    standby: Standby | None = None
    """While another daemon dials from the store: it is only read here. None: this one dials."""
    searches: asyncio.Semaphore = field(default_factory=functools.partial(asyncio.Semaphore, SEARCHES))


@dataclass(frozen=True, slots=True)
class Request(Generic[Q, B]):
    """A request that is authenticated, allowed and understood."""

    api: Api
    principal: Principal
    own_tenant: Tenant | None
    """The key's; None: it is a system key."""
    query: Q
    body: B
    raw: web.Request

    @property
    def tenant(self) -> Tenant:
        """The key's tenant, on a route that is not for system keys."""
        assert self.own_tenant is not None
        return self.own_tenant

    def path_id(self, name: str, missing: Code) -> int:
        """The row's id that the path names. One that never was an id is the same 404 as one that is not there."""
        number = read_id(self.raw.match_info[name])
        if number is None:
            raise refuse(missing)
        return number
