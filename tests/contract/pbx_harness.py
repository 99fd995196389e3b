"""What the contract suite needs of a PBX under test: drivers, orders, a link to cut, a far end to count at."""

from __future__ import annotations

import asyncio
import functools
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

from dialerd.clock import Clock, SystemClock, VirtualClock
from dialerd.pbx.asterisk import AsteriskDriver, AsteriskSettings
from dialerd.pbx.driver import Accepted, Dialling, Ended, LinkLost, LinkUp, Originate, PbxDriver, Place
from dialerd.pbx.simulated import SimulatedDriver, SimulatedPbx, SimulatedSettings
from tests.fakes.proxy import Proxy
from tests.lab.lab import DIALERD, Lab
from tests.support.recorder import Recorder
from tests.support.virtual import run_virtual

SETUP_SECONDS = 4.0
"""The order's own limit on waiting for an answer: short, for the sake of real time."""
SOON = 15.0
"""Deadline in seconds for what should happen at once, on a busy machine."""
PING_DEADLINE = 5.0
"""As in production. A link that is given up because this machine stood still takes with it what a call's end told."""


@dataclass(frozen=True, slots=True)
class Traits:
    """What the events of a PBX do not tell; everything else is asked of every PBX alike."""

    tells_sip_status: bool = True
    keeps_results: bool = True
    """It keeps what became of answered calls."""
    freeswitch_causes: bool = False
    """It maps SIP statuses to causes by its own table, not as RFC 3398 does."""


class Rig(ABC):
    """One PBX under test, inside a running event loop."""

    traits = Traits()
    receipt_deadline = 5.0
    """How long a driver of this rig waits for the PBX's answer, in seconds."""
    at_once = 30
    """Calls that the PBX takes in one second."""
    hold = Place(context="dialer", exten="hold")
    queue = Place(context="dialer", exten="queue")
    unknown_place = Place(context="no-such-context", exten="s")

    def __init__(self, clock: Clock, batch: int) -> None:
        self.clock = clock
        self.recorders: list[Recorder] = []
        self._numbers: dict[str, str] = {}
        self._batch = batch
        self._drivers: list[PbxDriver] = []

    # The PBX.

    @abstractmethod
    def make_driver(self, *, admitted: bool) -> PbxDriver:
        """Make a driver; one that is not ``admitted`` has its login refused."""

    @abstractmethod
    async def cut_link(self) -> None:
        """Cut the link, and let none through."""

    @abstractmethod
    async def cut_link_inside_message(self) -> None:
        """Cut the link in the middle of what the PBX says next, and let none through."""

    @abstractmethod
    async def hold_link(self) -> None:
        """Let nothing through, but do not end the link."""

    @abstractmethod
    async def resume_link(self) -> None:
        """Let through what was held."""

    @abstractmethod
    async def restore_link(self) -> None:
        """Let drivers connect again."""

    @abstractmethod
    async def kill_pbx(self) -> None:
        """Let the PBX die at once."""

    @abstractmethod
    async def boot_pbx(self) -> None:
        """Start the PBX again."""

    @abstractmethod
    async def far_end_count(self, call_id: str) -> int:
        """Count the calls of this id that reached the far end."""

    @abstractmethod
    async def far_end_over(self, call_id: str) -> bool:
        """Whether the far end saw the call's end."""

    # What all rigs share.

    def order(
        self, suffix: str, *, trunk: str = "trunk", place: Place | None = None, hands_over: bool = False, **more: Any
    ) -> Originate:
        """Make an order for a number of its own, whose last two digits choose the far end's behaviour."""
        call_id = self.clock.uuid()
        number = f"1202{self._batch:03d}{len(self._numbers):03d}{suffix}"
        self._numbers[call_id] = number
        order = Originate(
            call_id=call_id,
            dial=self.dial(number, trunk),
            caller_id="+12025550199",
            place=place or self.hold,
            setup_seconds=SETUP_SECONDS,
            max_call_seconds=60,
            variables={"DIALERD_CALL_ID": call_id},
            hands_over=hands_over,
        )
        return replace(order, **more)

    def dial(self, number: str, trunk: str) -> str:
        """Write the dial string of a number through one of the trunks: trunk, dead, nocontact."""
        return f"PJSIP/{number}@{trunk}"

    def number_of(self, call_id: str) -> str:
        """The number of a call that was ordered here."""
        return self._numbers[call_id]

    async def start(self, *, admitted: bool = True) -> tuple[PbxDriver, Recorder]:
        """Start a new driver, and return it at once."""
        driver, recorder = self.make_driver(admitted=admitted), Recorder()
        self._drivers.append(driver)
        self.recorders.append(recorder)
        await driver.start(recorder)
        return driver, recorder

    async def up(self) -> tuple[PbxDriver, Recorder]:
        """Start a new driver, and wait until its link is up."""
        driver, recorder = await self.start()
        await recorder.link(LinkUp, SOON)
        return driver, recorder

    async def place(self, driver: PbxDriver, recorder: Recorder, order: Originate) -> str:
        """Place an order, wait until its channel exists, and return the call's id."""
        receipt = await driver.originate(order)
        assert receipt == Accepted(), f"{receipt} for {order.dial}"
        await recorder.heard(Dialling, order.call_id, SOON)
        return order.call_id

    async def eventually(self, what: str, question: Callable[[], Awaitable[bool]], deadline: float = SOON) -> None:
        """Ask until the answer is yes. Raises AssertionError after the deadline (seconds)."""
        end = self.clock.mono() + deadline
        while not await question():
            assert self.clock.mono() < end, f"not within {deadline:g} s: {what}"
            await self.clock.sleep(0.05)

    async def wait_far_end_over(self, call_id: str) -> None:
        """Wait until the far end saw a call's end."""
        await self.eventually("the far end's end", lambda: self.far_end_over(call_id))

    async def wait_listed(self, driver: PbxDriver, expected: set[str]) -> None:
        """Wait until exactly these calls are listed as live: listings may lag."""

        async def listed() -> bool:
            return {channel.call_id for channel in await driver.live()} == expected

        await self.eventually(f"live() lists {sorted(expected)}", listed)

    async def situation(self) -> str:
        """What drivers and PBX say now, for whoever has to find out why a scenario failed."""
        told = []
        for driver, recorder in zip(self._drivers, self.recorders, strict=True):
            try:
                listed: object = await driver.live()
            except LinkLost as error:
                listed = f"not listed: {error}"
            counters = getattr(driver, "counters", {})
            told.append(f"link {driver.state} ({driver.reason}); {counters}; live: {listed}; told:\n{recorder}")
        return "\n".join(told)

    async def close(self) -> None:
        """Hang up what is still up, and stop every driver."""
        for driver, recorder in zip(self._drivers, self.recorders, strict=True):
            try:
                if driver.state == "up":
                    for call_id in self._numbers:
                        if await driver.hangup(call_id) and recorder.of(call_id):
                            await recorder.heard(Ended, call_id, SOON)
            except LinkLost:
                pass  # the scenario took the link along
            finally:
                await driver.stop()


Scenario = Callable[[Rig], Coroutine[Any, Any, None]]


class Harness(ABC):
    """A kind of PBX, and how a scenario is run on it."""

    @abstractmethod
    def run(self, scenario: Scenario) -> None:
        """Run a scenario on a rig of its own."""


def contract(scenario: Scenario) -> Callable[[Harness], None]:
    """Make a test of a scenario: it runs once on every kind of PBX."""

    def test(harness: Harness) -> None:
        harness.run(scenario)

    functools.update_wrapper(test, scenario)
    del test.__wrapped__  # type: ignore[attr-defined]  # pytest would look through it for fixtures
    return test


class SimulatedRig(Rig):
    """The simulated PBX, on virtual time."""

    def __init__(self, clock: Clock, seed: int) -> None:
        super().__init__(clock, batch=0)
        self.settings = SimulatedSettings(
            by_number=True, contexts=frozenset({"dialer"}), deadline_seconds=self.receipt_deadline, seed=seed
        )
        self.pbx = SimulatedPbx(self.settings, clock)

    def make_driver(self, *, admitted: bool) -> PbxDriver:
        self.pbx.refuse_login(None if admitted else "wrong password")
        return SimulatedDriver("simulated", self.pbx, self.clock)

    async def cut_link(self) -> None:
        self.pbx.cut_link()

    async def cut_link_inside_message(self) -> None:
        self.pbx.cut_link("the link was cut inside a message")

    async def hold_link(self) -> None:
        self.pbx.hold_link()

    async def resume_link(self) -> None:
        self.pbx.resume_link()

    async def restore_link(self) -> None:
        self.pbx.restore_link()

    async def kill_pbx(self) -> None:
        self.pbx.kill()

    async def boot_pbx(self) -> None:
        self.pbx.boot()

    async def far_end_count(self, call_id: str) -> int:
        return self.pbx.ledger.reached(call_id)

    async def far_end_over(self, call_id: str) -> bool:
        entries = [entry for entry in self.pbx.ledger.entries if entry.call_id == call_id]
        return bool(entries) and all(entry.ended is not None for entry in entries)


class SimulatedHarness(Harness):
    """Runs scenarios on the simulated PBX with several seeds."""

    seeds = range(1, 6)

    def run(self, scenario: Scenario) -> None:
        for seed in self.seeds:
            run_virtual(seed, lambda clock, seed=seed: play(scenario, _simulated(clock, seed)))  # type: ignore[misc]


class AsteriskRig(Rig):
    """A real Asterisk in the lab, behind a proxy."""

    def __init__(self, clock: Clock, lab: Lab, proxy: Proxy, batch: int) -> None:
        super().__init__(clock, batch)
        self.traits = Traits(tells_sip_status=int(lab.version) > 16)
        self._lab = lab
        self._proxy = proxy

    def make_driver(self, *, admitted: bool) -> PbxDriver:
        settings = AsteriskSettings(
            host=self._proxy.host,
            port=self._proxy.port,
            username=DIALERD.name,
            secret=DIALERD.secret if admitted else "wrong",
            action_deadline=self.receipt_deadline,
            ping_every=0.5,
            ping_deadline=PING_DEADLINE,
            retry_first=0.1,
            retry_most=0.5,
        )
        return AsteriskDriver("lab", settings, self.clock)

    async def cut_link(self) -> None:
        self._proxy.cut()

    async def cut_link_inside_message(self) -> None:
        self._proxy.cut_inside_message()  # the next answer to a ping, at the latest

    async def hold_link(self) -> None:
        self._proxy.hold()

    async def resume_link(self) -> None:
        self._proxy.resume()

    async def restore_link(self) -> None:
        self._proxy.restore()

    async def kill_pbx(self) -> None:
        await asyncio.to_thread(self._lab.kill_asterisk)

    async def boot_pbx(self) -> None:
        await asyncio.to_thread(self._lab.start_asterisk)

    async def far_end_count(self, call_id: str) -> int:
        return len(self._lab.ledger("trunk").of([self.number_of(call_id)]))

    async def far_end_over(self, call_id: str) -> bool:
        calls = list(self._lab.ledger("trunk").of([self.number_of(call_id)]))
        return bool(calls) and all(call.ended_at is not None for call in calls)


class AsteriskHarness(Harness):
    """Runs scenarios on one lab, one after the other; the numbers of each run are its own."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._runs = 0

    def run(self, scenario: Scenario) -> None:
        self._runs += 1
        asyncio.run(play(scenario, self._rig(self._runs)))

    @asynccontextmanager
    async def _rig(self, batch: int) -> AsyncIterator[Rig]:
        async with Proxy(self._lab.host, self._lab.ports.ami) as proxy:
            yield AsteriskRig(SystemClock(), self._lab, proxy, batch)


@asynccontextmanager
async def _simulated(clock: VirtualClock, seed: int) -> AsyncIterator[Rig]:
    yield SimulatedRig(clock, seed)


async def play(scenario: Scenario, opened: AbstractAsyncContextManager[Rig]) -> None:
    async with opened as rig:
        try:
            await scenario(rig)
        except BaseException as error:
            error.add_note(await rig.situation())
            raise
        finally:
            await rig.restore_link()
            await rig.resume_link()
            await rig.close()
        for recorder in rig.recorders:
            recorder.check_order()
