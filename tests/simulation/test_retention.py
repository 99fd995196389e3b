"""What is old is removed on a virtual clock, beside dialing, and nothing else is."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa

from dialerd.clock import VirtualClock
from dialerd.config import ConfigError, parse
from dialerd.core.model import CampaignStatus
from dialerd.dispatch import pace
from dialerd.dispatch.webhooks import NewWebhook
from dialerd.pbx.callees import Behaviour
from dialerd.pbx.simulated import SimulatedSettings
from dialerd.store import campaigns, events, schema
from tests.simulation.house import House, numbers
from tests.support.endpoint import AWAY, TAKEN
from tests.support.virtual import Virtual

DAY = 86_400.0
ANSWERING = SimulatedSettings(
    shares={Behaviour.ANSWER: 1.0}, post_dial_seconds=(0.1, 0.5), ring_seconds=(0.5, 2.0), talk_seconds=(2.0, 6.0)
)


def keeping(clock: VirtualClock, folder: Path, url: str = "", **days: int) -> House:
    """A house whose configuration keeps things for so many days."""
    house = House(clock, folder, ANSWERING, url=url)
    house.toml += "[retention]\n" + "".join(f"{name}_days = {value}\n" for name, value in days.items())
    house.config = house.read()
    return house


async def rows(house: House, *tables: sa.Table) -> list[int]:
    """How many rows each table has."""
    async with house.daemon.store.read() as conn:
        return [await conn.scalar(sa.select(sa.func.count()).select_from(each)) or 0 for each in tables]


async def dialled(house: House, count: int, first: int = 0) -> int:
    """A campaign that has run to its end; returns its id."""
    campaign = await house.campaign(numbers(count, first), concurrent_calls=count, max_retries=0)
    await house.ended(campaign.id)
    return campaign.id


def removed(house: House, what: str) -> float:
    """What the metrics say of removals."""
    return house.daemon.metrics.registry.get_sample_value("dialerd_retention_removed_total", {"what": what}) or 0.0


@pytest.mark.slow
def test_old_events_go_and_their_numbers_never_come_again(
    virtual: Virtual, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pace, "LEAST", 5)
    monkeypatch.setattr(pace, "MOST", 7)
    monkeypatch.setattr(pace, "_FIRST", 5)

    async def main(clock: VirtualClock) -> None:
        house = keeping(clock, tmp_path, events=2)
        async with house.running():
            campaign_id = await dialled(house, 12)
            told = await house.events(campaign_id)
            await clock.sleep(1.9 * DAY)
            assert await house.events(campaign_id) == told, "what is young stays"
            await clock.sleep(0.3 * DAY)
            # All are old, and the newest stays: the next number is counted from it.
            assert await house.events(campaign_id) == told[-1:]
            assert removed(house, "events") == len(told) - 1
            assert len(await house.calls(campaign_id)) == 12, "calls are not events"
        async with house.running():
            later = await dialled(house, 2, 100)
            fresh = await house.events(later)
            assert [each.seq for each in fresh] == [told[-1].seq + 1 + index for index in range(len(fresh))]
            assert await house.events(campaign_id) == told[-1:]

    virtual(main)


def test_a_restart_in_the_middle_goes_on(virtual: Virtual, tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        house = keeping(clock, tmp_path, events=2)
        async with house.running():
            campaign_id = await dialled(house, 5)
        await clock.sleep(3 * DAY)
        await house.run_until_killed(30)  # before the first sweep
        async with house.running():
            assert len(await house.events(campaign_id)) > 1
            await clock.sleep(120)
            assert len(await house.events(campaign_id)) == 1

    virtual(main)


@pytest.mark.slow
def test_finished_campaigns_go_with_all_that_is_theirs_and_others_stay(virtual: Virtual, tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        house = keeping(clock, tmp_path, finished_campaigns=10, events=0)
        async with house.running() as daemon:
            first = await dialled(house, 8)
            hook = NewWebhook("https://crm.example.com/", None, first, frozenset())
            await daemon.webhooks.create("one", hook)
            paused = await house.campaign(numbers(3, 50), max_retries=0, start=False)
            await daemon.control.start("one", paused.id)
            await daemon.control.pause("one", paused.id)
            deleted = await house.campaign(numbers(3, 80), max_retries=0, start=False)
            await daemon.control.start("one", deleted.id)
            await daemon.control.pause("one", deleted.id)
            await daemon.control.delete("one", deleted.id)
            await clock.sleep(6 * DAY)
            second = await dialled(house, 4, 200)
            theirs = await house.events(second)
            await clock.sleep(5 * DAY)
            async with daemon.store.read() as conn:
                left = await campaigns.get_many(conn, [first, paused.id, deleted.id, second])
            assert left.keys() == {paused.id, second}
            assert left[second][0].status is CampaignStatus.COMPLETED
            assert await house.contacts(first) == []
            assert await house.calls(first) == []
            assert await house.events(first) == []
            assert len(await house.calls(second)) == len(await house.contacts(second)) == 4
            assert await house.events(second) == theirs
            assert len(await house.contacts(paused.id)) == 3
            tables = (schema.campaign, schema.campaign_stats, schema.webhook)
            assert await rows(house, *tables) == [2, 2, 0]
            assert removed(house, "campaigns") == 2
            await house.check_counters(second)

    virtual(main)


@pytest.mark.slow
def test_what_rules_count_stays_as_long_as_they_count_it(virtual: Virtual, tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        house = keeping(clock, tmp_path, finished_campaigns=1)
        house.toml = house.toml.replace("[tenant.one]\n", "[tenant.one]\nmax_calls_per_number = 1\n")  # in 168 hours
        async with house.running():
            first = await dialled(house, 1)
            await clock.sleep(6 * DAY)
            assert len(await house.calls(first)) == 1
            await clock.sleep(1.1 * DAY)
            assert await house.calls(first) == []

    virtual(main)


@pytest.mark.slow
def test_settled_deliveries_go_and_those_under_way_stay(virtual: Virtual, tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        house = keeping(clock, tmp_path, deliveries=3)
        async with house.running() as daemon:
            await daemon.webhooks.create("one", NewWebhook("https://crm.example.com/", None, None, frozenset()))
            campaign_id = await dialled(house, 3)
            count = len(await house.events(campaign_id))
            await clock.sleep(2 * DAY)
            assert await rows(house, schema.webhook_delivery) == [count]
            house.endpoint.answers = lambda _: AWAY
            await dialled(house, 1, 50)
            await clock.sleep(1.2 * DAY - 3600)
            house.endpoint.answers = lambda _: TAKEN
            [left] = await rows(house, schema.webhook_delivery)
            assert 0 < left < count
            assert removed(house, "deliveries") == count

    virtual(main)


@pytest.mark.slow
def test_events_that_a_webhook_was_not_told_of_in_time_are_counted(virtual: Virtual, tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        house = keeping(clock, tmp_path, events=2)
        async with house.running() as daemon:
            hook = await daemon.webhooks.create(
                "one", NewWebhook("https://crm.example.com/", None, None, frozenset({"campaign"}))
            )
            await dialled(house, 3)
        # Its place is put back behind what is removed, as one that is far too slow would leave it.
        async with house.running() as daemon:
            behind = sa.update(schema.webhook).where(schema.webhook.c.id == hook.id).values(position=0)
            await daemon.store.write(lambda tx: tx.conn.execute(behind))
            await clock.sleep(3 * DAY)
        async with house.running() as daemon:
            async with daemon.store.read() as conn:
                last = await events.last(conn)
            await clock.sleep(120)
            lost = daemon.metrics.registry.get_sample_value("dialerd_dropped_total", {"what": "webhook_event"})
            assert lost == last - 1

    virtual(main)


def test_events_are_kept_for_more_than_a_day(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="2 days"):
        parse("[retention]\nevents_days = 1\n", {}, tmp_path / "x.toml", Path.read_text)


@pytest.mark.postgres
def test_all_of_it_on_postgresql(virtual: Virtual, tmp_path: Path, postgres_url: str) -> None:
    async def main(clock: VirtualClock) -> None:
        house = keeping(clock, tmp_path, postgres_url, events=2, finished_campaigns=4, deliveries=1)
        async with house.running() as daemon:
            await daemon.webhooks.create("one", NewWebhook("https://crm.example.com/", None, None, frozenset()))
            campaign_id = await dialled(house, 6)
            told = await house.events(campaign_id)
            await clock.sleep(1.5 * DAY)
            assert await rows(house, schema.webhook_delivery) == [0]
            assert await house.events(campaign_id) == told
            await clock.sleep(DAY)
            assert await house.events(campaign_id) == told[-1:]
            await clock.sleep(2 * DAY)
            # The newest event outlives its campaign: the next number is counted from it.
            assert await rows(house, schema.campaign, schema.call, schema.contact, schema.event) == [0, 0, 0, 1]
        async with house.running():
            later = await dialled(house, 1, 100)
            assert (await house.events(later))[0].seq == told[-1].seq + 1

    virtual(main)
