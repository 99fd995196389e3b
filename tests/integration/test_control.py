"""Pause, resume and stop while calls ring and talk, and an event stream that tells all of it once and in order."""

from __future__ import annotations

from pathlib import Path

from dialerd.clock import SystemClock, stream
from tests.integration.client import Api, Json
from tests.integration.daemon import Stock, TrunkLimits
from tests.integration.evidence import Numbers, check_told, match
from tests.integration.house import house
from tests.lab.lab import Lab
from tests.lab.ledger import Ledger

STILL_UNDER_WAY = 0.25
"""Seconds after the answer to pause or stop in which an INVITE may still appear at the far end: the Originate had been
sent, and Asterisk was making its channel."""

DEADLINE = 45.0
_clock = SystemClock()
_HOUR = 3600.0


def _now() -> float:
    return _clock.wall().timestamp()


def _ledger(lab: Lab, calls: list[Json]) -> Ledger:
    return lab.ledger().of(call["phone_number"].removeprefix("+") for call in calls)


async def _contacts_by_status(api: Api, campaign_id: str) -> dict[str, int]:
    stats = (await api.show(campaign_id))["stats"]
    names = ("pending", "originated", "connected", "completed", "failed", "cancelled")
    return {name: stats[name] for name in names if stats[name]}


async def test_pause_stops_new_calls_at_once_and_resume_goes_on(lab: Lab, tmp_path: Path, stock: Stock) -> None:
    """With half of the calls ringing and half talking; of two who follow the stream one leaves again and again."""
    numbers, chance = Numbers(204), stream("pause")
    rows = [{"phone_number": numbers.next("03" if index % 2 else "06")} for index in range(60)]
    # Fast, so that calls are committed and on their way whenever the pause comes.
    limits = {"trunk": TrunkLimits(max_channels=24, max_calls_per_second=20)}
    async with house(lab, tmp_path, stock, limits=limits) as home:
        api = home.api
        campaign_id = await api.campaign(await api.agent("hold"), rows, trunks=["trunk"], concurrent_calls=len(rows))
        restless = api.follow(campaign_id, leave_after=lambda: 1 + int(12 * chance()))
        async with api.follow(campaign_id) as follower, restless:
            await api.step(campaign_id, "start")
            await follower.until(lambda: follower.count("ringing") >= 4, DEADLINE, "calls ring")
            assert (await api.step(campaign_id, "pause"))["status"] == "paused"
            paused_at = _now()
            # Asked, not counted by the stream: of the last ones committed it may not have told yet.
            in_flight = len({call["contact_id"] for call in await api.calls(campaign_id)})
            await follower.settled(in_flight, DEADLINE)
            at_rest = await _contacts_by_status(api, campaign_id)
            assert set(at_rest) == {"pending", "completed"}, at_rest
            calls = await api.calls(campaign_id)
            assert len(match(calls, _ledger(lab, calls))) == at_rest["completed"]
            assert _ledger(lab, calls).calls[-1].invited_at <= paused_at + STILL_UNDER_WAY
            # Those that were in flight were let finish: the far end, which talks its three seconds or one, ended each.
            assert {call["hung_up_by"] for call in calls if call["status"] != "not_sent"} == {"callee"}

            assert (await api.step(campaign_id, "resume"))["status"] == "active"
            await follower.finished(DEADLINE)
            await restless.finished(DEADLINE)
            contacts = await api.contacts(campaign_id)
            check_told(follower.told, contacts)
            # Whoever leaves and comes back with Last-Event-ID, and whoever asks afterwards, hear the very same.
            assert restless.connections >= 10
            assert restless.told == follower.told
            assert await _told_afterwards(api, campaign_id, len(follower.told)) == follower.told
        assert {contact["status"] for contact in contacts} == {"completed"}
        calls = await api.calls(campaign_id)
        assert len(match(calls, _ledger(lab, calls))) == len(rows)


async def _told_afterwards(api: Api, campaign_id: str, events: int) -> list[object]:
    told: list[object] = []
    async with api.stream(campaign_id, 0) as stream_from_the_start:
        async for event in stream_from_the_start:
            told.append(event)
            if len(told) == events:
                break
    return told


async def test_stop_cancels_what_is_pending_and_lets_calls_finish(lab: Lab, tmp_path: Path, stock: Stock) -> None:
    numbers = Numbers(205)
    # Ringing calls that will be answered, ringing calls that will not, and talking ones.
    rows = [{"phone_number": numbers.next(("03", "13", "06")[index % 3])} for index in range(60)]
    limits = {"trunk": TrunkLimits(max_channels=12, max_calls_per_second=20)}
    async with house(lab, tmp_path, stock, limits=limits) as home:
        api = home.api
        campaign_id = await api.campaign(
            await api.agent("hold"), rows, trunks=["trunk"], concurrent_calls=len(rows), answer_timeout=5
        )
        async with api.follow(campaign_id) as follower:
            await api.step(campaign_id, "start")
            await follower.until(
                lambda: follower.count("ringing") >= 6 and follower.count("connected") >= 3, DEADLINE, "calls are up"
            )
            assert (await api.step(campaign_id, "stop"))["status"] == "cancelled"
            stopped_at = _now()
            await follower.settled(len(rows), DEADLINE)
            contacts = await api.contacts(campaign_id)
            check_told(follower.told, contacts)
        by_number = {contact["phone_number"]: contact for contact in contacts}
        placed = await api.calls(campaign_id)
        calls = [call for call in placed if call["status"] != "not_sent"]
        ledger = _ledger(lab, calls)
        assert len(match(calls, ledger)) == len(calls) >= 9
        assert ledger.calls[-1].invited_at <= stopped_at + STILL_UNDER_WAY
        for call in calls:
            answered = not call["phone_number"].endswith("13")
            expected = ("answered", "completed") if answered else ("no_answer", "failed")
            assert (call["outcome"], by_number[call["phone_number"]]["status"]) == expected, call
        # A call that was committed, and withdrawn before it was sent, failed; everybody else is cancelled.
        withdrawn = {call["phone_number"] for call in placed if call["status"] == "not_sent"}
        begun = withdrawn | {call["phone_number"] for call in calls}
        assert {by_number[number]["status"] for number in withdrawn} <= {"failed", "cancelled"}
        assert {each["status"] for number, each in by_number.items() if number not in begun} == {"cancelled"}


async def test_stop_with_hangup_hangs_up_what_rings_and_what_talks(lab: Lab, tmp_path: Path, stock: Stock) -> None:
    numbers = Numbers(206)
    rows = [{"phone_number": numbers.next("13" if index % 2 else "00")} for index in range(40)]
    limits = {"trunk": TrunkLimits(max_channels=12, max_calls_per_second=20)}
    async with house(lab, tmp_path, stock, limits=limits) as home:
        api = home.api
        campaign_id = await api.campaign(
            await api.agent("hold"),
            rows,
            trunks=["trunk"],
            concurrent_calls=len(rows),
            answer_timeout=300,
            max_call_seconds=3600,
        )
        async with api.follow(campaign_id) as follower:
            await api.step(campaign_id, "start")
            await follower.until(
                lambda: follower.count("ringing") >= 6 and follower.count("connected") >= 6, DEADLINE, "12 calls are up"
            )
            await api.step(campaign_id, "stop", hangup=True)
            stopped_at = _now()
            await follower.settled(len(rows), DEADLINE)
            contacts = await api.contacts(campaign_id)
            check_told(follower.told, contacts)
        calls = await api.calls(campaign_id)
        seen = match(
            calls, lab.ledger_when(lambda ledger: _all_over(ledger.of(_numbers(calls)), 12)).of(_numbers(calls))
        )
        assert len(seen) == len(calls) == 12
        assert max(each.over_at for each in seen.values()) < stopped_at + 2.0
        assert {each.ended_by for each in seen.values()} == {"caller"}
        assert {(call["outcome"], call["hung_up_by"]) for call in calls} == {
            ("answered", "dialer"),
            ("cancelled", "dialer"),
        }
        statuses = await _contacts_by_status(api, campaign_id)
        assert statuses == {"completed": 6, "failed": 6, "cancelled": 28}


def _numbers(calls: list[Json]) -> list[str]:
    return [call["phone_number"].removeprefix("+") for call in calls]


def _all_over(ledger: Ledger, calls: int) -> bool:
    return len(ledger) == calls and all(call.ended_at is not None for call in ledger)
