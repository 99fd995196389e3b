"""/trunks: their state, and pauses that hold over restarts."""

from __future__ import annotations

import asyncio
from pathlib import Path

from dialerd.clock import read_id
from dialerd.core.throttle import Rate
from tests.contract.api.house import DEADLINE, House, Template, open_house


async def test_a_trunk_shows_what_the_contract_names(house: House) -> None:
    listed = await house.ask("GET", "/trunks", key="viewer")
    assert (listed.status, listed.json["total"], listed.json["next"]) == (200, 1, None)
    (trunk,) = listed.json["data"]
    assert trunk == {
        "id": "a",
        "pbx": "main",
        "state": "down",
        "reason": trunk["reason"],
        "channels_in_use": 0,
        "max_channels": 100,
        "calls_per_second": 0.0,
        "max_calls_per_second": 100.0,
        "answer_seizure_ratio": None,
    }
    assert "main" in trunk["reason"], "its PBX is not reached"


async def test_a_pause_closes_the_gate_and_shows_in_the_warnings(house: House) -> None:
    paused = await house.ask("POST", "/trunks/a/pause", key="system", json={"reason": "carrier maintenance"})
    assert (paused.status, paused.json["state"], paused.json["reason"]) == (200, "paused", "carrier maintenance")
    campaign_id = await house.campaign("+12025550101")
    started = await house.ask("POST", f"/campaigns/{campaign_id}/start")
    assert any("carrier maintenance" in each for each in started.json["warnings"])
    assert not house.daemon.dispatcher.trunks.gate("a").open
    resumed = await house.ask("POST", "/trunks/a/resume", key="system")
    assert (resumed.status, resumed.json["state"]) == (200, "down")
    assert house.daemon.dispatcher.trunks.gate("a").open
    assert (await house.ask("POST", "/trunks/a/resume", key="system")).status == 200, "harmless when repeated"
    assert (await house.ask("POST", "/trunks/a/pause", key="system")).json["reason"] == "paused by hand"


async def test_a_pause_holds_over_a_restart(template: Template, tmp_path: Path) -> None:
    async with open_house(template, tmp_path) as house:
        await house.ask("POST", "/trunks/a/pause", key="system", json={"reason": "for the night"})
    async with open_house(template, tmp_path, fresh=False) as house:
        trunk = (await house.ask("GET", "/trunks", key="system")).json["data"][0]
        assert (trunk["state"], trunk["reason"]) == ("paused", "for the night")
        await house.ask("POST", "/trunks/a/resume", key="system")
    async with open_house(template, tmp_path, fresh=False) as house:
        assert (await house.ask("GET", "/trunks", key="system")).json["data"][0]["state"] == "down"


async def test_only_a_system_key_pauses(house: House) -> None:
    for verb in ("pause", "resume"):
        assert (await house.ask("POST", f"/trunks/a/{verb}", key="admin")).problem() == (403, "forbidden")
        assert (await house.ask("POST", f"/trunks/b/{verb}", key="system")).problem() == (404, "trunk_not_found")
    unfit = await house.ask("POST", "/trunks/a/pause", key="system", json={"reason": ""})
    assert (unfit.problem(), unfit.fields()) == ((400, "invalid_request"), ["reason"])
    assert (await house.ask("GET", "/trunks")).json["data"][0]["state"] == "down"


async def test_a_tenant_sees_its_own_trunks_only(house: House) -> None:
    assert [each["id"] for each in (await house.ask("GET", "/trunks")).json["data"]] == ["a"]
    every = (await house.ask("GET", "/trunks", key="system")).json
    assert [each["id"] for each in every["data"]] == ["a", "spare"]
    first = (await house.ask("GET", "/trunks?limit=1", key="system")).json
    assert (first["next"], first["total"]) == ("a", 2)
    rest = (await house.ask("GET", f"/trunks?limit=1&after={first['next']}", key="system")).json
    assert ([each["id"] for each in rest["data"]], rest["next"]) == (["spare"], None)
    assert (await house.ask("GET", "/trunks?after=nothing", key="system")).json["data"] == []


def test_the_measured_rate_counts_the_span_of_the_limit() -> None:
    rate = Rate(2.0, guard_seconds=0.0)
    for at in (0.0, 0.5, 1.0):
        rate.sent(at)
    assert rate.measured(1.0) == 2.0, "the send of a second ago is out"
    assert rate.measured(1.6) == 1.0
    assert rate.measured(9.0) == 0.0
    slow = Rate(0.2, guard_seconds=0.0)
    slow.sent(0.0)
    assert slow.measured(4.9) == 0.2
    assert slow.measured(5.0) == 0.0


async def test_nothing_goes_out_through_a_paused_trunk(template: Template, tmp_path: Path) -> None:
    all_day = {"calling_hours_start": "00:00", "calling_hours_end": "00:00", "timezone": "UTC"}
    async with open_house(template, tmp_path, dials=True) as house:
        await house.ask("POST", "/trunks/a/pause", key="system")
        campaign_id = await house.campaign("+12025550151", "+12025550110", settings={**all_day, "max_retries": 0})
        with house.daemon.feed.follow(int(read_id(campaign_id) or 0)) as events:
            started = await house.ask("POST", f"/campaigns/{campaign_id}/start")
            assert any("paused" in each for each in started.json["warnings"])
            await house.ask("POST", "/trunks/a/resume", key="system")
            async with asyncio.timeout(DEADLINE):
                while (await house.ask("GET", f"/campaigns/{campaign_id}")).json["status"] != "completed":
                    await events.next()
        calls = (await house.ask("GET", f"/campaigns/{campaign_id}/calls")).json["data"]
        assert len(calls) == 2, "none was made and called back while the trunk was paused"
        trunk = (await house.ask("GET", "/trunks")).json["data"][0]
        assert (trunk["state"], trunk["channels_in_use"], trunk["answer_seizure_ratio"]) == ("up", 0, 0.5)
