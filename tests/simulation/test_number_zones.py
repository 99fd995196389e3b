"""Campaigns whose numbers decide: each contact is dialled in the hours of every zone that its number may lie in."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import phonenumbers
import pytest
import sqlalchemy as sa

from dialerd.clock import VirtualClock
from dialerd.core.model import Call, CampaignStatus, ContactStatus
from dialerd.core.rules import explain
from dialerd.core.snapshot import Deferral, Reason
from dialerd.dispatch.hopper import MOST
from dialerd.pbx.callees import Behaviour
from dialerd.pbx.simulated import SimulatedSettings
from dialerd.service import Daemon
from dialerd.store import contacts
from dialerd.store.errors import StoreError
from dialerd.store.schema import contact as contact_table
from dialerd.store.tx import Tx
from tests.simulation import laws
from tests.simulation.house import House, Size
from tests.support.virtual import Virtual

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
"""When these tests begin, on a Monday: seven in New York, four in Los Angeles, nine in the evening in Tokyo."""
QUICK = SimulatedSettings(
    shares={Behaviour.ANSWER: 1.0}, post_dial_seconds=(0.1, 0.5), ring_seconds=(0.5, 2.0), talk_seconds=(2.0, 6.0)
)
BY_NUMBER: dict[str, Any] = {
    "contact_timezone": "number",
    "calling_hours_start": "09:00",
    "calling_hours_end": "17:00",
    "timezone": "Pacific/Auckland",
    "concurrent_calls": 20,
}
CITIES = {
    "Europe/London": ("+4420794600", NOON),
    "America/New_York": ("+121255501", NOON.replace(hour=14)),
    "America/Los_Angeles": ("+131055501", NOON.replace(hour=17)),
    "Asia/Tokyo": ("+813123456", NOON + timedelta(hours=12)),
}
"""The beginning of a number there, and when its first nine o'clock to five comes round."""
TOLL_FREE = "+18002345678"


def rules_of(daemon: Daemon, campaign_id: int) -> list[Reason]:
    """Every rule for an active campaign."""
    view = daemon.dispatcher.view(campaign_id)
    assert view is not None
    return explain(daemon.dispatcher.snapshot(), view, daemon.api.clock.now())


def listed(city: str, count: int = 4) -> list[str]:
    return [f"{CITIES[city][0]}{index:02d}" for index in range(count)]


def city_of(number: str) -> str:
    return next(city for city, (beginning, _) in CITIES.items() if number.startswith(beginning))


def in_hours_everywhere(placed: Sequence[Call]) -> None:
    """The law, as the library's own zones and the wall clocks there tell it."""
    from phonenumbers.timezone import time_zones_for_number

    for call in placed:
        zones = time_zones_for_number(phonenumbers.parse(call.phone_number))
        assert zones
        for zone in zones:
            assert 9 <= call.originated_at.astimezone(ZoneInfo(zone)).hour < 17, (call.phone_number, zone)


async def reason_of(house: House, number: str) -> str | None:
    async with house.daemon.store.read() as conn:
        query = sa.select(contact_table.c.reason).where(contact_table.c.phone_number == number)
        reason: str | None = await conn.scalar(query)
        return reason


class Watch:
    """Counts what the dispatcher does: its plans, and each contact's deferrals."""

    def __init__(self, daemon: Daemon) -> None:
        self.plans = 0
        self.deferrals: Counter[str] = Counter()
        plan, defer = daemon.dispatcher._plan, daemon.dispatcher._deferrals.put_off

        def counted_plan() -> None:
            self.plans += 1
            plan()

        async def counted_defer(deferrals: Sequence[Deferral]) -> None:
            self.deferrals.update(deferral.contact.phone_number for deferral in deferrals)
            await defer(deferrals)

        daemon.dispatcher._plan = counted_plan  # type: ignore[method-assign]
        daemon.dispatcher._deferrals.put_off = counted_defer  # type: ignore[method-assign]


def test_each_is_dialled_when_it_is_day_where_its_number_lies(virtual: Virtual, tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        house = House(clock, tmp_path, QUICK)
        async with house.running() as daemon:
            watch = Watch(daemon)
            everyone = [number for city in CITIES for number in listed(city)]
            campaign = await house.campaign([*everyone, TOLL_FREE, "+80012345678"], **BY_NUMBER)
            await house.ended(campaign.id)
            placed = await house.calls(campaign.id)
            in_hours_everywhere(placed)
            assert Counter(city_of(call.phone_number) for call in placed) == dict.fromkeys(CITIES, 4)
            for call in placed:
                opened = CITIES[city_of(call.phone_number)][1]
                assert opened <= call.originated_at < opened + timedelta(minutes=1), call.phone_number
            ends = {contact.phone_number: contact.status for contact in await house.contacts(campaign.id)}
            assert {ends[number] for number in everyone} == {ContactStatus.COMPLETED}
            assert ends[TOLL_FREE] is ends["+80012345678"] is ContactStatus.CANCELLED
            assert "never opens" in str(await reason_of(house, TOLL_FREE))
            assert "no time zone is known" in str(await reason_of(house, "+80012345678"))
            # A deferral a contact, and no plan but for something that happened: nothing goes round in circles.
            assert set(watch.deferrals.values()) == {1}
            assert set(watch.deferrals) == {*everyone, TOLL_FREE, "+80012345678"} - set(listed("Europe/London"))
            assert watch.plans < 1000
            laws.events_tell_the_way(await house.events(campaign.id), await house.contacts(campaign.id))
            await house.check_counters(campaign.id)

    virtual(main)


@pytest.mark.slow
def test_retries_over_many_days_stay_inside_the_hours(virtual: Virtual, tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        house = House(clock, tmp_path, SimulatedSettings(shares={Behaviour.BUSY: 0.5, Behaviour.NO_ANSWER: 0.5}))
        async with house.running():
            retry = {"busy": {"delay_seconds": 5 * 3600}, "no_answer": {"delay_seconds": 11 * 3600}}
            campaign = await house.campaign(
                [number for city in CITIES for number in listed(city, 10)], max_retries=5, retry=retry, **BY_NUMBER
            )
            await house.ended(campaign.id)
            placed = await house.calls(campaign.id)
            in_hours_everywhere(placed)
            assert len(placed) == 40 * 6
            # The clocks change in the USA on 8 March 2026 at ten in UTC; New York opens an hour earlier from then on.
            assert {call.originated_at.hour for call in placed if city_of(call.phone_number) == "America/New_York"} >= {
                13,
                14,
            }

    virtual(main, start=datetime(2026, 3, 6, 12, tzinfo=UTC))


def test_a_contact_s_own_zone_decides_for_it(virtual: Virtual, tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        house = House(clock, tmp_path, QUICK)
        async with house.running():
            campaign = await house.campaign(
                [
                    {"phone": TOLL_FREE, "timezone": "America/New_York"},
                    {"phone": listed("Asia/Tokyo")[0], "timezone": "Europe/London"},
                ],
                **BY_NUMBER,
            )
            await house.ended(campaign.id)
            dialled = {call.phone_number: call.originated_at for call in await house.calls(campaign.id)}
            assert dialled[TOLL_FREE].replace(minute=0, second=0, microsecond=0) == NOON.replace(hour=14)
            assert dialled[listed("Asia/Tokyo")[0]] < NOON + timedelta(minutes=1)

    virtual(main)


@pytest.mark.slow
def test_who_is_closed_hides_nobody_who_is_open(virtual: Virtual, tmp_path: Path) -> None:
    """Thousands where it is night, all more urgent than a few where it is day: those few are dialled soon."""

    async def main(clock: VirtualClock) -> None:
        house = House(clock, tmp_path, QUICK, Size(rate=100, channels=200))
        async with house.running() as daemon:
            watch = Watch(daemon)
            asleep = [{"phone": f"+8131234{index:04d}", "priority": 50} for index in range(3000)]
            awake = listed("Europe/London")
            campaign = await house.campaign([*asleep, *awake], **BY_NUMBER)
            await clock.sleep(120)
            assert sorted(call.phone_number for call in await house.calls(campaign.id)) == awake
            assert all(call.originated_at < NOON + timedelta(minutes=1) for call in await house.calls(campaign.id))
            assert watch.deferrals == Counter({str(each["phone"]): 1 for each in asleep})
            quiet = watch.plans
            await clock.sleep(6 * 3600)
            assert watch.plans - quiet <= 6 * 60 + 10
            waits = {contact.next_attempt_at for contact in await house.contacts(campaign.id)} - {None}
            assert waits == {NOON + timedelta(hours=12)}
            await daemon.control.stop("one", campaign.id)

    virtual(main)


def test_explain_says_that_each_contact_is_asked(virtual: Virtual, tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        house = House(clock, tmp_path, QUICK)
        async with house.running() as daemon:
            campaign = await house.campaign(listed("Asia/Tokyo"), start=False, **BY_NUMBER)
            _, warnings = await daemon.control.start("one", campaign.id)
            assert not [warning for warning in warnings if "09:00" in warning]
            await clock.sleep(60)
            rules = {reason.rule: reason for reason in rules_of(daemon, campaign.id)}
            assert rules["calling_hours"].holds
            assert "every zone that a contact may be in" in rules["calling_hours"].detail
            assert not rules["contacts"].holds
            assert "its number's zones" in rules["contacts"].detail
            assert rules["contacts"].until == NOON + timedelta(hours=12)
            await daemon.control.stop("one", campaign.id)

    virtual(main)


def test_the_campaign_s_own_days_begin_and_end_for_all(virtual: Virtual, tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        house = House(clock, tmp_path, QUICK)
        async with house.running() as daemon:
            campaign = await house.campaign(
                [*listed("Europe/London"), *listed("America/New_York"), *listed("Asia/Tokyo")],
                start_at=NOON + timedelta(hours=1),
                end_at=NOON + timedelta(hours=11),
                **BY_NUMBER,
            )
            await clock.sleep(1800)
            assert not await house.calls(campaign.id)
            (closed,) = [reason for reason in rules_of(daemon, campaign.id) if reason.rule == "calling_hours"]
            assert (closed.holds, closed.until) == (False, NOON + timedelta(hours=1))
            await house.ended(campaign.id)
            placed = await house.calls(campaign.id)
            in_hours_everywhere(placed)
            assert Counter(city_of(call.phone_number) for call in placed) == {
                "Europe/London": 4,
                "America/New_York": 4,
            }
            assert min(call.originated_at for call in placed) >= NOON + timedelta(hours=1)
            # Nine in Tokyo comes an hour after the campaign's end: those are never due, and are told so.
            ends = {contact.phone_number: contact.status for contact in await house.contacts(campaign.id)}
            assert {ends[number] for number in listed("Asia/Tokyo")} == {ContactStatus.CANCELLED}
            assert "before it ends" in str(await reason_of(house, listed("Asia/Tokyo")[0]))
            assert (await house.events(campaign.id))[-1].draft.status == CampaignStatus.COMPLETED

    virtual(main)


def test_a_deferral_that_cannot_be_committed_is_tried_again_after_a_while(
    virtual: Virtual, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main(clock: VirtualClock) -> None:
        house = House(clock, tmp_path, QUICK)
        tried: list[float] = []
        put_off = contacts.put_off

        async def failing(tx: Tx, deferred: Sequence[tuple[int, datetime | None, str]]) -> None:
            tried.append(clock.mono())
            if len(tried) <= 3:
                raise StoreError("the disk is full")
            await put_off(tx, deferred)

        monkeypatch.setattr(contacts, "put_off", failing)
        async with house.running():
            campaign = await house.campaign([*listed("Asia/Tokyo", 2), TOLL_FREE], **BY_NUMBER)
            await house.ended(campaign.id)
            assert [call.phone_number for call in await house.calls(campaign.id)] == listed("Asia/Tokyo", 2)
            in_hours_everywhere(await house.calls(campaign.id))
            assert "never opens" in str(await reason_of(house, TOLL_FREE))
        assert len(tried) == 4
        assert all(5 <= late - early < 6 for early, late in pairwise(tried))

    virtual(main)


@pytest.mark.slow
def test_the_hopper_waits_for_the_writer_to_follow(
    virtual: Virtual, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many contacts are closed, few wait to be written: none is fetched while the writer stands still."""

    async def main(clock: VirtualClock) -> None:
        house = House(clock, tmp_path, QUICK)
        writing, all_put_off, most, put_off = asyncio.Event(), asyncio.Event(), 0, contacts.put_off

        async def stuck(tx: Tx, deferred: Sequence[tuple[int, datetime | None, str]]) -> None:
            await writing.wait()
            await put_off(tx, deferred)

        monkeypatch.setattr(contacts, "put_off", stuck)
        async with house.running() as daemon:
            numbers = [f"+8131234{index:04d}" for index in range(5000)]
            campaign = await house.campaign(numbers, **{**BY_NUMBER, "concurrent_calls": 1000})
            dispatcher = daemon.dispatcher
            held, plan = dispatcher.hopper._bins[campaign.id], dispatcher._plan

            def watched() -> None:
                nonlocal most
                plan()
                most = max(most, len(held.placing))
                if held.placing and not held.loading:
                    writing.set()  # nothing more is fetched: let the writer go on
                if held.exhausted and not held.placing:
                    all_put_off.set()

            dispatcher._plan = watched  # type: ignore[method-assign]
            dispatcher.wake()
            await all_put_off.wait()
            assert MOST < most <= 3 * MOST
            waits = Counter(contact.next_attempt_at for contact in await house.contacts(campaign.id))
            assert waits == {NOON + timedelta(hours=12): 5000}
            await daemon.control.stop("one", campaign.id)

    virtual(main)
