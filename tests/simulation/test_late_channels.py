"""A channel that comes after its call was given up is nobody's: it is hung up, and the books say so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dialerd.clock import VirtualClock
from dialerd.core.model import Call, Campaign, HungUpBy
from dialerd.core.outcome import Outcome
from dialerd.dispatch.late import NOTE
from dialerd.dispatch.recovery import ROUTINE
from dialerd.pbx.callees import Behaviour
from dialerd.pbx.driver import Originate, Place
from dialerd.pbx.simulated import SimulatedSettings
from dialerd.store import calls as stored
from dialerd.store.errors import StoreError
from tests.simulation.house import House, numbers
from tests.support.virtual import Virtual

TALK = 200.0
LONG = SimulatedSettings(shares={Behaviour.ANSWER: 1.0}, talk_seconds=(TALK, TALK), max_channels=100)
LATE = 15.0
"""Seconds after its order that the channel is made; by then it was missing from two listings."""
GONE = 8.0
AT_ONCE = 0.5
ANOTHERS = "0b9f1c7e-3d34-4a55-9b1c-0c4c55c6a111"


async def given_up(house: House) -> Campaign:
    """Place a call whose channel is late, and give it up, for its link is lost meanwhile and two listings miss it."""
    clock, pbx = house.clock, house.pbx
    pbx.channel_delay = (LATE, LATE)
    campaign = await house.campaign(numbers(1), max_retries=0, retry={"interrupted": {"delay_seconds": 60}})
    await clock.sleep(0.5)
    pbx.channel_delay = None
    pbx.cut_link()
    pbx.restore_link()
    await clock.sleep(GONE)
    (call,) = await house.calls(campaign.id)
    assert call.outcome is Outcome.INTERRUPTED
    assert not pbx.ledger.entries
    return campaign


async def first_call(house: House, campaign: Campaign) -> Call:
    """The call that was given up."""
    return (await house.calls(campaign.id))[0]


def counted(house: House) -> float:
    """Late channels that the daemon says it has hung up."""
    return float(house.daemon.metrics.late_channels.labels("main")._value.get())


async def was_hung_up(house: House, campaign: Campaign, within: float = AT_ONCE) -> None:
    """Check that its channel came, was hung up, and that the call's row says so; all else stays as it was told."""
    await house.clock.sleep(LATE - GONE + within)
    (entry,) = house.pbx.ledger.entries
    assert entry.ended is not None
    assert entry.ended - entry.began < within
    call = await first_call(house, campaign)
    assert (call.outcome, call.hangup_text, call.hung_up_by) == (Outcome.INTERRUPTED, NOTE, HungUpBy.DIALER)
    assert counted(house) == 1
    await house.check_counters(campaign.id)


def test_it_is_hung_up_as_soon_as_it_shows_itself(virtual: Virtual, tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        house = House(clock, tmp_path, LONG)
        async with house.running() as daemon:
            campaign = await given_up(house)
            await was_hung_up(house, campaign)
            await clock.sleep(90)  # and its contact is dialled again when the retry of interrupted says
            assert [each.attempt for each in await house.calls(campaign.id)] == [1, 2]
            assert len(house.pbx.ledger.entries) == 2
            await daemon.control.stop("one", campaign.id, hangup=True)

    virtual(main)


def test_the_next_process_knows_it_by_the_store(virtual: Virtual, tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        house = House(clock, tmp_path, LONG)
        async with house.running() as daemon:
            campaign = await given_up(house)
            await daemon.control.pause("one", campaign.id)
        async with house.running() as daemon:
            await was_hung_up(house, campaign)
            await daemon.control.stop("one", campaign.id)

    virtual(main)


def test_a_store_that_fails_is_asked_again(virtual: Virtual, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main(clock: VirtualClock) -> None:
        house = House(clock, tmp_path, LONG)
        async with house.running() as daemon:
            campaign = await given_up(house)
            await daemon.control.pause("one", campaign.id)
        asked, ask = 0, stored.ended_by_id

        async def fails_twice(*given: object) -> object:
            nonlocal asked
            asked += 1
            if asked <= 2:
                raise StoreError("disk I/O error")
            return await ask(*given)  # type: ignore[arg-type]

        monkeypatch.setattr(stored, "ended_by_id", fails_twice)
        async with house.running() as daemon:
            await was_hung_up(house, campaign, within=3.0)
            assert asked == 3
            await daemon.control.stop("one", campaign.id)

    virtual(main)


def test_a_listing_finds_one_whose_events_were_lost(virtual: Virtual, tmp_path: Path) -> None:
    """No other call is in flight, and listings go on for a while all the same."""

    async def main(clock: VirtualClock) -> None:
        house = House(clock, tmp_path, LONG)
        async with house.running() as daemon:
            campaign = await given_up(house)
            await daemon.control.pause("one", campaign.id)
            house.pbx.settings = replace(LONG, lost_event_share=1.0)
            await was_hung_up(house, campaign, within=ROUTINE + AT_ONCE)
            await daemon.control.stop("one", campaign.id)

    virtual(main)


def test_a_link_that_is_lost_in_that_moment_is_waited_for(virtual: Virtual, tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        house = House(clock, tmp_path, LONG)
        async with house.running() as daemon:
            campaign = await given_up(house)
            await daemon.control.pause("one", campaign.id)
            await clock.sleep(LATE - GONE - 1.0)
            house.pbx.cut_link()
            await clock.sleep(30)
            house.pbx.restore_link()
            await clock.sleep(30)
            (entry,) = house.pbx.ledger.entries
            assert entry.ended is not None
            assert entry.ended - entry.began < 60
            assert counted(house) == 1
            assert (await first_call(house, campaign)).hangup_text == NOTE
            await daemon.control.stop("one", campaign.id)

    virtual(main)


def test_another_dialers_calls_are_left_alone(
    virtual: Virtual, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its ids are of the same shape, and the store has never heard of them: it is asked about each once."""
    asked: list[str] = []
    ask = stored.ended_by_id

    async def noted(conn: object, ids: list[str]) -> object:
        asked.extend(ids)
        return await ask(conn, ids)  # type: ignore[arg-type]

    async def main(clock: VirtualClock) -> None:
        house = House(clock, tmp_path, LONG)
        monkeypatch.setattr(stored, "ended_by_id", noted)
        async with house.running():
            await clock.sleep(1)
            order = Originate(ANOTHERS, "PJSIP/12025550001@a", None, Place(context="c", exten="s"), 30.0, 1000)
            assert house.pbx.place(order) is None
            await clock.sleep(TALK + 60)
            (entry,) = house.pbx.ledger.entries
            assert entry.ended is not None
            assert entry.ended - entry.began > TALK
            assert asked == [ANOTHERS]
            assert counted(house) == 0

    virtual(main)
