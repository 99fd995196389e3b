"""Answered calls that go to a queue: taken by a member, or given up by the callee before one was free."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.integration.client import Api, Json
from tests.integration.daemon import Stock
from tests.integration.evidence import Numbers, check_one_at_a_time, check_told, match, seconds
from tests.integration.house import house
from tests.lab.ami import Ami, Headers
from tests.lab.lab import Lab

MEMBER = "PJSIP/10000@agents"
DEADLINE = 30.0
EVENT_SECONDS = 15.0


async def _queue_agent(api: Api) -> str:
    return await api.make_agent(name="the queue", kind="queue", queue="lab")


def _pause(ami: Ami, paused: bool) -> None:
    answer = ami.action("QueuePause", {"Interface": MEMBER, "Queue": "lab", "Paused": "true" if paused else "false"})
    assert answer["Response"] == "Success", answer


def _member_connected(ami: Ami, call_id: str) -> Headers:
    return ami.event(
        lambda event: event["Event"] == "AgentConnect" and event["Uniqueid"] == call_id, seconds=EVENT_SECONDS
    )


async def test_a_member_takes_each_answered_call(lab: Lab, tmp_path: Path, stock: Stock) -> None:
    numbers = Numbers(211)
    rows = [{"phone_number": numbers.next("06" if index % 3 else "10")} for index in range(6)]
    async with house(lab, tmp_path, stock) as home:
        campaign_id = await home.api.campaign(
            await _queue_agent(home.api), rows, trunks=["trunk"], concurrent_calls=2, max_retries=0
        )
        async with home.api.follow(campaign_id) as follower:
            await home.api.step(campaign_id, "start")
            await follower.finished(DEADLINE)
            check_told(follower.told, await home.api.contacts(campaign_id))
        calls = await home.api.calls(campaign_id)
    taken = [call for call in calls if call["outcome"] == "answered"]
    assert len(taken) == 4
    for call in taken:
        assert (call["fault"], call["status"]) == ("none", "ended")
        assert seconds(call["answered_at"]) <= seconds(call["handed_over_at"]) <= seconds(call["ended_at"])
    assert {call["outcome"] for call in calls if call not in taken} == {"busy"}
    assert {call["handed_over_at"] for call in calls if call not in taken} == {None}
    assert len(match(calls, lab.ledger("trunk").of(row["phone_number"].removeprefix("+") for row in rows))) == len(rows)


async def test_a_call_that_no_member_takes_is_abandoned_and_its_retry_counts_as_the_second(
    lab: Lab, tmp_path: Path, stock: Stock
) -> None:
    row = {"phone_number": Numbers(212).next("05")}
    async with house(lab, tmp_path, stock) as home:
        with lab.ami() as ami:
            _pause(ami, True)
            try:
                first, second, attempt = await _two_attempts(home.api, ami, row)
            finally:
                _pause(ami, False)
    assert (first["outcome"], first["fault"], first["handed_over_at"]) == ("abandoned", "daemon", None)
    assert first["answered_at"] is not None
    assert (second["outcome"], second["fault"]) == ("answered", "none")
    assert second["handed_over_at"] is not None
    assert attempt == "2"
    check_one_at_a_time([first, second])
    assert len(match([first, second], lab.ledger("trunk").of([row["phone_number"].removeprefix("+")]))) == 2


async def _two_attempts(api: Api, ami: Ami, row: Json) -> tuple[Json, Json, str]:
    """Dial until a member is there at last; return both calls, and the attempt that the member's leg names."""
    campaign_id = await api.campaign(
        await _queue_agent(api), [row], trunks=["trunk"], retry={"abandoned": {"delay_seconds": 0, "most": 1}}
    )
    async with api.follow(campaign_id) as follower:
        await api.step(campaign_id, "start")
        await follower.until(
            lambda: sum(each.kind == "connected" for each in follower.told) == 2, DEADLINE, "it is answered again"
        )
        _pause(ami, False)
        calls = await api.calls(campaign_id)
        joined = await asyncio.to_thread(_member_connected, ami, calls[-1]["id"])
        answer = ami.action("Getvar", {"Channel": joined["DestUniqueid"], "Variable": "DIALERD_ATTEMPT"})
        await follower.finished(DEADLINE)
        check_told(follower.told, await api.contacts(campaign_id))
    first, second = await api.calls(campaign_id)
    return first, second, answer["Value"]
