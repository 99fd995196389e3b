"""A whole campaign by command line alone, on the simulated PBX: from the list to its results."""

from __future__ import annotations

import csv
import io

from tests.contract.client.conftest import Terminal

NUMBERS = [f"+1202555{index:02}51" for index in range(20)]


async def test_a_whole_campaign(dialing: Terminal) -> None:
    await dialing.says("agents", "create", "desk", "--dialplan", "dialerd,answered", key="admin")
    await dialing.says("dnc", "add", NUMBERS[0], "--note", "asked not to be called", key="admin")
    made = await dialing.says(
        *("campaigns", "create", "--name", "Spring", "--agent", "desk", "--setting", "concurrent_calls=4"),
        *("--setting", "calling_hours_start=00:00", "--setting", "calling_hours_end=00:00", "--contacts", "-"),
        stdin="\n".join(["phone_number", *NUMBERS]),
    )
    campaign = made.split()[1]
    assert "19 added" in made
    assert "1 on the do-not-call list" in made

    assert await dialing.says("campaigns", "start", campaign) == f"campaign {campaign} is active\n"
    told = await dialing.says("tail", campaign, "--after", "0", "--until-end", "--event", "completed")
    assert len(told.splitlines()) == 19

    shown = await dialing.says("campaigns", "show", campaign)
    assert "status        completed\n" in shown
    assert "outcomes      19 answered\n" in shown
    rows = list(csv.DictReader(io.StringIO(await dialing.says("results", campaign))))
    assert {row["phone_number"]: row["last_outcome"] for row in rows} == dict.fromkeys(NUMBERS[1:], "answered")
