"""Plays a scenario: a daemon that is started again whenever it dies, a storm, the calm after it, and the verdict."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import hashlib
import math
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import SAWarning

from dialerd.core.campaign import FINISHED
from dialerd.core.model import Agent, AgentKind, Campaign, CampaignStatus, ContactStatus
from dialerd.core.settings import CampaignSettings
from dialerd.dispatch.errors import Rejected
from dialerd.dispatch.requests import NewCampaign, Upload
from dialerd.service import Daemon
from dialerd.store import agents, campaigns
from dialerd.store.errors import StoreError
from dialerd.store.schema import campaign_stats, contact, event, to_micros
from tests.simulation import books, verdict
from tests.simulation.case import Case
from tests.simulation.follower import Follower
from tests.simulation.scenario import Dice, Limit, List, Place, Scenario, drawn
from tests.simulation.storm import Change, Running, Storm
from tests.simulation.world import Gone, SimulatedClock, World
from tests.support.apart import apart
from tests.support.logs import silent_logs
from tests.support.virtual import run_virtual

CALM_SECONDS = 86_400.0
"""By then, every contact's way has ended."""
RESUMED_SECONDS = 90.0
"""Once all is well, nobody who is due waits for longer than this while no call is in flight."""
_LOOK_FIRST, _LOOK_LAST = 10.0, 3600.0
_LOOK_OFTEN = 10.0


@dataclass(frozen=True)
class Played:
    """What came of a scenario."""

    broken: list[str]
    log: str
    """All that was committed, and all that the far ends saw."""
    calls: int
    daemons: int
    virtual_seconds: float
    happened: dict[str, int]
    """How often each fault came to pass."""
    missed: set[str]
    """The faults that did not, of all that may."""

    @property
    def digest(self) -> str:
        """The log in short."""
        return hashlib.sha256(self.log.encode()).hexdigest()[:16]


def play(seed: int, contacts: int) -> Played:
    """Play a seed's scenario to its end."""
    scenario = drawn(f"{seed}/{contacts}", contacts)
    with TemporaryDirectory(prefix="dialerd-simulation-") as folder, silent_logs(), left_to_the_collector():
        return run_virtual(
            seed, lambda clock: _play(clock, scenario, Path(folder)), longest=None, clock_type=SimulatedClock
        )


@contextlib.contextmanager
def left_to_the_collector() -> Iterator[None]:
    """A daemon that dies lets fall what it holds, its connections too: they are collected within this.

    What was there before is left out of it: a test run holds half a million objects.
    """
    gc.freeze()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The garbage collector is trying to clean up", SAWarning)
        try:
            yield
        finally:
            gc.collect()


async def _play(clock: Any, scenario: Scenario, folder: Path) -> Played:
    world = World(clock, folder, scenario.seed, scenario.toml, scenario.callees)
    game = Game(world, scenario)
    with world.existing():
        return await game.run()


class Game:
    """One scenario on a world, from its campaigns to the verdict; another may follow on the same world."""

    def __init__(self, world: World, scenario: Scenario, *, judge_apart: bool = False) -> None:
        """``judge_apart``: in a process of its own, without a log, so that the tables of it leave nothing behind."""
        self._world = world
        self._scenario = scenario
        self._judge_apart = judge_apart
        self._dice = Dice(f"{scenario.seed}/game")
        self._over = False
        self._stop = asyncio.Event()
        self._campaigns: list[Running] = []
        self._followers: dict[int, Follower] = {}
        self._following: list[asyncio.Task[None]] = []

    async def run(self) -> Played:
        world, clock = self._world, self._world.clock
        world.disk.commit_seconds = self._scenario.commit_seconds
        keeping = world.spawn(self._keep_running())
        await self._begin()
        storm = Storm(world, self._scenario, self._campaigns, self._restart)
        await storm.run()
        watching = world.spawn(self._watch())
        try:
            async with asyncio.timeout(CALM_SECONDS):
                await self._calm()
            late: list[str] = []
        except TimeoutError:
            late = [f"everything_ends: not within {CALM_SECONDS:g} s of calm", *await self._why()]
        world.disarm()  # of a calm that did not end, too
        watching.cancel()
        self._over = True
        self._stop.set()
        await keeping
        for following in self._following:
            following.cancel()
        judge = functools.partial(self._judge, storm)
        broken, calls, log = apart(judge) if self._judge_apart else judge()
        happened = storm.happened + Counter({f"died at {step}": count for step, count in world.died_at.items()})
        missed = storm.kinds() - happened.keys()
        return Played(late + broken, log, calls, world.generation, clock.mono(), dict(happened), missed)

    def _judge(self, storm: Storm) -> tuple[list[str], int, str]:
        """What was broken, how many calls there were, and the log."""
        kept = books.read(self._world.folder / "dialerd.db")
        followed = {campaign_id: follower.heard for campaign_id, follower in self._followers.items()}
        case = Case(self._world, self._scenario, self._campaigns, storm, kept, followed)
        log = "" if self._judge_apart else "\n".join([kept.log(), *(f"{entry}" for entry in case.entries)])
        return verdict.broken(case), len(case.entries), log

    # -- the daemon -----------------------------------------------------------------------------------------------

    async def _keep_running(self) -> None:
        """What an init system does: start it again."""
        while not self._over:
            self._stop.clear()
            await self._world.live(self._stop)
            if not self._over:
                await self._world.clock.sleep(self._dice.between(*self._scenario.away_seconds))

    def _restart(self) -> None:
        self._stop.set()

    async def _begin(self) -> None:
        daemon = await self._world.alive()
        made = [await self._agent(daemon, place) for place in self._scenario.places]
        for each in self._scenario.lists:
            created = await self._campaign(daemon, made[each.place], each)
            self._followers[created.id] = follower = Follower(self._world, created.id)
            self._following.append(self._world.spawn(follower.run()))
            await daemon.control.start(created.tenant, created.id)

    async def _agent(self, daemon: Daemon, place: Place) -> Agent:
        where: dict[str, Any] = {"queue": "sales"} if place.kind is AgentKind.QUEUE else {"context": "c", "exten": "s"}
        number = self._world.clock.number()
        made = Agent(number, place.tenant, f"agent {number}", place.kind, place.slots, **where)
        await daemon.store.write(lambda tx: agents.save(tx, made))
        daemon.control.agent_changed(made)
        return made

    async def _campaign(self, daemon: Daemon, agent: Agent, wanted: List) -> Campaign:
        settings = CampaignSettings(**wanted.settings)
        items = tuple({"phone": number} for number in wanted.numbers)
        tenant = daemon.api.tenants[agent.tenant]
        new = NewCampaign("a campaign", None, agent.id, settings)
        created, report = await daemon.control.create(tenant, new, Upload("items", items=items))
        assert report is not None
        assert report.added == len(wanted.numbers)
        limit = Limit(settings.concurrent_calls, settings.max_calls_per_second)
        self._campaigns.append(Running(created, list(wanted.numbers), [Change(limit, 0.0, 0.0, stands=True)]))
        return created

    # -- the calm -------------------------------------------------------------------------------------------------

    async def _calm(self) -> None:
        """Resume what was paused, and wait until every way has ended and everybody has heard of it."""
        pause = _LOOK_FIRST
        while True:
            try:
                if await self._world.ask(self._all_ended(await self._world.alive())):
                    break
            except (Gone, StoreError, Rejected):
                pass
            await self._world.clock.sleep(pause)
            pause = min(_LOOK_LAST, pause * 1.5)
        # A death that was wished for, and not met, would come into the midst of what is only looked up.
        self._world.disarm()
        daemon = await self._world.alive()
        async with daemon.store.read() as conn:
            lasts = {
                campaign_id: await conn.scalar(
                    sa.select(sa.func.max(event.c.seq)).where(event.c.campaign_id == campaign_id)
                )
                for campaign_id in self._followers
            }
        for campaign_id, follower in self._followers.items():
            await follower.reached(lasts[campaign_id] or 0)
        self._world.faults += _left_over(daemon)

    async def _watch(self) -> None:
        """Where people are due and no call is in flight, somebody is called before long: all slots are free then."""
        clock, since, sent = self._world.clock, math.inf, 0
        while True:
            await clock.sleep(_LOOK_OFTEN)
            daemon = self._world.answering
            idle = daemon is not None and not len(daemon.dispatcher.calls) and len(self._world.sent) == sent
            sent = len(self._world.sent)
            due = 0
            if daemon is not None and idle:
                with contextlib.suppress(Gone, StoreError):
                    due = await self._world.ask(self._due(daemon))
            since = min(since, clock.mono()) if due else math.inf
            if clock.mono() - since > RESUMED_SECONDS:
                self._world.faults += [f"nobody was called since {since:.0f}, and {due} are due", *await self._why()]
                return

    async def _due(self, daemon: Daemon) -> int:
        """How many contacts could be called, for all that their campaigns say."""
        wall = self._world.clock.wall()
        async with daemon.store.read() as conn:
            found = await campaigns.get_many(conn, [each.campaign.id for each in self._campaigns])
            calling = [
                each.id for each, _ in found.values() if each.status is CampaignStatus.ACTIVE and _open(each, wall)
            ]
            pending = sa.and_(contact.c.campaign_id.in_(calling), contact.c.status == ContactStatus.PENDING.value)
            due = sa.select(sa.func.count()).where(pending, contact.c.due_at <= to_micros(wall))
            return (await conn.scalar(due)) or 0

    async def _why(self) -> list[str]:
        """What the daemon says of each campaign that goes on: why it dials, or does not, and what is left of it."""
        daemon = self._world.answering
        if daemon is None:
            return ["nobody answers"]
        told = []
        async with daemon.store.read() as conn:
            found = await campaigns.get_many(conn, [each.campaign.id for each in self._campaigns])
            for each, _ in found.values():
                if each.status not in FINISHED:
                    why, counts = await daemon.api.explanations.campaign(conn, each)
                    told.append(f"campaign {each.id} is {each.status.value}: {why.summary}; {counts}")
        return told

    async def _all_ended(self, daemon: Daemon) -> bool:
        async with daemon.store.read() as conn:
            found = await campaigns.get_many(conn, [each.campaign.id for each in self._campaigns])
            stats = await conn.execute(
                sa.select(campaign_stats.c.pending + campaign_stats.c.originated + campaign_stats.c.connected)
            )
            waiting = sum(stats.scalars())
        over = True
        for each, _ in found.values():
            if each.status is CampaignStatus.PAUSED:
                await daemon.control.resume(each.tenant, each.id)
                over = False
            over = over and each.status in FINISHED
        return over and not waiting and not len(daemon.dispatcher.calls)


def _open(campaign: Campaign, wall: datetime) -> bool:
    opens, closes, at = campaign.settings.opens(), campaign.settings.closes(), wall.time()
    return opens == closes or (opens <= at < closes if opens < closes else at >= opens or at < closes)


def _left_over(daemon: Daemon) -> list[str]:
    """What a daemon at rest still holds for calls that have ended."""
    held = [f"{key} holds {capacity.used}" for key, capacity in daemon.dispatcher.limits() if capacity.used]
    if len(daemon.dispatcher.calls):
        held.append(f"{len(daemon.dispatcher.calls)} calls are followed")
    if daemon.dispatcher.hopper.held():
        held.append(f"the hopper holds {daemon.dispatcher.hopper.held()} contacts")
    return held
