"""What an answered call brings along: the variables of call and contact, literally, on its channel and the agent's."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from pathlib import Path

from tests.integration.client import Api, Follower, Json
from tests.integration.daemon import CALLER_ID, Stock
from tests.integration.evidence import Numbers
from tests.integration.house import House, house
from tests.lab.ami import Ami, Headers
from tests.lab.lab import Lab

DEADLINE = 30.0
EVENT_SECONDS = 15.0

HOSTILE = {
    "first_name": 'Ann "the, boss" O\'Hara',
    "last_name": "back\\slash\\",
    "company": "${SHELL(id)}",
    "email": "a;b|c&d@example.com",
    "sum": "$[1+1]",
    "note": "Größe, naïve — 東京 🙂 (half] {open [x",
    "amp": "a,b,c=d",
    "percent": "100% \\n \\, ^{x} !x #y",
    "SHELL(id)": "harmless",
    "CALLERID(num)": "+12025550666",
    "DIALERD_CALL_ID": "forged",
    "TIMEOUT(absolute)": "1",
}
"""A row of a list that tries everything that means something to Asterisk, or to a CSV."""

ARRIVES = {
    "CONTACT_FIRST_NAME": HOSTILE["first_name"],
    "CONTACT_LAST_NAME": HOSTILE["last_name"],
    "CONTACT_COMPANY": HOSTILE["company"],
    "CONTACT_EMAIL": HOSTILE["email"],
    "CONTACT_SUM": HOSTILE["sum"],
    "CONTACT_NOTE": HOSTILE["note"],
    "CONTACT_AMP": HOSTILE["amp"],
    "CONTACT_PERCENT": HOSTILE["percent"],
    "CONTACT_SHELL_ID": "harmless",
    "CONTACT_CALLERID_NUM": "+12025550666",
    "CONTACT_DIALERD_CALL_ID": "forged",
    "CONTACT_TIMEOUT_ABSOLUTE": "1",
    "CAMPAIGN_TEAM": 'north, "west"',
}


def _variables(ami: Ami, channel: str, names: Iterable[str]) -> dict[str, str]:
    found = {}
    for name in names:
        answer = ami.action("Getvar", {"Channel": channel, "Variable": name})
        assert answer["Response"] == "Success", answer
        found[name] = answer["Value"]
    return found


def _leg_of_the_agent(ami: Ami, call_id: str) -> Headers:
    """Wait until the agent's phone has answered, and return its channel."""
    return ami.event(
        lambda event: (
            event["Event"] == "DialEnd" and event.get("Uniqueid") == call_id and event["DialStatus"] == "ANSWER"
        ),
        seconds=EVENT_SECONDS,
    )


async def _one_call(home: House, agent_id: str, row: Mapping[str, str]) -> tuple[str, Json]:
    """Dial one contact; return the campaign and its call as soon as it is connected."""
    campaign_id = await home.api.campaign(agent_id, [row], trunks=["trunk"], variables={"team": 'north, "west"'})
    async with home.api.follow(campaign_id) as follower:
        await home.api.step(campaign_id, "start")
        await _connected(follower)
    [call] = await home.api.calls(campaign_id)
    return campaign_id, call


async def _connected(follower: Follower) -> None:
    await follower.until(lambda: follower.count("connected") == 1, DEADLINE, "the call is connected")


async def test_hostile_fields_arrive_literally_on_the_channel_and_on_the_agents_leg(
    lab: Lab, tmp_path: Path, stock: Stock
) -> None:
    async with house(lab, tmp_path, stock) as home:
        agent_id = await home.api.agent("agent")
        with lab.ami() as ami:
            row = {"phone_number": Numbers(209).next("00"), **HOSTILE}
            campaign_id, call = await _one_call(home, agent_id, row)
            expected = {
                "DIALERD_CALL_ID": call["id"],
                "DIALERD_CAMPAIGN_ID": campaign_id,
                "DIALERD_CONTACT_ID": call["contact_id"],
                "DIALERD_ATTEMPT": "1",
                "CONTACT_PHONE_NUMBER": row["phone_number"],
                **ARRIVES,
            }
            leg = await asyncio.to_thread(_leg_of_the_agent, ami, call["id"])
            assert _variables(ami, call["id"], expected) == expected
            assert _variables(ami, leg["DestUniqueid"], expected) == expected
            # Nothing was evaluated, and no function was called: the number shown is the trunk's own.
            assert _variables(ami, call["id"], ["TIMEOUT(absolute)", "SHELL_ID"])["SHELL_ID"] == ""
            assert int(float(_variables(ami, call["id"], ["TIMEOUT(absolute)"])["TIMEOUT(absolute)"])) > 1000
            [contact] = await home.api.contacts(campaign_id)
            assert contact["attributes"]["note"] == HOSTILE["note"]
            await _end(home.api, campaign_id)
    [seen] = lab.ledger("trunk").of([row["phone_number"].removeprefix("+")])
    assert seen.from_user == CALLER_ID


async def _end(api: Api, campaign_id: str) -> None:
    """Stop the campaign and hang up, and wait until the call is settled; it may have ended by itself before."""
    if (await api.show(campaign_id))["status"] == "active":
        await api.step(campaign_id, "stop", hangup=True)
    async with api.follow(campaign_id) as follower:
        await follower.settled(1, DEADLINE)


async def test_a_dialplan_reads_the_variables_and_tells_them(lab: Lab, tmp_path: Path, stock: Stock) -> None:
    async with house(lab, tmp_path, stock) as home:
        row = {"phone_number": Numbers(210).next("00"), "first_name": "Ann"}
        with lab.ami() as ami:
            campaign_id, call = await _one_call(home, await home.api.agent("event"), row)
            told = await asyncio.to_thread(_told_by_the_dialplan, ami, call["id"])
            await _end(home.api, campaign_id)
    assert (told["Contact"], told["Attempt"], told["FirstName"]) == (call["contact_id"], "1", "Ann")


def _told_by_the_dialplan(ami: Ami, call_id: str) -> Headers:
    return ami.event(
        lambda event: event.get("UserEvent") == "LabAnswered" and event["CallId"] == call_id, seconds=EVENT_SECONDS
    )
