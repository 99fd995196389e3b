"""Both state machines on the real store, control and dispatcher: whatever people and a PBX do, in any order.

A model of a few facts says what each step must come to: the campaign's status, and each contact's. The PBX does nothing
by itself: the machine makes it tell what calls do, in order or not, once or twice, and lets it, or the daemon, die.
"""

from __future__ import annotations

import asyncio
import shutil
from collections import Counter
from collections.abc import Callable, Collection, Coroutine, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from dialerd.clock import Clock, VirtualClock, VirtualLoop
from dialerd.config import PbxConfig
from dialerd.core import campaign as campaign_table
from dialerd.core.campaign import FINISHED, CampaignEvent
from dialerd.core.contact import IN_FLIGHT
from dialerd.core.machine import IllegalTransition, step
from dialerd.core.model import CallStatus, CampaignStatus, Contact, ContactStatus
from dialerd.core.outcome import Fault, Outcome, Verdict
from dialerd.dispatch.errors import Rejected
from dialerd.dispatch.requests import NewCallback, Upload
from dialerd.pbx.driver import (
    Accepted,
    Answered,
    ChannelState,
    Dialling,
    Ended,
    InDoubt,
    Kept,
    LinkDown,
    LinkState,
    LinkUp,
    LiveChannel,
    Originate,
    PbxDriver,
    PbxEvent,
    Refused,
    Ringing,
    Sink,
)
from dialerd.service import Daemon
from dialerd.store import campaigns
from tests.simulation import laws
from tests.simulation.house import House, Size, numbers
from tests.support.effort import examples
from tests.support.logs import silent_logs
from tests.support.virtual import START

T = TypeVar("T")

QUIET = 4.0
"""Seconds after each step, in which everything that follows from it has happened."""
PROOF = 12.0
"""Seconds in which a call that is gone is proven to be."""
AWAY = 40.0
RETRIES = 1
BUSY = Verdict(Outcome.BUSY, Fault.CALLEE)
INVALID = Verdict(Outcome.INVALID_NUMBER, Fault.NUMBER)
ENDED = Verdict(Outcome.ANSWERED, Fault.NONE)
RETRY = {"busy": {"delay_seconds": 30, "most": 50}, "interrupted": {"delay_seconds": 30, "most": 50}}
S = ContactStatus


class ScriptedDriver:
    """A PBX that takes every order, and then does what it is told."""

    def __init__(self) -> None:
        self.state = LinkState.STOPPED
        self.reason: str | None = None
        self.channels: dict[str, ChannelState] = {}
        self.orders: list[Originate] = []
        self.in_doubt = False
        self._sink: Sink | None = None

    async def start(self, sink: Sink) -> None:
        self._sink = sink
        self.state = LinkState.UP
        asyncio.get_running_loop().call_soon(self.tell, LinkUp("scripted"))

    async def stop(self) -> None:
        self._sink = None
        self.state = LinkState.STOPPED

    def tell(self, event: PbxEvent) -> None:
        if self._sink is not None:
            self._sink(event)

    async def originate(self, order: Originate) -> Accepted | Refused | InDoubt:
        self.orders.append(order)
        self.channels[order.call_id] = ChannelState.DIALLING
        self.tell(Dialling(order.call_id))
        return InDoubt("no receipt") if self.in_doubt else Accepted()

    async def hangup(self, call_id: str) -> bool:
        return call_id in self.channels

    async def live(self) -> tuple[LiveChannel, ...]:
        return tuple(LiveChannel(call_id, state, 1.0) for call_id, state in self.channels.items())

    async def kept(self, call_ids: Collection[str]) -> Mapping[str, Kept]:
        return {}

    def discard(self, call_ids: Collection[str]) -> None:
        """Nothing was kept."""

    def forget(self, call_id: str) -> None:
        """Nothing is remembered."""

    def ending(self, call_id: str) -> bool:
        return False

    async def watch(self, trunks: Mapping[str, str]) -> None:
        """It says nothing of its trunks."""


def fulfils_the_protocol(driver: ScriptedDriver) -> PbxDriver:
    """Checked by mypy."""
    return driver


class ScriptedHouse(House):
    """A house whose PBX is scripted, and outlives the daemons on it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.toml = self.toml.replace("drain_seconds = 600", "drain_seconds = 0")
        self.driver = ScriptedDriver()

    def _driver(self, name: str, _pbx: PbxConfig, trunks: Mapping[str, str], clock: Clock) -> PbxDriver:
        return self.driver


@dataclass
class Expected:
    """What the model knows of a contact."""

    status: ContactStatus = S.PENDING
    attempts: int = 0
    """Orders that went to the PBX."""
    busy: int = 0
    """Attempts of its present budget that the callee spent."""


class OnTheStore(RuleBasedStateMachine):
    """See the module's docstring."""

    @initialize(contacts=st.integers(1, 4))
    def begin(self, contacts: int) -> None:
        self.logs = silent_logs()
        self.logs.__enter__()
        self.folder = Path(mkdtemp(prefix="dialerd-states-"))
        self.runner = asyncio.Runner(loop_factory=VirtualLoop)
        loop = self.runner.get_loop()
        assert isinstance(loop, VirtualLoop)
        self.clock = VirtualClock(loop, 1, START)
        self.status: CampaignStatus = CampaignStatus.DRAFT
        self.expected: dict[int, Expected] = {}
        self.ended: list[str] = []
        self.away = 0
        self.task: asyncio.Task[None] | None = None
        self.do(self._begin(contacts))

    async def _begin(self, contacts: int) -> None:
        self.house = ScriptedHouse(self.clock, self.folder, size=Size(rate=100.0, channels=100))
        await self._start()
        settings_: dict[str, Any] = {
            "concurrent_calls": 100,
            "max_retries": RETRIES,
            "answer_timeout": 300,
            "trunks": ["a"],
        }
        campaign = await self.house.campaign(numbers(contacts), start=False, retry=RETRY, **settings_)
        self.campaign_id = campaign.id
        await self._meet_contacts()

    async def _start(self) -> None:
        up, self.stop = asyncio.Event(), asyncio.Event()

        async def ready() -> None:
            up.set()

        self.house.daemon = self.house._daemon()
        self.task = asyncio.create_task(self.house.daemon.run(self.stop, ready=ready))
        await up.wait()

    async def _meet_contacts(self) -> None:
        for each in await self.house.contacts(self.campaign_id):
            self.expected.setdefault(each.id, Expected())

    @property
    def daemon(self) -> Daemon:
        return self.house.daemon

    def do(self, work: Coroutine[Any, Any, T], seconds: float = QUIET) -> T:
        """Do something, wait until all has happened that follows, and hold the store to the model."""

        async def done() -> T:
            result = await work
            await self.clock.sleep(seconds)
            await self._dialled()
            await self._check()
            return result

        return self.runner.run(done())

    async def _dialled(self) -> None:
        """An active campaign has dialled whoever is due, and is completed when nobody is left."""
        stored = {each.id: each for each in await self.house.contacts(self.campaign_id)}
        now = self.clock.wall()
        if self.status is CampaignStatus.ACTIVE:
            for contact_id, each in self.expected.items():
                due = stored[contact_id].next_attempt_at
                if each.status is S.PENDING and stored[contact_id].status is not S.PENDING:
                    each.status, each.attempts = S.ORIGINATED, each.attempts + 1
                elif each.status is S.PENDING and (due is None or (now - due).total_seconds() > QUIET / 2):
                    raise AssertionError(f"due since {due}, and not dialled at {now}: {stored[contact_id]}")
            if all(each.status in (S.COMPLETED, S.FAILED, S.CANCELLED) for each in self.expected.values()):
                self.status = CampaignStatus.COMPLETED

    async def _check(self) -> None:
        async with self.daemon.store.read() as conn:
            found = await campaigns.get(conn, "one", self.campaign_id)
        assert found is not None
        assert found.status is self.status
        stored = {each.id: each for each in await self.house.contacts(self.campaign_id)}
        placed = await self.house.calls(self.campaign_id)
        assert {key: each.attempts for key, each in stored.items() if each.attempts} == Counter(
            call.contact_id for call in placed
        )
        # A call that was withdrawn before it was sent is an attempt that the PBX never heard of.
        ordered = {order.call_id for order in self.house.driver.orders}
        assert ordered == {call.id for call in placed if call.status is not CallStatus.NOT_SENT}
        sent = Counter(call.contact_id for call in placed if call.id in ordered)
        shown = {key: (each.status, sent[key]) for key, each in stored.items()}
        assert shown == {key: (each.status, each.attempts) for key, each in self.expected.items()}
        live = {call.contact_id: call for call in placed if call.ended_at is None}
        assert live.keys() == {key for key, each in self.expected.items() if each.status in IN_FLIGHT}
        assert {call.id for call in live.values()} == self.house.driver.channels.keys()
        assert len({order.call_id for order in self.house.driver.orders}) == len(self.house.driver.orders)
        assert len(self.daemon.dispatcher.calls) == len(live)
        used = {key.name: capacity.used for key, capacity in self.daemon.dispatcher.limits()}
        assert used["a"] == len(live)
        laws.events_tell_the_way(await self.house.events(self.campaign_id), list(stored.values()))
        await self.house.check_counters(self.campaign_id)

    # -- people -------------------------------------------------------------------------------------------------

    @rule(event=st.sampled_from([CampaignEvent.START, CampaignEvent.PAUSE, CampaignEvent.RESUME]))
    def command(self, event: CampaignEvent) -> None:
        act: dict[CampaignEvent, Callable[..., Coroutine[Any, Any, object]]] = {
            CampaignEvent.START: self.daemon.control.start,
            CampaignEvent.PAUSE: self.daemon.control.pause,
            CampaignEvent.RESUME: self.daemon.control.resume,
        }
        self._command(event, lambda: act[event]("one", self.campaign_id))

    @precondition(lambda self: self.away > 0)
    @rule()
    def stop_for_good(self) -> None:
        self._command(CampaignEvent.STOP, lambda: self.daemon.control.stop("one", self.campaign_id))

    def _command(self, event: CampaignEvent, act: Callable[[], Coroutine[Any, Any, object]]) -> None:
        try:
            after = step(campaign_table.TRANSITIONS, self.status, event)
        except IllegalTransition:
            self.do(self._refused(act()))
            return
        self.status = after
        if after in FINISHED:
            for each in self.expected.values():
                each.status = S.CANCELLED if each.status is S.PENDING else each.status
        self.do(act())

    async def _refused(self, work: Coroutine[Any, Any, object]) -> None:
        try:
            await work
        except Rejected:
            return
        raise AssertionError("it was not refused")

    @rule(index=st.integers(0, 10))
    def cancel_a_contact(self, index: int) -> None:
        contact_id, expected = self._one(index)
        work = self.daemon.control.cancel_contact("one", self.campaign_id, contact_id)
        if expected.status is S.PENDING:
            expected.status = S.CANCELLED
            self.do(work)
        else:
            self.do(self._refused(work))

    @rule(index=st.integers(0, 10), wait=st.sampled_from([0.0, 60.0]))
    def promise_a_callback(self, index: int, wait: float) -> None:
        contact_id, expected = self._one(index)
        new = NewCallback(self.clock.wall() + timedelta(seconds=wait), contact_id=contact_id)
        work = self.daemon.api.callbacks.promise(self.daemon.api.tenants["one"], self.campaign_id, new)
        if self.status in FINISHED or expected.status in (*IN_FLIGHT, S.CANCELLED):
            self.do(self._refused(work))
        else:
            expected.status, expected.busy = S.PENDING, 0
            self.do(work)

    @precondition(lambda self: len(self.expected) < 6)
    @rule()
    def add_a_contact(self) -> None:
        async def add() -> None:
            upload = Upload("items", items=({"phone": numbers(1, first=1000 + len(self.expected))[0]},))
            await self.daemon.control.add_contacts(self.daemon.api.tenants["one"], self.campaign_id, upload)
            await self._meet_contacts()

        self.do(self._refused(add()) if self.status in FINISHED else add())

    def _one(self, index: int) -> tuple[int, Expected]:
        ids = sorted(self.expected)
        contact_id = ids[index % len(ids)]
        return contact_id, self.expected[contact_id]

    # -- the PBX ------------------------------------------------------------------------------------------------

    @rule(in_doubt=st.booleans())
    def receipts(self, in_doubt: bool) -> None:
        """Orders are carried out either way."""
        self.house.driver.in_doubt = in_doubt

    @precondition(lambda self: self.house.driver.channels)
    @rule(index=st.integers(0, 10), twice=st.booleans())
    def a_call_rings(self, index: int, twice: bool) -> None:
        call_id = self._channel(index)
        if self.house.driver.channels[call_id] is ChannelState.DIALLING:
            self.house.driver.channels[call_id] = ChannelState.RINGING
        self.do(self._tell(*[Ringing(call_id)] * (1 + twice)))

    @precondition(lambda self: self.house.driver.channels)
    @rule(index=st.integers(0, 10), twice=st.booleans())
    def a_call_is_answered(self, index: int, twice: bool) -> None:
        call_id = self._channel(index)
        self.house.driver.channels[call_id] = ChannelState.UP
        self._contact_of(call_id).status = S.CONNECTED
        self.do(self._tell(*[Answered(call_id)] * (1 + twice)))

    @precondition(lambda self: self.house.driver.channels)
    @rule(index=st.integers(0, 10), verdict=st.sampled_from([BUSY, BUSY, INVALID]), twice=st.booleans())
    def a_call_ends(self, index: int, verdict: Verdict, twice: bool) -> None:
        call_id = self._channel(index)
        contact = self._contact_of(call_id)
        if contact.status is S.CONNECTED:
            contact.status = S.COMPLETED
            event = Ended(call_id, ENDED)
        else:
            contact.busy += 1
            again = verdict is BUSY and contact.busy <= RETRIES and self.status not in FINISHED
            contact.status = S.PENDING if again else S.FAILED
            event = Ended(call_id, verdict)
        del self.house.driver.channels[call_id]
        self.ended.append(call_id)
        self.do(self._tell(*[event] * (1 + twice)))

    @precondition(lambda self: self.ended)
    @rule(index=st.integers(0, 100))
    def late_news_of_a_call_that_ended(self, index: int) -> None:
        call_id = self.ended[index % len(self.ended)]
        self.do(self._tell(Ringing(call_id), Answered(call_id), Ended(call_id, BUSY)))

    @rule()
    def the_pbx_dies_and_is_back(self) -> None:
        """Its calls are gone without a word: nobody knows what became of them."""

        async def dies() -> None:
            driver = self.house.driver
            self.ended += driver.channels
            driver.channels.clear()
            driver.state = LinkState.CONNECTING
            driver.tell(LinkDown("it died"))
            await self.clock.sleep(1.0)
            driver.state = LinkState.UP
            driver.tell(LinkUp("scripted"))

        for each in self.expected.values():
            if each.status in IN_FLIGHT:
                over = S.COMPLETED if each.status is S.CONNECTED else S.FAILED
                each.status = over if self.status in FINISHED else S.PENDING
        self.do(dies(), PROOF)

    def _channel(self, index: int) -> str:
        ids = list(self.house.driver.channels)
        return ids[index % len(ids)]

    def _contact_of(self, call_id: str) -> Expected:
        numbers_ = {order.call_id: order.dial for order in self.house.driver.orders}
        return self.expected[self._by_number[numbers_[call_id].partition("/")[2].partition("@")[0]]]

    @property
    def _by_number(self) -> dict[str, int]:
        found: list[Contact] = self.runner.run(self.house.contacts(self.campaign_id))
        return {each.phone_number.lstrip("+"): each.id for each in found}

    async def _tell(self, *events: PbxEvent) -> None:
        for each in events:
            self.house.driver.tell(each)

    # -- time, and the process ----------------------------------------------------------------------------------

    @precondition(lambda self: self.away < 3)
    @rule()
    def time_passes(self) -> None:
        self.away += 1
        self.do(asyncio.sleep(0), AWAY)  # noqa: TID251 - only the waiting after it is wanted

    @rule(in_order=st.booleans())
    def the_daemon_is_started_again(self, in_order: bool) -> None:
        async def again() -> None:
            assert self.task is not None
            if in_order:
                self.stop.set()
                await self.task
            else:
                await self.daemon.store.crash()
                await self.house.driver.stop()
                self.task.cancel()
                await asyncio.gather(self.task, return_exceptions=True)
            await self._start()

        self.do(again(), PROOF)

    @invariant()
    def nobody_is_dialled_by_a_campaign_that_is_not_active(self) -> None:
        if getattr(self, "status", None) is CampaignStatus.DRAFT:
            assert not self.house.driver.orders

    def teardown(self) -> None:
        if hasattr(self, "runner"):
            try:
                if self.task is not None:
                    self.stop.set()
                    self.runner.run(asyncio.wait_for(self.task, 60))
            finally:
                self.runner.close()
                self.logs.__exit__(None, None, None)
                shutil.rmtree(self.folder)


OnTheStore.TestCase.settings = settings(max_examples=examples(40), stateful_step_count=25, deadline=None)
TestOnTheStore = pytest.mark.slow(OnTheStore.TestCase)
