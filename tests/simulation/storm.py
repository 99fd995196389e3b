"""What befalls a simulated world: faults of process, PBX, link, disk and clock, and what people do in between."""

from __future__ import annotations

import contextlib
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from dialerd.core.model import Campaign, Tenant
from dialerd.dispatch.errors import Rejected
from dialerd.dispatch.receipts import LISTING_LAG
from dialerd.dispatch.requests import NewCallback, Upload
from dialerd.pbx.callees import Behaviour
from dialerd.pbx.simulated import SimulatedPbx
from dialerd.service import Daemon
from dialerd.store import callbacks, contacts
from dialerd.store.errors import StoreError
from tests.simulation.disk import BROKEN, BUSY_SECONDS, FULL, LOCKED
from tests.simulation.scenario import PBX_OF, Dice, Limit, Scenario
from tests.simulation.world import Gone, World

ANY = "any"
STEPS = (
    *("send", "receipt", "event", "hangup", "live", "kept"),
    *("BEGIN IMMEDIATE", "BEGIN", "INSERT", "UPDATE", "commit", "durable", ANY),
)
"""Where a daemon may be told to die: at the steps of its drivers, and at those of its disk."""
JOURNAL_PAUSE = 1.5
"""Seconds after which a commit that failed is tried again, at the most."""
LATEST_EVENT = 40.0
"""Seconds by which an event comes late at the most."""
TRUNKS = {name: f"PJSIP/{{number}}@{name}" for name in PBX_OF}


@dataclass(slots=True)
class Span:
    """Since when (monotonic) something was confirmed, and until when it held for sure."""

    since: float
    until: float = float("inf")
    due: datetime | None = None


@dataclass(slots=True)
class Change:
    """Another limit that somebody asked for."""

    limit: Limit
    asked: float
    over: float = float("inf")
    """When it was answered, or its daemon was gone: it was committed before that, or never."""
    stands: bool = False
    """It was confirmed."""


@dataclass(slots=True)
class Running:
    """A campaign, and what people have done to it."""

    campaign: Campaign
    numbers: list[str]
    limits: list[Change]
    """Its own limits."""
    quiet: list[Span] = field(default_factory=list)
    """When it was paused or stopped for sure."""


class Nobody(Exception):
    """There is nobody to whom this could happen now."""


class Storm:
    """Lets faults happen until it is over, and then heals the world."""

    def __init__(self, world: World, scenario: Scenario, campaigns: list[Running], restart: Callable[[], None]) -> None:
        self._world = world
        self._clock = world.clock
        self._scenario = scenario
        self._campaigns = campaigns
        self._restart = restart
        self._dice = Dice(f"{scenario.seed}/storm")
        self._fresh = 9_000_000
        self.listed: defaultdict[str, list[Span]] = defaultdict(list)
        """When each number was on the do-not-call list for sure."""
        self.promised: defaultdict[str, list[Span]] = defaultdict(list)
        """When each number was promised a callback for sure, and for when."""
        self.jumps: list[float] = []
        self.untrue: defaultdict[str, list[Span]] = defaultdict(list)
        """When each PBX told its events late, by half or not at all, without its link being lost."""
        self.disk_trouble: list[Span] = []
        """When commits took long, or failed."""
        self.happened: Counter[str] = Counter()
        """How often each fault came to pass."""
        self._faults: list[tuple[Callable[[], Awaitable[None]], float]] = [
            (self._kill, 2),
            (self._kill_at_a_step, 4),
            (self._stop_in_order, 0.7),
            (self._cut, 2),
            (self._hold, 2),
            (self._reboot_pbx, 0.7),
            (self._refuse_login, 0.5),
            (self._close_pbx, 0.7),
            (self._lie, 2),
            (self._answer_late, 1),
            (self._make_channels_late, 2),
            (self._take_trunk_down, 0.7),
            (self._sicken, 0.5),
            (self._slow_disk, 2),
            (self._fail_disk, 2),
            (self._jump, 1),
            (self._pause, 1),
            (self._stop_campaign, 0.15),
            (self._promise, 2),
            (self._withdraw, 1),
            (self._exclude, 2),
            (self._exclude_at_the_last_moment, 1),
            (self._include, 1),
            (self._change, 1.5),
            (self._cancel_contact, 0.7),
            (self._add, 0.7),
        ]

    async def run(self) -> None:
        """Let it storm for as long as the scenario says."""
        end = self._clock.mono() + self._scenario.storm_seconds
        whole = sum(weight for _, weight in self._faults)
        while self._clock.mono() < end:
            await self._clock.sleep(self._dice.between(0.0, 2 * self._scenario.calm))
            point = self._dice.draw() * whole
            for fault, weight in self._faults:  # noqa: B007 - the one at the point is wanted
                point -= weight
                if point < 0:
                    break
            self._world.spawn(self._guarded(fault))
        # What is under way ends within this, whatever it is.
        await self._clock.sleep(120.0)
        self.heal()

    def heal(self) -> None:
        """Let everything work again."""
        for pbx in self._world.pbxs.values():
            pbx.settings = self._scenario.callees
            pbx.answer_delay = pbx.channel_delay = None
            pbx.overlooks_share = 0.0
            pbx.restore_link()
            pbx.resume_link()
            pbx.refuse_login(None)
            pbx.close(None)
            if not pbx.running:
                pbx.boot()
            for dial in TRUNKS.values():
                pbx.make_ill(dial, None)
        for name, dial in TRUNKS.items():
            self._world.pbxs[PBX_OF[name]].bring_up(dial)
        disk = self._world.disk
        disk.trouble, disk.commit_seconds, disk.read_seconds = None, self._scenario.commit_seconds, (0.0, 0.0)

    async def _guarded(self, fault: Callable[[], Awaitable[None]]) -> None:
        # Refused, or nobody was there to ask: whether it came to pass, the store tells.
        with contextlib.suppress(Rejected, StoreError, Gone, Nobody):
            await fault()
            self.happened[_name_of(fault)] += 1

    def kinds(self) -> set[str]:
        """The names of all faults that may happen."""
        return {_name_of(fault) for fault, _ in self._faults} | {f"died at {step}" for step in STEPS if step != ANY}

    @contextlib.contextmanager
    def _noted(self, spans: list[Span], after: float = 0.0) -> Iterator[None]:
        """Note when this block runs, and for how long after it what it did may still show."""
        span = Span(self._clock.mono())
        spans.append(span)
        yield
        span.until = self._clock.mono() + after

    # -- the process ----------------------------------------------------------------------------------------------

    async def _kill(self) -> None:
        self._world.die()

    async def _kill_at_a_step(self) -> None:
        self._world.die_at(self._dice.one(STEPS), self._dice.whole(1, 25))

    async def _stop_in_order(self) -> None:
        self._restart()

    # -- the PBX and its link -------------------------------------------------------------------------------------

    def _pbx(self) -> SimulatedPbx:
        return self._world.pbxs[self._name()]

    def _name(self) -> str:
        return self._dice.one(tuple(self._world.pbxs))

    async def _cut(self) -> None:
        pbx = self._pbx()
        pbx.cut_link()
        await self._clock.sleep(self._dice.between(0.0, 20.0))
        pbx.restore_link()

    async def _hold(self) -> None:
        name = self._name()
        pbx = self._world.pbxs[name]
        pbx.hold_link()
        with self._noted(self.untrue[name]):
            await self._clock.sleep(self._dice.one((0.5, 3.0, 4.9, 8.0, 20.0)))
        pbx.resume_link()

    async def _reboot_pbx(self) -> None:
        pbx = self._pbx()
        pbx.kill()
        await self._clock.sleep(self._dice.between(0.0, 30.0))
        if not pbx.running:
            pbx.boot()

    async def _refuse_login(self) -> None:
        pbx = self._pbx()
        pbx.refuse_login("Authentication failed")
        pbx.cut_link()
        pbx.restore_link()
        await self._clock.sleep(self._dice.between(1.0, 20.0))
        pbx.refuse_login(None)

    async def _close_pbx(self) -> None:
        pbx = self._pbx()
        pbx.close("it is shutting down")
        await self._clock.sleep(self._dice.between(1.0, 10.0))
        pbx.close(None)

    async def _lie(self) -> None:
        """Events are lost, late, out of order and told twice; receipts never come; a listing overlooks a channel."""
        name = self._name()
        pbx = self._world.pbxs[name]
        pbx.settings = replace(
            self._scenario.callees,
            originate_in_doubt_share=self._dice.one((0.0, 0.1, 0.3)),
            lost_event_share=self._dice.one((0.0, 0.1, 0.4)),
            duplicate_event_share=self._dice.one((0.0, 0.3)),
            late_event_share=self._dice.one((0.0, 0.2, 0.5)),
            late_event_seconds=(0.0, self._dice.one((0.5, 5.0, LATEST_EVENT))),
        )
        pbx.overlooks_share = self._dice.one((0.0, 0.3))
        with self._noted(self.untrue[name], LATEST_EVENT):
            await self._clock.sleep(self._dice.between(2.0, 30.0))
        pbx.settings = self._scenario.callees
        pbx.overlooks_share = 0.0

    async def _answer_late(self) -> None:
        pbx = self._pbx()
        pbx.answer_delay = (0.0, self._dice.one((1.0, 6.0, 15.0)))
        await self._clock.sleep(self._dice.between(2.0, 20.0))
        pbx.answer_delay = None

    async def _make_channels_late(self) -> None:
        """So late that listings give calls up, where its link is lost meanwhile: their channels come all the same."""
        pbx = self._pbx()
        longest = self._dice.one((0.3, 0.9, 6.0, 15.0))
        pbx.channel_delay = (0.0, longest)
        await self._clock.sleep(self._dice.between(2.0, 15.0))
        if longest > LISTING_LAG:
            pbx.cut_link()
            pbx.restore_link()
        pbx.channel_delay = None

    async def _take_trunk_down(self) -> None:
        name = self._dice.one(tuple(PBX_OF))
        pbx = self._world.pbxs[PBX_OF[name]]
        pbx.take_down(TRUNKS[name])
        await self._clock.sleep(self._dice.between(1.0, 30.0))
        pbx.bring_up(TRUNKS[name])

    async def _sicken(self) -> None:
        name = self._dice.one(tuple(PBX_OF))
        pbx = self._world.pbxs[PBX_OF[name]]
        pbx.make_ill(TRUNKS[name], self._dice.one((Behaviour.CONGESTION, Behaviour.FORBIDDEN, Behaviour.SILENCE)))
        await self._clock.sleep(self._dice.between(1.0, 30.0))
        pbx.make_ill(TRUNKS[name], None)

    # -- the disk and the clock -----------------------------------------------------------------------------------

    async def _slow_disk(self) -> None:
        disk = self._world.disk
        slow = self._dice.one((0.2, 1.0, 4.0))
        disk.commit_seconds, disk.read_seconds = (0.0, slow), (0.0, slow / 4)
        with self._noted(self.disk_trouble, 2 * slow):
            await self._clock.sleep(self._dice.between(2.0, 20.0))
        disk.commit_seconds, disk.read_seconds = self._scenario.commit_seconds, (0.0, 0.0)

    async def _fail_disk(self) -> None:
        disk = self._world.disk
        disk.trouble = self._dice.one((LOCKED, FULL, BROKEN))
        with self._noted(self.disk_trouble, BUSY_SECONDS + JOURNAL_PAUSE):
            await self._clock.sleep(self._dice.between(0.1, 15.0))
        disk.trouble = None

    async def _jump(self) -> None:
        self.jumps.append(self._clock.mono())
        seconds = self._dice.one((1.0, 5.0, 60.0, 3700.0)) * self._dice.one((-1, 1))
        self._clock.jump(timedelta(seconds=seconds))

    # -- people ---------------------------------------------------------------------------------------------------

    def _anybody(self) -> tuple[Daemon, Running, Tenant]:
        """A campaign, and the daemon and tenant to speak to. Raises Gone where no daemon answers."""
        running = self._dice.one(self._campaigns)
        daemon = self._world.answering
        if daemon is None:
            raise Gone
        return daemon, running, daemon.api.tenants[running.campaign.tenant]

    async def _pause(self) -> None:
        daemon, running, tenant = self._anybody()
        await self._world.ask(daemon.control.pause(tenant.id, running.campaign.id))
        quiet = Span(self._clock.mono())
        running.quiet.append(quiet)
        await self._clock.sleep(self._dice.between(0.0, 30.0))
        quiet.until = self._clock.mono()
        daemon = await self._world.alive()
        await self._world.ask(daemon.control.resume(tenant.id, running.campaign.id))

    async def _stop_campaign(self) -> None:
        daemon, running, tenant = self._anybody()
        hangup = self._dice.chance(0.5)
        await self._world.ask(daemon.control.stop(tenant.id, running.campaign.id, hangup=hangup))
        running.quiet.append(Span(self._clock.mono()))

    async def _promise(self) -> None:
        daemon, running, tenant = self._anybody()
        number = self._dice.one(running.numbers)
        due = self._clock.wall() + timedelta(seconds=self._dice.between(0.0, 120.0))
        self._unpromise(number)
        new = NewCallback(due, phone_number=number)
        await self._world.ask(daemon.api.callbacks.promise(tenant, running.campaign.id, new))
        self._unpromise(number)
        self.promised[number].append(Span(self._clock.mono(), due=due))

    async def _withdraw(self) -> None:
        kept = [number for number, spans in self.promised.items() if spans]
        if not kept:
            raise Nobody
        number = self._dice.one(kept)
        daemon, _, _ = self._anybody()
        running = next(each for each in self._campaigns if number in each.numbers)
        tenant = daemon.api.tenants[running.campaign.tenant]
        found = [each for each in await self._world.ask(self._callbacks(daemon, running)) if each[1] == number]
        self._unpromise(number)
        for callback_id, _ in found:
            await self._world.ask(daemon.api.callbacks.withdraw(tenant, running.campaign.id, callback_id))

    @staticmethod
    async def _callbacks(daemon: Daemon, running: Running) -> list[tuple[int, str]]:
        async with daemon.store.read() as conn:
            found, _ = await callbacks.page(conn, running.campaign.id, limit=1000, offset=0)
        return [(each.id, each.phone_number) for each in found]

    def _unpromise(self, number: str) -> None:
        for span in self.promised[number]:
            span.until = min(span.until, self._clock.mono())

    async def _exclude(self) -> None:
        daemon, running, _ = self._anybody()
        await self._list(daemon, running.campaign.tenant, self._dice.one(running.numbers))

    async def _exclude_at_the_last_moment(self) -> None:
        """Somebody whose call is committed, and whose order has not left yet."""
        patience = self._clock.mono() + 3.0
        while self._clock.mono() < patience:
            daemon, running, _ = self._anybody()
            for live in daemon.dispatcher.calls.of_campaign(running.campaign.id):
                if live.sent_at is None:
                    await self._list(daemon, live.call.tenant, live.call.phone_number)
                    return
            await self._clock.sleep(self._dice.between(0.0, 0.02))
        raise Nobody

    async def _list(self, daemon: Daemon, tenant: str, number: str) -> None:
        await self._world.ask(daemon.api.exclusions.add(daemon.api.tenants[tenant], number, None))
        self.listed[number].append(Span(self._clock.mono()))

    async def _include(self) -> None:
        listed = [number for number, spans in self.listed.items() if spans]
        if not listed:
            raise Nobody
        number = self._dice.one(listed)
        daemon, _, _ = self._anybody()
        running = next(each for each in self._campaigns if number in each.numbers)
        for span in self.listed[number]:
            span.until = min(span.until, self._clock.mono())
        tenant = daemon.api.tenants[running.campaign.tenant]
        await self._world.ask(daemon.api.exclusions.remove(tenant, number))

    async def _change(self) -> None:
        daemon, running, tenant = self._anybody()
        slots, rate = self._dice.whole(*self._scenario.changed_slots), self._dice.one(self._scenario.changed_rates)
        change = Change(Limit(slots, rate), self._clock.mono())
        running.limits.append(change)

        def revise(found: Campaign) -> Campaign:
            limits: dict[str, Any] = {"concurrent_calls": slots, "max_calls_per_second": rate}
            return replace(found, settings=found.settings.model_copy(update=limits))

        try:
            await self._world.ask(daemon.control.change(tenant, running.campaign.id, revise))
            change.stands = True
        finally:
            change.over = self._clock.mono()

    async def _cancel_contact(self) -> None:
        daemon, running, tenant = self._anybody()
        number = self._dice.one(running.numbers)
        found = await self._world.ask(self._contact(daemon, running, number))
        if found is None:
            raise Nobody
        await self._world.ask(daemon.control.cancel_contact(tenant.id, running.campaign.id, found))

    @staticmethod
    async def _contact(daemon: Daemon, running: Running, number: str) -> int | None:
        async with daemon.store.read() as conn:
            found = await contacts.by_number(conn, running.campaign.id, number)
        return None if found is None else found.id

    async def _add(self) -> None:
        daemon, running, tenant = self._anybody()
        count = self._dice.whole(1, 10)
        fresh = [f"+1202{self._fresh + index:07d}" for index in range(count)]
        self._fresh += count
        running.numbers.extend(fresh)
        upload = Upload("items", items=tuple({"phone": number} for number in fresh))
        await self._world.ask(daemon.control.add_contacts(tenant, running.campaign.id, upload))


def _name_of(fault: Callable[[], Awaitable[None]]) -> str:
    return fault.__name__.lstrip("_")
