"""Between a call's commit and its sending time passes: what came true in it is obeyed, and no rate is bunched.

Each of these was found by a storm (``test_seeds.py``).
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from dialerd.clock import VirtualClock
from dialerd.core.contact_rules import closed_hours
from dialerd.core.model import CallStatus, Contact, ContactStatus
from dialerd.core.outcome import Fault, Outcome
from dialerd.dispatch import dispatcher, sending
from dialerd.pbx.callees import Behaviour
from dialerd.pbx.driver import Originate
from dialerd.pbx.simulated import SimulatedSettings
from dialerd.service import Daemon
from dialerd.store.errors import StoreError
from tests.simulation.house import House, Size, numbers
from tests.support.virtual import START, Virtual

QUICK = SimulatedSettings(
    shares={Behaviour.ANSWER: 1.0}, post_dial_seconds=(0.1, 0.3), ring_seconds=(0.2, 0.5), talk_seconds=(1.0, 2.0)
)


def slow_commits(daemon: Daemon, clock: VirtualClock, seconds: float) -> asyncio.Event:
    """Let the journal hear of each commit only so many seconds after it stands; the event: one has been made."""
    record, made = daemon.store.record, asyncio.Event()

    async def slowly(originating: Sequence[Any], moved: Sequence[Any]) -> frozenset[str]:
        claimed = await record(originating, moved)
        if originating:
            made.set()
            await clock.sleep(seconds)
        return claimed

    daemon.store.record = slowly  # type: ignore[method-assign]
    return made


def test_a_call_that_was_committed_before_the_window_closed_is_not_sent_after_it(
    virtual: Virtual, tmp_path: Path
) -> None:
    async def main(clock: VirtualClock) -> None:
        house = House(clock, tmp_path, QUICK)
        async with house.running() as daemon:
            await clock.sleep(57)
            slow_commits(daemon, clock, 5)
            hours: dict[str, Any] = {"calling_hours_start": "11:00", "calling_hours_end": f"{START:%H}:01"}
            campaign = await house.campaign(numbers(5), concurrent_calls=5, **hours)
            await clock.sleep(30)
            assert not house.pbx.ledger.entries
            taken_back = await house.calls(campaign.id)
            assert taken_back
            assert {call.status for call in taken_back} == {CallStatus.NOT_SENT}
            assert {each.status for each in await house.contacts(campaign.id)} == {ContactStatus.PENDING}
            await daemon.control.stop("one", campaign.id)

    virtual(main)


def test_a_call_that_was_committed_before_its_place_was_forbidden_is_not_sent(virtual: Virtual, tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        house = House(clock, tmp_path, QUICK)
        async with house.running() as daemon:
            committed = slow_commits(daemon, clock, 5)
            campaign = await house.campaign(numbers(5), concurrent_calls=5)
            await committed.wait()
            house.toml += '[agents]\ncontexts = ["sales"]\n'
            await daemon.reload(house.read())
            await clock.sleep(30)
            assert not house.pbx.ledger.entries
            assert {call.status for call in await house.calls(campaign.id)} == {CallStatus.NOT_SENT}
            assert {each.status for each in await house.contacts(campaign.id)} == {ContactStatus.PENDING}
            await daemon.control.stop("one", campaign.id)

    virtual(main)


def test_a_call_that_a_fault_of_ours_keeps_from_being_sent_ends(
    virtual: Virtual, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Committed and never sent, it has no channel whose end could be heard: its slot would be taken for ever."""
    spoilt, faults = numbers(3)[1], [RuntimeError("a fault")]

    def look(tenant: Any, settings: Any, contact: Contact, windows: Any, wall: Any) -> str | None:
        if contact.phone_number == spoilt and faults:
            raise faults.pop()
        return closed_hours(tenant, settings, contact, windows, wall)

    async def main(clock: VirtualClock) -> None:
        house = House(clock, tmp_path, QUICK)
        async with house.running() as daemon:
            monkeypatch.setattr(dispatcher, "closed_hours", look)
            campaign = await house.campaign(numbers(3), concurrent_calls=1)
            await house.ended(campaign.id)
            placed = sorted(await house.calls(campaign.id), key=lambda call: call.originated_at)
            failed, again = [call for call in placed if call.phone_number == spoilt]
            assert (failed.status, failed.outcome, failed.fault) == (CallStatus.NOT_SENT, Outcome.FAILED, Fault.DAEMON)
            assert again.outcome is Outcome.ANSWERED
            assert len(placed) == 4
            assert not [key for key, capacity in daemon.dispatcher.limits() if capacity.used]
            assert daemon.metrics.dropped.labels("task")._value.get() == 1

    virtual(main)


def test_an_orderly_stop_takes_back_what_was_committed_and_not_sent(virtual: Virtual, tmp_path: Path) -> None:
    """Nothing left, so nobody pays: neither who was in the midst of the commit, nor who waited for the rate."""

    async def main(clock: VirtualClock) -> None:
        house = House(clock, tmp_path, QUICK, Size(rate=1.0))
        async with house.running() as daemon:
            made = slow_commits(daemon, clock, 0.5)
            campaign = await house.campaign(numbers(3), concurrent_calls=3, trunks=["a"])
            await made.wait()
        sent = len(house.pbx.ledger.entries)
        async with house.running() as daemon:
            await daemon.control.pause("one", campaign.id)
            await clock.sleep(20)
            told = sorted(call.status.value for call in await house.calls(campaign.id))
            assert told.count("ended") == sent
            assert told.count("not_sent") == len(told) - sent > 0
            assert [each.mishaps for each in await house.contacts(campaign.id)] == [0, 0, 0]

    virtual(main)


def test_calls_that_a_fault_of_ours_keeps_from_being_committed_occupy_nothing(
    virtual: Virtual, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoil(*_: Any) -> Any:
        raise RuntimeError("a fault")

    async def main(clock: VirtualClock) -> None:
        house = House(clock, tmp_path, QUICK)
        async with house.running() as daemon:
            with monkeypatch.context() as spoilt:
                spoilt.setattr(sending, "callee_zones", spoil)
                campaign = await house.campaign(numbers(5), concurrent_calls=2)
                await clock.sleep(60)
            assert not await house.calls(campaign.id)
            assert not [key for key, capacity in daemon.dispatcher.limits() if capacity.used]
            assert daemon.metrics.dropped.labels("task")._value.get() <= 5
        # Nobody is lost: the next daemon dials them all.
        async with house.running():
            await house.ended(campaign.id)
            assert {each.status for each in await house.contacts(campaign.id)} == {ContactStatus.COMPLETED}

    virtual(main)


def test_a_number_listed_after_its_call_was_committed_is_not_called(virtual: Virtual, tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        house = House(clock, tmp_path, QUICK)
        async with house.running() as daemon:
            made = slow_commits(daemon, clock, 3)
            campaign = await house.campaign(numbers(3), concurrent_calls=5)
            await made.wait()
            await daemon.api.exclusions.add(daemon.api.tenants["one"], numbers(1)[0], None)
            await house.ended(campaign.id)
            called = {entry.number for entry in house.pbx.ledger.entries}
            assert called == {number.lstrip("+") for number in numbers(3)[1:]}
            assert [each.status for each in await house.contacts(campaign.id)].count(ContactStatus.CANCELLED) == 1

    virtual(main)


def test_a_list_that_cannot_be_asked_says_no(virtual: Virtual, tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        house = House(clock, tmp_path, QUICK)
        async with house.running() as daemon:
            made = slow_commits(daemon, clock, 3)
            campaign = await house.campaign(numbers(1), concurrent_calls=5)
            await made.wait()
            daemon.dispatcher.listed.changed()
            read = daemon.store.read

            def broken() -> Any:
                raise StoreError("disk I/O error")

            daemon.store.read = broken  # type: ignore[method-assign]
            await clock.sleep(3.5)
            assert not house.pbx.ledger.entries
            daemon.store.read = read  # type: ignore[method-assign]
            await house.ended(campaign.id)
            assert len(house.pbx.ledger.entries) == 1

    virtual(main)


def test_orders_that_the_network_held_back_do_not_arrive_in_a_bunch(virtual: Virtual, tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        house = House(clock, tmp_path, QUICK, Size(rate=5, channels=50))
        async with house.running():
            campaign = await house.campaign(numbers(60), concurrent_calls=50, trunks=["a"])
            await clock.sleep(2)
            for seconds in (0.7, 3.0, 4.9, 9.0):
                house.pbx.hold_link()
                await clock.sleep(seconds)
                house.pbx.resume_link()
                await clock.sleep(2)
            await house.ended(campaign.id)
            sends = sorted(house.pbx.ledger.sends())
            assert len(sends) == 60
            assert min(late - early for early, late in zip(sends, sends[5:], strict=False)) >= 1.0

    virtual(main)


def test_a_restart_does_not_give_a_rate_anew(virtual: Virtual, tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        house = House(clock, tmp_path, QUICK, Size(rate=0.5, channels=50))
        async with house.running():
            campaign = await house.campaign(numbers(8), concurrent_calls=50, trunks=["a"])
        for seconds in (0.3, 2.3, 4.1):
            await house.run_until_killed(seconds)
        async with house.running():
            await house.ended(campaign.id)
        sends = sorted(house.pbx.ledger.sends())
        assert min(late - early for early, late in itertools.pairwise(sends)) >= 2.0

    virtual(main)


def test_a_pause_does_not_give_a_campaigns_rate_anew(virtual: Virtual, tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        house = House(clock, tmp_path, QUICK)
        async with house.running() as daemon:
            campaign = await house.campaign(numbers(4), concurrent_calls=5, max_calls_per_second=0.2)
            for _ in range(3):
                await clock.sleep(3.3)
                await daemon.control.pause("one", campaign.id)
                await daemon.control.resume("one", campaign.id)
            await house.ended(campaign.id)
            sends = sorted(house.pbx.ledger.sends())
            assert len(sends) == 4
            assert min(late - early for early, late in itertools.pairwise(sends)) >= 5.0

    virtual(main)


def test_a_pbx_that_does_not_answer_an_order_gets_no_other_until_it_has_told_what_lives(
    virtual: Virtual, tmp_path: Path
) -> None:
    async def main(clock: VirtualClock) -> None:
        house = House(clock, tmp_path, QUICK, Size(rate=5, channels=50))
        async with house.running() as daemon:
            asked: list[float] = []
            driver = daemon.drivers["main"]
            originate, live = driver.originate, driver.live
            doubted = asyncio.Event()

            async def watched(order: Originate) -> Any:
                asked.append(clock.mono())
                answer = await originate(order)
                if type(answer).__name__ == "InDoubt":
                    doubted.set()
                return answer

            listings: list[float] = []

            async def listed() -> Any:
                found = await live()
                listings.append(clock.mono())
                return found

            driver.originate, driver.live = watched, listed  # type: ignore[method-assign]
            campaign = await house.campaign(numbers(30), concurrent_calls=50, trunks=["a"])
            await clock.sleep(1)
            house.pbx.hold_link()
            await doubted.wait()
            gate = daemon.dispatcher.pbx_gate("main")
            assert gate.detail == "pbx main is being asked which calls live"
            when, count = clock.mono(), len(asked)
            await clock.sleep(4)
            assert len(asked) == count
            house.pbx.resume_link()
            await house.ended(campaign.id)
            assert asked[count] >= min(moment for moment in listings if moment > when)

    virtual(main)
