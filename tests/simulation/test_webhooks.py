"""Webhooks of a whole daemon on virtual time: an endpoint that is away, slow, full of faults, and gone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import pytest

from dialerd.clock import VirtualClock, read_id
from dialerd.core.webhooks import DeliveryStatus, Webhook, WebhookStatus
from dialerd.dispatch.courier import delivery_id
from dialerd.dispatch.errors import Rejected
from dialerd.dispatch.webhooks import NewWebhook, WebhookChange
from dialerd.store import events as stored_events
from dialerd.store import webhooks
from dialerd.store.records import Event
from dialerd.webhooks.transport import Answer
from tests.simulation.house import House, numbers
from tests.support.endpoint import AWAY, REFUSED, TAKEN, Endpoint, Received
from tests.support.virtual import Virtual

URL = "https://crm.example.com/hook"


async def hooked(house: House, tenant: str = "one", **given: object) -> Webhook:
    """Make a webhook."""
    new = {"url": URL, "description": None, "campaign_id": None, "kinds": frozenset[str](), **given}
    return await house.daemon.webhooks.create(tenant, NewWebhook(**new))  # type: ignore[arg-type] # each of its own


def all_taken(endpoint: Endpoint, events: Sequence[Event]) -> bool:
    """Whether every event was taken."""
    return {delivery_id(each.seq) for each in events} <= {each.id for each in endpoint.taken}


def check_order(endpoint: Endpoint) -> None:
    """Of each contact, the events were first taken in the order in which they happened."""
    lanes: dict[str | None, list[int]] = defaultdict(list)
    seen = set()
    for each in endpoint.taken:
        if each.id not in seen:
            seen.add(each.id)
            lanes[each.contact_id].append(int(each.id.removeprefix("evt_")))
    for lane in lanes.values():
        assert lane == sorted(lane)


async def now_kept(house: House, hook: Webhook) -> Webhook:
    """A webhook as the store has it."""
    async with house.daemon.store.read() as conn:
        found = await webhooks.get(conn, hook.tenant, hook.id)
    assert found is not None
    return found


async def statuses(house: House, hook: Webhook) -> dict[DeliveryStatus, int]:
    """How many deliveries there are of each status."""
    async with house.daemon.store.read() as conn:
        return {
            status: total
            for status in DeliveryStatus
            if (total := (await webhooks.deliveries(conn, hook.id, status=status, limit=1, offset=0))[1])
        }


def dropped(house: House) -> float:
    """Deliveries that were given up."""
    value = house.daemon.metrics.registry.get_sample_value("dialerd_dropped_total", {"what": "webhook_delivery"})
    assert value is not None
    return value


def test_the_same_events_as_the_stream_in_order_per_contact(virtual: Virtual, tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        house = House(clock, tmp_path)
        async with house.running():
            hook = await hooked(house)
            campaign = await house.campaign(numbers(20), concurrent_calls=20, max_retries=0)
            await house.ended(campaign.id)
            told = await house.events(campaign.id)
            await house.endpoint.until(lambda: all_taken(house.endpoint, told))
            assert len(house.endpoint.attempts) == len(told), "once each, where nothing fails"
            by_id = {each.id: each for each in house.endpoint.taken}
            for event in told:
                received = by_id[delivery_id(event.seq)]
                assert received.json["type"] == event.draft.kind.value
                assert received.json["data"] == stored_events.shown(event.draft)
                assert received.url == URL
            check_order(house.endpoint)
            await clock.sleep(2)
            assert await statuses(house, hook) == {DeliveryStatus.DELIVERED: len(told)}
            assert (await now_kept(house, hook)).position == told[-1].seq

    virtual(main)


def test_a_webhook_is_told_only_what_it_is_for(virtual: Virtual, tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        house = House(clock, tmp_path)
        async with house.running():
            ours = await house.campaign(numbers(5), concurrent_calls=5, max_retries=0, start=False)
            await hooked(house, url="https://all.example.com/", kinds=frozenset({"campaign"}))
            await hooked(house, url="https://one.example.com/", campaign_id=ours.id, kinds=frozenset({"originated"}))
            await hooked(house, "two", url="https://two.example.com/")
            other = await house.campaign(numbers(5, 100), concurrent_calls=5, max_retries=0)
            await house.daemon.control.start("one", ours.id)
            for each in (ours, other):
                await house.ended(each.id)
            await house.endpoint.until(lambda: len(house.endpoint.taken) >= 9)
            await clock.sleep(60)
            by_url: dict[str, list[Received]] = defaultdict(list)
            for received in house.endpoint.taken:
                by_url[received.url].append(received)
            assert sorted(by_url) == ["https://all.example.com/", "https://one.example.com/"]
            assert [each.json["data"]["status"] for each in by_url["https://all.example.com/"]].count("completed") == 2
            of_one = by_url["https://one.example.com/"]
            assert {read_id(each.json["data"]["campaign_id"]) for each in of_one} == {ours.id}
            assert {each.json["type"] for each in of_one} == {"originated"}
            assert len(of_one) == 5

    virtual(main)


@pytest.mark.parametrize(
    "away",
    [
        pytest.param(AWAY, id="away"),
        pytest.param(REFUSED, id="503", marks=pytest.mark.slow),
        pytest.param(Answer(None, "no answer within 10 s"), id="slow", marks=pytest.mark.slow),
    ],
)
def test_an_endpoint_that_is_gone_for_an_hour_misses_nothing(virtual: Virtual, tmp_path: Path, away: Answer) -> None:
    async def main(clock: VirtualClock) -> None:
        house = House(clock, tmp_path)
        async with house.running():
            hook = await hooked(house)
            back = clock.mono() + 3600

            async def answer(_: Received) -> Answer:
                if clock.mono() >= back:
                    return TAKEN
                if away.error == "no answer within 10 s":
                    await clock.sleep(10)
                return away

            house.endpoint.answers = answer
            campaign = await house.campaign(numbers(30), concurrent_calls=20, max_retries=0)
            await house.ended(campaign.id)
            told = await house.events(campaign.id)
            await clock.sleep(back - clock.mono())
            tried = len(house.endpoint.attempts)
            assert tried < 60, "an endpoint that is away is left alone"
            await house.endpoint.until(lambda: all_taken(house.endpoint, told))
            assert clock.mono() < back + 1200
            assert len(house.endpoint.attempts) == tried + len(told)
            check_order(house.endpoint)
            await clock.sleep(2)
            assert await statuses(house, hook) == {DeliveryStatus.DELIVERED: len(told)}
            assert (await now_kept(house, hook)).failing_since is None
            assert dropped(house) == 0

    virtual(main)


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [3.0, 11.0, 40.0])
def test_a_restart_in_the_middle_loses_nothing(virtual: Virtual, tmp_path: Path, seconds: float) -> None:
    async def main(clock: VirtualClock) -> None:
        house = House(clock, tmp_path)

        async def flaky(received: Received) -> Answer:
            await clock.sleep(clock.chance())
            return REFUSED if clock.chance() < 0.3 else TAKEN

        house.endpoint.answers = flaky
        async with house.running():
            hook = await hooked(house)
            campaign = await house.campaign(numbers(30), concurrent_calls=10, max_retries=1, start=False)
        async with house.running():
            await house.daemon.control.start("one", campaign.id)
        for _ in range(3):
            await house.run_until_killed(seconds)
        async with house.running():
            await house.ended(campaign.id)
            told = await house.events(campaign.id)
            await house.endpoint.until(lambda: all_taken(house.endpoint, told))
            check_order(house.endpoint)
            await clock.sleep(7200)
            assert (await now_kept(house, hook)).position >= told[-1].seq
            assert await statuses(house, hook) == {DeliveryStatus.DELIVERED: len(told)}

    virtual(main)


@pytest.mark.slow
def test_one_contact_that_fails_for_a_day_stops_no_other(virtual: Virtual, tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        house = House(clock, tmp_path)
        async with house.running():
            hook = await hooked(house)
            campaign = await house.campaign(numbers(10), concurrent_calls=10, max_retries=0, start=False)
            poisoned = (await house.contacts(campaign.id))[0]

            def answer(received: Received) -> Answer:
                return REFUSED if read_id(received.contact_id or "") == poisoned.id else TAKEN

            house.endpoint.answers = answer
            await house.daemon.control.start("one", campaign.id)
            await house.ended(campaign.id)
            told = await house.events(campaign.id)
            others = [each for each in told if each.draft.contact_id != poisoned.id]
            theirs = [each for each in told if each.draft.contact_id == poisoned.id]
            await house.endpoint.until(lambda: all_taken(house.endpoint, others))
            await clock.sleep(5)
            held = {DeliveryStatus.RETRYING: 1, DeliveryStatus.WAITING: len(theirs) - 1}
            delivered = {DeliveryStatus.DELIVERED: len(others)}
            assert await statuses(house, hook) == held | delivered
            assert (await now_kept(house, hook)).position == told[-1].seq
            # Signs of life of the others keep the webhook itself from being taken for dead.
            for index in range(14):
                more = await house.campaign(numbers(1, 500 + index), max_retries=0)
                await house.ended(more.id)
                await clock.sleep(7200)
            failed = (await statuses(house, hook))[DeliveryStatus.FAILED]
            assert failed == len(theirs) == dropped(house)
            assert (await now_kept(house, hook)).status is WebhookStatus.ENABLED

    virtual(main)


@pytest.mark.slow
def test_a_dead_endpoint_is_switched_off_and_may_go_on_later(virtual: Virtual, tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        house = House(clock, tmp_path)
        house.endpoint.answers = lambda _: REFUSED
        async with house.running() as daemon:
            hook = await hooked(house)
            campaign = await house.campaign(numbers(5), concurrent_calls=5, max_retries=0)
            await house.ended(campaign.id)
            told = await house.events(campaign.id)
        async with house.running() as daemon:  # the day is counted over restarts
            await clock.sleep(23 * 3600)
            assert (await now_kept(house, hook)).status is WebhookStatus.ENABLED
            await clock.sleep(2 * 3600)
            off = await now_kept(house, hook)
            assert off.status is WebhookStatus.DISABLED
            assert "nothing was delivered for 24 hours; at last the answer was 503" in (off.disabled_reason or "")
            sample = daemon.metrics.registry.get_sample_value
            assert sample("dialerd_webhooks_switched_off_total", {"reason": "dead"}) == 1
            assert dropped(house) == (await statuses(house, hook))[DeliveryStatus.FAILED] > 0
            tried = len(house.endpoint.attempts)
            await clock.sleep(7200)
            assert len(house.endpoint.attempts) == tried, "what is switched off is left alone"

            house.endpoint.answers = lambda _: TAKEN
            enabled = WebhookChange(status=WebhookStatus.ENABLED, after=told[0].seq - 1)
            on = await daemon.webhooks.change("one", hook.id, enabled)
            assert (on.status, on.disabled_reason, on.failing_since) == (WebhookStatus.ENABLED, None, None)
            await house.endpoint.until(lambda: all_taken(house.endpoint, told))
            check_order(house.endpoint)
            await clock.sleep(5)
            assert await statuses(house, hook) == {DeliveryStatus.DELIVERED: len(told)}
            with pytest.raises(Rejected, match="fit"):
                await daemon.webhooks.change("one", hook.id, enabled)

    virtual(main)


def test_gone_is_gone_at_once(virtual: Virtual, tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        house = House(clock, tmp_path)
        house.endpoint.answers = lambda _: Answer(410, "the answer was 410")
        async with house.running() as daemon:
            hook = await hooked(house)
            campaign = await house.campaign(numbers(5), concurrent_calls=5, max_retries=0)
            await house.ended(campaign.id)
            await clock.sleep(5)
            off = await now_kept(house, hook)
            assert (off.status, "410 Gone" in (off.disabled_reason or "")) == (WebhookStatus.DISABLED, True)
            assert len(house.endpoint.attempts) <= daemon.webhooks.concurrency
            # Enabled again, it is told of what happens from now on.
            house.endpoint.answers = lambda _: TAKEN
            await daemon.webhooks.change("one", hook.id, WebhookChange(status=WebhookStatus.ENABLED))
            later = await house.campaign(numbers(1, 50), max_retries=0)
            await house.ended(later.id)
            told = await house.events(later.id)
            await house.endpoint.until(lambda: all_taken(house.endpoint, told))
            assert len(house.endpoint.taken) == len(told)

    virtual(main)


@pytest.mark.slow
def test_a_webhook_that_never_answers_slows_no_call(virtual: Virtual, tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        spans = []
        for name in ("alone", "hooked"):
            (tmp_path / name).mkdir()
            house = House(clock, tmp_path / name)

            async def hang(_: Received) -> Answer:
                await clock.sleep(10)
                return AWAY

            house.endpoint.answers = hang
            async with house.running():
                if name == "hooked":
                    for index in range(5):
                        await hooked(house, url=f"{URL}/{index}")
                campaign = await house.campaign(numbers(100), concurrent_calls=100, max_retries=0)
                await house.ended(campaign.id)
                sent = sorted(call.originated_at for call in await house.calls(campaign.id))
                spans.append((sent[-1] - sent[0]).total_seconds())
            assert bool(house.endpoint.attempts) == (name == "hooked")
        alone, beside = spans
        assert beside <= alone * 1.05

    virtual(main)


def test_a_delivery_by_hand(virtual: Virtual, tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        house = House(clock, tmp_path)
        house.endpoint.answers = lambda _: REFUSED
        async with house.running() as daemon:
            hook = await hooked(house)
            campaign = await house.campaign(numbers(1), max_retries=0)
            await house.ended(campaign.id)
            await clock.sleep(60)
            first = next(each for each in await house.events(campaign.id) if each.draft.contact_id is not None)
            told = await daemon.webhooks.redeliver("one", hook.id, first.seq)
            assert (told.status, told.status_code) == (DeliveryStatus.RETRYING, 503)
            house.endpoint.answers = lambda _: TAKEN
            told = await daemon.webhooks.redeliver("one", hook.id, first.seq)
            assert (told.status, told.error, told.next_attempt_at) == (DeliveryStatus.DELIVERED, None, None)
            rest = await house.events(campaign.id)
            await house.endpoint.until(lambda: all_taken(house.endpoint, rest))
            await clock.sleep(5)
            assert await statuses(house, hook) == {DeliveryStatus.DELIVERED: len(rest)}
            assert sum(1 for each in house.endpoint.taken if each.id == delivery_id(first.seq)) == 1
            again = await daemon.webhooks.redeliver("one", hook.id, first.seq)
            assert again.status is DeliveryStatus.DELIVERED
            with pytest.raises(Rejected) as missing:
                await daemon.webhooks.redeliver("one", hook.id, 10**9)
            assert missing.value.code == "delivery_not_found"

    virtual(main)


def test_a_fault_in_an_attempt_is_a_failed_attempt(virtual: Virtual, tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        house = House(clock, tmp_path)
        broken = [True]

        def answer(_: Received) -> Answer:
            if broken:
                broken.pop()
                raise RuntimeError("a fault of ours")
            return TAKEN

        house.endpoint.answers = answer
        async with house.running():
            await hooked(house)
            campaign = await house.campaign(numbers(3), concurrent_calls=3, max_retries=0)
            await house.ended(campaign.id)
            told = await house.events(campaign.id)
            await house.endpoint.until(lambda: all_taken(house.endpoint, told))
            assert len(house.endpoint.attempts) == len(told) + 1

    virtual(main)
