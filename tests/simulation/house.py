"""The whole daemon minus its sockets, on virtual time, with a simulated PBX that outlives it."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

from dialerd.clock import Clock, VirtualClock, stream
from dialerd.config import Config, PbxConfig, parse
from dialerd.core.campaign import FINISHED
from dialerd.core.model import Agent, AgentKind, Call, CallStatus, Campaign, Contact
from dialerd.core.outcome import Outcome
from dialerd.core.settings import CampaignSettings
from dialerd.dispatch.requests import NewCampaign, Upload
from dialerd.pbx.driver import PbxDriver
from dialerd.pbx.simulated import SimulatedDriver, SimulatedPbx, SimulatedSettings
from dialerd.service import Daemon
from dialerd.store import agents, calls, campaigns, contact_list, events, sqlite_link
from dialerd.store.migrate import migrate
from dialerd.store.records import Event, EventKind
from dialerd.store.tx import Tx
from dialerd.telemetry.metrics import Metrics
from tests.simulation.disk import Disk
from tests.support.endpoint import Endpoint
from tests.support.stores import new_store

OPEN_ALL_DAY = {"calling_hours_start": "00:00", "calling_hours_end": "00:00"}

TOML = """
[store]
url = "{store}"
[dispatch]
drain_seconds = 600
[pbx.main]
driver = "simulated"
max_calls_per_second = {pbx_rate}
max_channels = {pbx_channels}
[trunk.a]
pbx = "main"
dial = "PJSIP/{{number}}@a"
max_calls_per_second = {rate}
max_channels = {channels}
caller_ids = ["+12025550199"]
{trunk_a}
[trunk.b]
pbx = "main"
dial = "PJSIP/{{number}}@b"
max_calls_per_second = {rate}
max_channels = {channels}
[tenant.one]
max_calls_per_second = {tenant_rate}
max_concurrent_calls = {tenant_slots}
trunks = ["a", "b"]
[tenant.two]
max_calls_per_second = {tenant_rate}
max_concurrent_calls = {tenant_slots}
trunks = ["a", "b"]
"""


_CAMPAIGN_ENDS = frozenset({EventKind.CAMPAIGN})
_CALL_ENDS = frozenset({EventKind.COMPLETED, EventKind.FAILED})


@dataclass(frozen=True)
class Size:
    """The limits of a house."""

    rate: float = 10.0
    channels: int = 20
    pbx_rate: float = 1000.0
    pbx_channels: int = 1000
    tenant_rate: float = 1000.0
    tenant_slots: int = 1000


@dataclass
class House:
    """A store, a PBX, and one daemon after another on them."""

    clock: VirtualClock
    folder: Path
    settings: SimulatedSettings = field(default_factory=SimulatedSettings)
    size: Size = Size()
    trunk_a: str = ""
    """More of the configuration of trunk a."""
    url: str = ""
    """Of the store; a SQLite file in the folder, if none is given."""

    endpoint: Endpoint = field(default_factory=Endpoint)
    """Where all webhooks lead."""

    def __post_init__(self) -> None:
        self.toml = TOML.format(
            store=self.url or f"sqlite:///{self.folder}/dialerd.db", trunk_a=self.trunk_a, **vars(self.size)
        )
        """The configuration file, as a daemon reads it at its start."""
        self.config = self.read()
        if self.url:
            migrate(self.url)
        else:
            new_store(self.folder / "dialerd.db")
        self._disk = Disk(self.clock, stream("house/disk"))
        self.pbx = SimulatedPbx(self.settings, self.clock)
        self.pbxs = {"main": self.pbx}
        """Every PBX that a daemon had a driver for."""
        self.daemon: Daemon

    def read(self) -> Config:
        """Read the configuration file."""
        return parse(self.toml, {}, self.folder / "x.toml", Path.read_text)

    @contextlib.asynccontextmanager
    async def running(self, hurry: asyncio.Event | None = None) -> AsyncIterator[Daemon]:
        """Run a daemon; it drains at the end of the block, until ``hurry`` is set at the latest."""
        stop, up = asyncio.Event(), asyncio.Event()

        async def ready() -> None:
            up.set()

        daemon = self.daemon = self._daemon()
        task = asyncio.create_task(daemon.run(stop, hurry=hurry, ready=ready))
        await self._started(task, up)
        try:
            yield daemon
        finally:
            stop.set()
            await task

    async def run_until_killed(self, seconds: float) -> None:
        """Run a daemon and kill it after so many seconds: nothing is drained, written or closed in order."""
        up = asyncio.Event()

        async def ready() -> None:
            up.set()

        daemon = self.daemon = self._daemon()
        task = asyncio.create_task(daemon.run(asyncio.Event(), ready=ready))
        await self._started(task, up)
        await self.clock.sleep(seconds)
        await daemon.store.crash()
        for driver in daemon.drivers.values():
            await driver.stop()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    def _daemon(self) -> Daemon:
        self.config = self.read()
        # In the loop's own thread: trips to another would be a third of what a test takes.
        with patch.object(sqlite_link, "connector", self._disk.connector):
            return Daemon(self.config, self.clock, Metrics(), self._driver, self.endpoint)

    def _driver(self, name: str, _pbx: PbxConfig, trunks: Mapping[str, str], clock: Clock) -> PbxDriver:
        if name not in self.pbxs:
            self.pbxs[name] = SimulatedPbx(self.settings, clock)
        return SimulatedDriver(name, self.pbxs[name], clock, trunks)

    @staticmethod
    async def _started(task: asyncio.Task[None], up: asyncio.Event) -> None:
        waiter = asyncio.ensure_future(up.wait())
        await asyncio.wait((task, waiter), return_when=asyncio.FIRST_COMPLETED)
        waiter.cancel()
        if task.done():
            task.result()

    async def agent(self, tenant: str = "one", kind: AgentKind = AgentKind.DIALPLAN) -> Agent:
        """Make an agent of a tenant."""
        place: dict[str, Any] = {"queue": "sales"} if kind is AgentKind.QUEUE else {"context": "c", "exten": "s"}
        made = Agent(self.clock.number(), tenant, f"{kind.value} {self.clock.number()}", kind, **place)

        async def save(tx: Tx) -> None:
            await agents.save(tx, made)

        await self.daemon.store.write(save)
        return made

    async def campaign(
        self,
        numbers: Sequence[str | Mapping[str, Any]],
        agent: Agent | None = None,
        *,
        start: bool = True,
        **settings: Any,
    ) -> Campaign:
        """Make a campaign with contacts, and start it."""
        agent = agent or await self.agent()
        tenant = self.daemon.api.tenants[agent.tenant]
        new = NewCampaign("a campaign", None, agent.id, CampaignSettings(**{**OPEN_ALL_DAY, **settings}))
        items = tuple({"phone": each} if isinstance(each, str) else dict(each) for each in numbers)
        made, report = await self.daemon.control.create(tenant, new, Upload("items", items=items))
        assert report is not None
        assert report.added == len(numbers), report
        if start:
            made, _ = await self.daemon.control.start(tenant.id, made.id)
        return made

    async def ended(self, campaign_id: int) -> None:
        """Wait until a campaign has ended and its calls too."""
        with self.daemon.feed.follow(campaign_id) as subscription:
            while awaited := await self._what_may_end(campaign_id):
                while not any(event.draft.kind in awaited for event in await subscription.next()):
                    pass

    async def _what_may_end(self, campaign_id: int) -> frozenset[EventKind]:
        """The events of which one must come before a campaign and its calls can be over; none: they are."""
        async with self.daemon.store.read() as conn:
            found = (await campaigns.get_many(conn, [campaign_id]))[campaign_id][0]
            stats = (await campaigns.stats(conn, [campaign_id]))[campaign_id]
        if found.status not in FINISHED:
            return _CAMPAIGN_ENDS
        return _CALL_ENDS if stats.in_flight else frozenset()

    async def contacts(self, campaign_id: int) -> list[Contact]:
        """All contacts of a campaign."""
        async with self.daemon.store.read() as conn:
            return await contact_list.page(conn, campaign_id, contact_list.Filter(), limit=100_000)

    async def calls(self, campaign_id: int) -> list[Call]:
        """All call attempts of a campaign."""
        async with self.daemon.store.read() as conn:
            return await calls.page(conn, campaign_id, limit=100_000, offset=0)

    async def events(self, campaign_id: int) -> list[Event]:
        """All committed events of a campaign."""
        async with self.daemon.store.read() as conn:
            return await events.after(conn, campaign_id, 0, 1_000_000)

    async def check_counters(self, campaign_id: int) -> None:
        """The counters kept with the transitions equal what a count over the list gives."""
        async with self.daemon.store.read() as conn:
            stats = (await campaigns.stats(conn, [campaign_id]))[campaign_id]
        listed, attempts = await self.contacts(campaign_id), await self.calls(campaign_id)
        placed = [each for each in attempts if (each.status, each.outcome) != (CallStatus.NOT_SENT, Outcome.CANCELLED)]
        assert {status: count for status, count in stats.contacts.items() if count} == Counter(
            contact.status for contact in listed
        )
        assert (stats.calls_placed, stats.attempts()) == (len(placed), len(attempts))
        assert {outcome: count for outcome, count in stats.outcomes.items() if count} == Counter(
            call.outcome for call in placed if call.outcome is not None
        )


def numbers(count: int, first: int = 0) -> list[str]:
    """Distinct, possible numbers."""
    return [f"+1202{5_000_000 + first + index:07d}" for index in range(count)]
