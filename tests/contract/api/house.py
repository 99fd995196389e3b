"""A daemon without calls: its PBX never comes up, so that only the API moves what is in the store."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import aiohttp

from dialerd.api.auth import Doorkeeper
from dialerd.api.context import Limits
from dialerd.api.routes import AnyRoute
from dialerd.api.server import ApiServer, all_routes
from dialerd.api.streams import Streams
from dialerd.clock import SystemClock, show_id
from dialerd.config import Config, parse
from dialerd.core.model import Call, CallStatus, Contact, ContactStatus
from dialerd.pbx.driver import Accepted, InDoubt, Kept, LinkLost, LinkState, LiveChannel, Originate, Refused, Sink
from dialerd.process import web_app
from dialerd.service import Daemon
from dialerd.store import contact_list, keys
from dialerd.store.db import Store
from dialerd.store.keys import Role
from dialerd.store.migrate import migrate
from dialerd.store.records import EventDraft, EventKind, Originating
from dialerd.telemetry.metrics import Metrics
from dialerd.webhooks.transport import Transport
from tests.support.endpoint import Endpoint

TOML = """
[store]
url = "{store}"
[agents]
applications = ["Playback"]
[pbx.main]
driver = "simulated"
max_calls_per_second = 100
max_channels = 100
[pbx.main.simulated]
by_number = true
shares = {{ answer = 1.0 }}
post_dial_seconds = [0.005, 0.02]
ring_seconds = [0.005, 0.02]
talk_seconds = [0.02, 0.1]
trip_seconds = [0.0, 0.002]
seed = 1
[trunk.a]
pbx = "main"
dial = "PJSIP/{{number}}@a"
max_calls_per_second = 100
max_channels = 100
[trunk.spare]
pbx = "main"
dial = "PJSIP/{{number}}@spare"
max_calls_per_second = 100
max_channels = 100
[tenant.one]
max_calls_per_second = 100
max_concurrent_calls = 100
trunks = ["a"]
default_region = "US"
settings = {{ concurrent_calls = 7, timezone = "America/New_York" }}
[tenant.two]
max_calls_per_second = 100
max_concurrent_calls = 100
trunks = ["a"]
default_agent = "the default"
"""

KEYS = {
    "viewer": ("one", Role.VIEWER),
    "operator": ("one", Role.OPERATOR),
    "admin": ("one", Role.ADMIN),
    "other": ("two", Role.ADMIN),
    "system": (None, Role.SYSTEM),
    "orphan": ("gone", Role.ADMIN),
}
DEADLINE = 60.0
"""Seconds that a test waits for anything: long enough for a machine that has much else to do."""


class SilentDriver:
    """A driver whose PBX is never reached."""

    state = LinkState.CONNECTING
    reason: str | None = "unreachable"

    async def start(self, sink: Sink) -> None:
        """Nothing will be told."""

    async def stop(self) -> None:
        """Nothing to close."""

    async def originate(self, order: Originate) -> Accepted | Refused | InDoubt:
        raise AssertionError("nothing may be dialled")

    async def hangup(self, call_id: str) -> bool:
        raise LinkLost(call_id)

    async def live(self) -> tuple[LiveChannel, ...]:
        raise LinkLost("unreachable")

    def ending(self, call_id: str) -> bool:
        return False

    def forget(self, call_id: str) -> None:
        """Nothing is remembered."""

    async def kept(self, call_ids: Collection[str]) -> Mapping[str, Kept]:
        raise LinkLost("unreachable")

    def discard(self, call_ids: Collection[str]) -> None:
        """Nothing was kept."""

    async def watch(self, trunks: Mapping[str, str]) -> None:
        """Nothing will be told."""


@dataclass
class Template:
    """A migrated store with the keys, made once and copied for each test."""

    path: Path
    keys: dict[str, str]

    def url(self, folder: Path, *, fresh: bool) -> str:
        """The URL of a test's own store, made anew or (``fresh`` false) left as it is."""
        path = folder / "dialerd.db"
        if fresh:
            shutil.copy(self.path, path)
        return f"sqlite:///{path}"


async def make_template(folder: Path) -> Template:
    """Make the store that each test gets a copy of."""
    path = folder / "template.db"
    return Template(path, await make_store(f"sqlite:///{path}"))


async def make_store(url: str) -> dict[str, str]:
    """Make a store with the keys in it; returns them."""
    migrate(url)
    store = Store(url, SystemClock(), Metrics())
    await store.open()
    made = {name: await keys.create(store, tenant, role, name) for name, (tenant, role) in KEYS.items()}
    await store.close()
    return made


@dataclass
class Answer:
    """A response that is read."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    json: Any

    def problem(self) -> tuple[int, str]:
        """The status and code of a problem, which must be a well-formed one."""
        assert self.headers["Content-Type"].startswith("application/problem+json"), self
        assert self.json["status"] == self.status
        assert {"type", "title", "status", "detail", "code"} <= self.json.keys()
        return self.status, self.json["code"]

    def fields(self) -> list[str]:
        """The fields that a problem names."""
        return [each["field"] for each in self.json["errors"]]


@dataclass
class House:
    """The daemon, its server and a client of it."""

    daemon: Daemon
    server: ApiServer
    endpoint: Endpoint
    """Where all webhooks lead, whatever their URL."""
    session: aiohttp.ClientSession
    keys: Mapping[str, str]
    base: str
    toml: str
    """The configuration file, as the daemon read it last."""
    clock: SystemClock = field(default_factory=SystemClock)

    def headers(self, key: str | None = "operator") -> dict[str, str]:
        """The headers of a request with one of KEYS."""
        return {} if key is None else {"Authorization": f"Bearer {self.keys[key]}"}

    async def ask(self, method: str, path: str, *, key: str | None = "operator", **how: Any) -> Answer:
        """Send a request and read its answer. A path is below /api/v1, unless it begins with ``/~``."""
        headers = {**self.headers(key), **how.pop("headers", {})}
        url = self.base + (path[2:] if path.startswith("/~") else f"/api/v1{path}")
        async with asyncio.timeout(DEADLINE), self.session.request(method, url, headers=headers, **how) as response:
            body = await response.read()
            is_json = "json" in response.content_type and body
            return Answer(
                response.status,
                response.headers.copy(),
                body,
                await response.json(content_type=None) if is_json else None,
            )

    async def reload(self, *changes: tuple[str, str]) -> None:
        """Change the configuration file, each text into another, and let the daemon read it again."""
        for old, new in changes:
            assert old in self.toml, old
            self.toml = self.toml.replace(old, new)
        await self.daemon.reload(read_toml(self.toml))

    async def agent(self, key: str = "admin", **values: Any) -> str:
        """Make an agent and return its id."""
        body = {"name": f"agent {self.clock.number()}", "kind": "dialplan", "context": "c", "exten": "s", **values}
        answer = await self.ask("POST", "/agents", key=key, json=body)
        assert answer.status == 201, answer
        return str(answer.json["id"])

    async def campaign(self, *phones: str, key: str = "operator", **values: Any) -> str:
        """Make a campaign with contacts and return its id."""
        agent_key = "admin" if key == "operator" else key
        agent_id = values.pop("agent_id", None) or await self.agent(agent_key)
        answer = await self.ask("POST", "/campaigns", key=key, json={"name": "c", "agent_id": agent_id, **values})
        assert answer.status == 201, answer
        campaign_id = str(answer.json["id"])
        if phones:
            body = {"contacts": [{"phone": phone} for phone in phones]}
            added = await self.ask("POST", f"/campaigns/{campaign_id}/contacts", key=key, json=body)
            assert added.json["added"] == len(phones), added
        return campaign_id

    async def dial(self, campaign_id: int) -> list[Call]:
        """Write a call for every pending contact of an active campaign to the journal, as the dispatcher does."""
        store = self.daemon.store
        async with store.read() as conn:
            pending = await contact_list.page(
                conn, campaign_id, contact_list.Filter(status=ContactStatus.PENDING), limit=1000
            )
        made = [self._call(each) for each in pending]
        steps = [
            Originating(
                call,
                replace(contact, status=ContactStatus.ORIGINATED, attempts=1),
                EventDraft(
                    EventKind.ORIGINATED,
                    campaign_id,
                    ContactStatus.ORIGINATED.value,
                    call.originated_at,
                    contact.id,
                    call.id,
                    phone_number=contact.phone_number,
                ),
            )
            for call, contact in zip(made, pending, strict=True)
        ]
        assert len(await store.record(steps, [])) == len(made)
        return made

    def _call(self, contact: Contact) -> Call:
        return Call(
            id=self.clock.uuid(),
            tenant="one",
            campaign_id=contact.campaign_id,
            contact_id=contact.id,
            attempt=1,
            pbx="main",
            trunk="a",
            agent_id=None,
            caller_id="+12025550199",
            phone_number=contact.phone_number,
            status=CallStatus.ORIGINATED,
            originated_at=self.clock.wall(),
        )

    def routes(self) -> tuple[AnyRoute, ...]:
        """Every route that is served."""
        api = self.daemon.api
        door = Doorkeeper(api.store, api.clock, api.metrics, api.limits.failed_logins_per_minute)
        streams = Streams(api.store, api.feed, api.metrics, api.clock, api.limits, api.tenants, door.forget)
        return all_routes(streams, door)

    def nobody(self) -> str:
        """An id that nothing has."""
        return show_id(self.clock.number())


def read_toml(text: str) -> Config:
    """Read a configuration file."""
    return parse(text, {}, Path("/etc/dialerd/dialerd.toml"), Path.read_text)


@contextlib.asynccontextmanager
async def open_house(
    template: Template,
    folder: Path,
    limits: Limits | None = None,
    *,
    fresh: bool = True,
    dials: bool = False,
    transport: Transport | None = None,
) -> AsyncIterator[House]:
    """Run a daemon on a copy of the template, or (``fresh`` false) on what the one before left; serve its API.

    ``dials``: its PBX is the simulated one, with callees in a hurry. ``transport``: instead of the house's endpoint.
    """
    toml = TOML.format(store=template.url(folder, fresh=fresh))
    config = read_toml(toml)
    endpoint = Endpoint()
    make = None if dials else lambda *_: SilentDriver()
    daemon = Daemon(config, SystemClock(), Metrics(), make, transport or endpoint)
    api = daemon.api if limits is None else replace(daemon.api, limits=limits)
    server = ApiServer(web_app(api), api.clock, api.metrics, unread_seconds=api.limits.drain_seconds)
    stop, up = asyncio.Event(), asyncio.Event()

    async def ready() -> None:
        await server.start("127.0.0.1", 0)
        up.set()

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(daemon.run(stop, ready=ready))
        await up.wait()
        try:
            async with aiohttp.ClientSession() as session:
                yield House(daemon, server, endpoint, session, template.keys, f"http://127.0.0.1:{server.port}", toml)
        finally:
            async with asyncio.timeout(DEADLINE):
                await server.stop(1)
            stop.set()
