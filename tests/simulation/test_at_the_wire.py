"""At the wire: what a committed call is asked once more, and what an order leaves open that was never answered well."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dialerd.clock import VirtualClock
from dialerd.core.model import CallStatus, ContactStatus
from dialerd.core.outcome import Fault, Outcome, Verdict
from dialerd.pbx.driver import Accepted, Originate, Refused
from tests.simulation import laws
from tests.simulation.house import House, Size, numbers
from tests.simulation.test_last_moment import QUICK, slow_commits
from tests.support.virtual import Virtual


class LostLease:
    """Stands in for a lease on the store of which this daemon is no longer sure."""

    epoch = 1

    @staticmethod
    def doubt() -> str:
        return "another daemon has taken the store over"


def lose_the_lease(house: House) -> None:
    house.daemon.store.lease = LostLease()


def begin_to_drain(house: House) -> None:
    # As the stop does, in the very moment in which the calls' commit is under way.
    house.daemon.dispatcher.drain("the daemon is stopping")


def lose_sight_of_the_pbx(house: House) -> None:
    """The link is back at once, and the PBX takes its time to say which calls live."""
    house.pbx.answer_delay = (4.0, 4.0)
    house.pbx.cut_link()
    house.pbx.restore_link()


@pytest.mark.parametrize(
    ("befalls", "why"),
    [
        (begin_to_drain, "the daemon is stopping"),
        (lose_the_lease, "another daemon has taken the store over"),
        (lose_sight_of_the_pbx, "pbx main is being asked which calls live"),
    ],
)
def test_a_call_that_was_committed_is_taken_back_where_nothing_may_be_sent_by_then(
    virtual: Virtual, tmp_path: Path, befalls: Callable[[House], None], why: str
) -> None:
    async def main(clock: VirtualClock) -> None:
        house = House(clock, tmp_path, replace(QUICK, reconnect_seconds=(0.1, 0.1)))
        async with house.running() as daemon:
            made = slow_commits(daemon, clock, 1)
            campaign = await house.campaign(numbers(3), concurrent_calls=3)
            await made.wait()
            befalls(house)
            await clock.sleep(2)
            assert not house.pbx.ledger.entries
            assert {each.status for each in await house.contacts(campaign.id)} == {ContactStatus.PENDING}
            taken_back = {(call.status, call.hangup_text) for call in await house.calls(campaign.id)}
            assert taken_back == {(CallStatus.NOT_SENT, why)}
            daemon.store.lease = None
            await daemon.control.pause("one", campaign.id)

    virtual(main)


def test_a_call_that_was_settled_while_it_waited_for_its_rate_is_not_sent(virtual: Virtual, tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        house = House(clock, tmp_path, QUICK, Size(rate=1.0))
        async with house.running() as daemon:
            slow_commits(daemon, clock, 4)
            campaign = await house.campaign(numbers(4), concurrent_calls=4, trunks=["a"])
            while not (
                waits := [each for each in daemon.dispatcher.calls.of_campaign(campaign.id) if not each.sent_at]
            ):
                await clock.sleep(0.01)
            daemon.dispatcher.calls.withdraw(waits[-1], "somebody settled it")
            await house.ended(campaign.id)
            await laws.hold(house, campaign.id)
            assert house.pbx.ledger.reached(waits[-1].call.id) == 0
            assert len(house.pbx.ledger.entries) == 4

    virtual(main)


def test_an_order_that_a_fault_of_the_driver_leaves_open_is_in_doubt(virtual: Virtual, tmp_path: Path) -> None:
    """It may have gone out: its PBX is asked before anything else is sent there, and nobody is called twice."""

    async def main(clock: VirtualClock) -> None:
        house = House(clock, tmp_path, QUICK, Size(rate=5, channels=50))
        async with house.running() as daemon:
            driver = daemon.drivers["main"]
            originate, orders = driver.originate, itertools.count()
            gates: list[str] = []

            async def faulty(order: Originate) -> Any:
                await originate(order)
                if next(orders) == 2:
                    clock.call_at(clock.mono(), lambda: gates.append(daemon.dispatcher.pbx_gate("main").detail))
                    raise RuntimeError("a fault")
                return Accepted()

            driver.originate = faulty  # type: ignore[method-assign]
            campaign = await house.campaign(numbers(10), concurrent_calls=10)
            await house.ended(campaign.id)
            assert gates == ["pbx main is being asked which calls live"]
            await laws.hold(house, campaign.id)
            assert {call.outcome for call in await house.calls(campaign.id)} == {Outcome.ANSWERED}
            assert daemon.metrics.dropped.labels("task")._value.get() == 1

    virtual(main)


def test_a_refusal_that_comes_after_the_end_of_its_call_settles_nothing_again(virtual: Virtual, tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        house = House(clock, tmp_path, QUICK)
        async with house.running() as daemon:
            driver = daemon.drivers["main"]
            originate = driver.originate

            async def late(order: Originate) -> Any:
                await originate(order)
                while daemon.dispatcher.calls.get(order.call_id) is not None:
                    await clock.sleep(0.5)
                return Refused("too late", Verdict(Outcome.FAILED, Fault.PBX))

            driver.originate = late  # type: ignore[method-assign]
            campaign = await house.campaign(numbers(3), concurrent_calls=3)
            await house.ended(campaign.id)
            await clock.sleep(2)
            await laws.hold(house, campaign.id)
            assert [call.outcome for call in await house.calls(campaign.id)] == [Outcome.ANSWERED] * 3
            assert daemon.metrics.dropped.labels("task")._value.get() == 0

    virtual(main)


def test_an_order_of_the_process_before_may_arrive_after_the_start(virtual: Virtual, tmp_path: Path) -> None:
    """It went out in the last moment, and its PBX takes its time: the next call keeps its distance to that one too."""

    async def main(clock: VirtualClock) -> None:
        house = House(clock, tmp_path, QUICK, Size(rate=1.0, channels=50))
        async with house.running() as daemon:
            campaign = await house.campaign(numbers(4), concurrent_calls=50, trunks=["a"], start=False)
            await daemon.control.start("one", campaign.id)
        house.pbx.channel_delay = (1.4, 1.4)
        life = asyncio.ensure_future(house.run_until_killed(1.2))
        while not house.pbx.channels:
            await clock.sleep(0.01)
        house.pbx.channel_delay = None
        await life
        assert not house.pbx.ledger.entries
        async with house.running():
            await house.ended(campaign.id)
        sends = sorted(house.pbx.ledger.sends())
        assert len(sends) == 4
        assert min(late - early for early, late in itertools.pairwise(sends)) >= 1.0

    virtual(main)
