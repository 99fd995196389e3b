"""/campaigns: every row, every code."""

from __future__ import annotations

import io
import json
from datetime import datetime
from typing import Any

import aiohttp
import pytest

from tests.contract.api.house import House

CSV = (
    b"phone_number,first_name,city\n+12025550101,Ann,Rome\n2025550102,Bob,Oslo\nno number,Cy,Bonn\n+12025550101,Dup,X\n"
)


def form(*parts: tuple[str, Any]) -> aiohttp.FormData:
    """A multipart form; a part of bytes is a file."""
    data = aiohttp.FormData(default_to_multipart=True)
    for name, value in parts:
        if isinstance(value, bytes):
            data.add_field(name, io.BytesIO(value), filename="contacts.csv", content_type="text/csv")
        else:
            data.add_field(name, value)
    return data


async def test_a_new_campaign_has_everything_the_contract_names(house: House) -> None:
    agent_id = await house.agent()
    body = {"name": "Autumn", "description": "calls", "agent_id": agent_id, "settings": {"max_retries": 2}}
    made = await house.ask("POST", "/campaigns", json=body)
    assert made.status == 201
    campaign = made.json
    assert made.headers["Location"] == f"/api/v1/campaigns/{campaign['id']}"
    assert campaign.pop("import") is None
    assert set(campaign) == {
        *("id", "name", "description", "agent_id", "status", "settings", "stats"),
        *("created_at", "started_at", "completed_at"),
    }
    assert (campaign["name"], campaign["description"], campaign["agent_id"]) == ("Autumn", "calls", agent_id)
    assert (campaign["status"], campaign["started_at"], campaign["completed_at"]) == ("draft", None, None)
    settings = campaign["settings"]
    assert settings["max_retries"] == 2
    assert (settings["concurrent_calls"], settings["timezone"]) == (7, "America/New_York"), "the tenant's defaults"
    assert (settings["calling_hours_start"], settings["calling_hours_end"]) == ("09:00", "17:00")
    assert campaign["stats"] == {
        **dict.fromkeys(("total", "pending", "originated", "connected", "completed", "failed", "cancelled"), 0),
        "calls_placed": 0,
        "calls_in_flight": 0,
        "answer_rate": 0.0,
        "abandon_rate": 0.0,
        "average_talk_seconds": 0.0,
        "estimated_completion_at": None,
        "outcomes": campaign["stats"]["outcomes"],
    }
    assert campaign["stats"]["outcomes"].keys() >= {"answered", "busy", "no_answer", "cancelled", "interrupted"}
    assert campaign["created_at"].endswith("Z")
    datetime.fromisoformat(campaign["created_at"])
    assert (await house.ask("GET", f"/campaigns/{campaign['id']}", key="viewer")).json == campaign


UNFIT: tuple[tuple[dict[str, Any], list[str]], ...] = (
    ({}, ["name"]),
    ({"name": ""}, ["name"]),
    ({"name": "x" * 201}, ["name"]),
    ({"name": 5}, ["name"]),
    ({"name": "a\r\nAction: Command"}, ["name"]),
    ({"name": "a\u0085b"}, ["name"]),
    ({"name": "a", "description": "b\x00"}, ["description"]),
    ({"name": "a", "colour": "red"}, ["colour"]),
    ({"name": "a", "settings": {"colour": "red"}}, ["settings.colour"]),
    ({"name": "a", "settings": []}, ["settings"]),
    ({"name": "a", "settings": {"timezone": "Mars"}}, ["settings.timezone"]),
    (
        {"name": "a", "settings": {"max_retries": -1, "concurrent_calls": 0}},
        ["settings.concurrent_calls", "settings.max_retries"],
    ),
    ({"name": "a", "settings": {"retry": {"answered": {"delay_seconds": 1}}}}, ["settings.retry"]),
    ({"name": "a", "settings": {"variables": {"A": "x\r\nApplication: System"}}}, ["settings.variables.A"]),
    ({"name": "a", "settings": {"variables": {"A\n": "x"}}}, ["settings.variables.A?"]),
    ({"name": "a", "settings": {"variables": {"SHELL(id)": "x"}}}, ["settings.variables"]),
    ({"name": "a", "settings": {"variables": {"A": "x" * 901}}}, ["settings.variables.A"]),
    ({"name": "a", "settings": {"variables": {f"v{index}": "x" for index in range(26)}}}, ["settings.variables"]),
    ({"name": "a", "settings": {"trunks": ["nobody's"]}}, ["settings.trunks"]),
    ({"name": "a", "settings": {"start_at": "2030-01-01T00:00:00"}}, ["settings.start_at"]),
)


async def test_refuses_what_does_not_fit(house: House) -> None:
    agent_id = await house.agent()
    for body, fields in UNFIT:
        answer = await house.ask("POST", "/campaigns", json={"agent_id": agent_id, **body})
        assert answer.problem() == (400, "invalid_request"), body
        assert answer.fields() == fields
    assert (await house.ask("GET", "/campaigns")).json["pagination"]["total"] == 0


async def test_names_of_two_hundred_characters_and_any_script(house: House) -> None:
    name = "Ü" * 199 + "☎"
    campaign_id = await house.campaign(name=name)
    assert (await house.ask("GET", f"/campaigns/{campaign_id}")).json["name"] == name


async def test_times_come_back_in_utc(house: House) -> None:
    times = {"start_at": "2030-01-01T09:00:00+02:00", "end_at": "2030-01-02T09:00:00Z"}
    campaign_id = await house.campaign(settings=times)
    settings = (await house.ask("GET", f"/campaigns/{campaign_id}")).json["settings"]
    assert (settings["start_at"], settings["end_at"]) == ("2030-01-01T07:00:00Z", "2030-01-02T09:00:00Z")


@pytest.mark.parametrize("agent_id", ["42", "zzzzzzzzzzzzz", "0000000000000", "☎"])
async def test_an_unknown_agent(house: House, agent_id: str) -> None:
    answer = await house.ask("POST", "/campaigns", json={"name": "a", "agent_id": agent_id})
    assert answer.problem() == (400, "agent_not_found")


async def test_an_agent_is_required_unless_the_tenant_has_a_default(house: House) -> None:
    without = await house.ask("POST", "/campaigns", json={"name": "a"})
    assert without.problem() == (400, "invalid_request")
    assert without.fields() == ["agent_id"]
    assert (await house.ask("POST", "/campaigns", key="other", json={"name": "a"})).problem() == (
        400,
        "agent_not_found",
    )
    default = await house.agent("other", name="the default")
    made = await house.ask("POST", "/campaigns", key="other", json={"name": "a"})
    assert (made.status, made.json["agent_id"]) == (201, default)


@pytest.mark.parametrize("file_first", [True, False])
async def test_a_form_with_a_csv_in_any_order(house: House, file_first: bool) -> None:
    parts: list[tuple[str, Any]] = [
        ("name", "Autumn"),
        ("agent_id", await house.agent()),
        ("description", ""),
        ("concurrent_calls", "3"),
        ("keep_open", "true"),
        ("calling_days", "mon, tue"),
        ("blackouts", '["2030-12-25"]'),
        ("retry", '{"busy": {"delay_seconds": 60}}'),
    ]
    parts.insert(0 if file_first else len(parts), ("contacts", CSV))
    made = await house.ask("POST", "/campaigns", data=form(*parts))
    assert made.status == 201, made
    settings = made.json["settings"]
    assert (settings["concurrent_calls"], settings["keep_open"]) == (3, True)
    assert (settings["calling_days"], settings["blackouts"]) == (["mon", "tue"], ["2030-12-25"])
    assert settings["retry"]["busy"]["delay_seconds"] == 60
    assert made.json["description"] is None
    report = made.json["import"]
    assert (report["added"], report["duplicates"], report["invalid"], report["do_not_call"]) == (2, 1, 1, 0)
    assert [(each["row"], each["column"]) for each in report["errors"]] == [(4, "phone_number")]
    assert made.json["stats"]["total"] == made.json["stats"]["pending"] == 2
    listed = (await house.ask("GET", f"/campaigns/{made.json['id']}/contacts")).json["data"]
    assert [(each["phone_number"], each["attributes"]) for each in listed] == [
        ("+12025550101", {"city": "Rome"}),
        ("+12025550102", {"city": "Oslo"}),
    ]


async def test_a_form_with_all_settings_in_one_value(house: House) -> None:
    settings = json.dumps({"max_retries": 1, "retry": {"busy": {"delay_seconds": 60}}})
    parts = [("settings", settings), ("name", "a"), ("agent_id", await house.agent()), ("concurrent_calls", "2")]
    made = await house.ask("POST", "/campaigns", data=form(*parts))
    assert (made.status, made.json["import"]) == (201, None)
    assert (made.json["settings"]["max_retries"], made.json["settings"]["concurrent_calls"]) == (1, 2)


UNFIT_FORMS: tuple[tuple[list[tuple[str, Any]], list[str]], ...] = (
    ([("colour", "red")], ["colour"]),
    ([("name", "again")], ["name"]),
    ([("settings", "[]")], ["settings"]),
    ([("settings", "{")], ["settings"]),
    ([("settings", '{"max_retries": 1}'), ("max_retries", "2")], ["max_retries"]),
    ([("settings", '{"max_retries": "x"}')], ["settings.max_retries"]),
    ([("max_retries", "x")], ["max_retries"]),
    ([("calling_days", "[")], ["calling_days"]),
    ([("calling_days", "moonday")], ["calling_days.0"]),
    ([("trunks", "nobody")], ["trunks"]),
    ([("on_invalid", "explode")], ["on_invalid"]),
    ([("description", "a\nb")], ["description"]),
    ([("description", "x" * 70_000)], ["description"]),
)


async def test_a_form_that_does_not_fit(house: House) -> None:
    agent_id = await house.agent()
    for parts, fields in UNFIT_FORMS:
        answer = await house.ask("POST", "/campaigns", data=form(("name", "a"), ("agent_id", agent_id), *parts))
        assert answer.problem() == (400, "invalid_request"), parts
        assert answer.fields() == fields
    assert (await house.ask("GET", "/campaigns")).json["pagination"]["total"] == 0


@pytest.mark.parametrize(
    ("content", "row"),
    [
        (b"name,city\nAnn,Rome\n", 1),
        (b'phone_number,name\n+12025550101,"Ann\n', 2),
        ("phone_number,name\n+12025550101,Zoë\n".encode("latin-1"), 2),
        (b"phone_number,name\n+12025550101," + b"x" * 10_000_000 + b"\n", 2),
        (b"\x00\x01\x02", None),
        (b"", None),
    ],
    ids=["no phone_number", "broken quoting", "latin-1", "10 MB in a field", "binary", "empty"],
)
async def test_a_table_that_is_none_leaves_no_campaign(house: House, content: bytes, row: int | None) -> None:
    parts = [("name", "a"), ("agent_id", await house.agent()), ("contacts", content)]
    answer = await house.ask("POST", "/campaigns", data=form(*parts))
    assert answer.problem() == (400, "invalid_csv")
    if row is not None:
        assert f"row {row}:" in answer.json["detail"]
        assert [(each["row"], each["code"]) for each in answer.json["errors"]] == [(row, "invalid_csv")]
    assert (await house.ask("GET", "/campaigns")).json["pagination"]["total"] == 0


async def test_reject_leaves_no_campaign(house: House) -> None:
    parts = [("on_invalid", "reject"), ("name", "a"), ("agent_id", await house.agent()), ("contacts", CSV)]
    answer = await house.ask("POST", "/campaigns", data=form(*parts))
    assert answer.problem() == (400, "invalid_request")
    assert [(each["row"], each["column"], each["value"]) for each in answer.json["errors"]] == [
        (4, "phone_number", "no number")
    ]
    assert (await house.ask("GET", "/campaigns")).json["pagination"]["total"] == 0


async def test_lists_pages_newest_first(house: House) -> None:
    agent_id, other_agent = await house.agent(), await house.agent()
    ids = [await house.campaign("+12025550101", agent_id=agent_id, name=f"c{index}") for index in range(3)]
    await house.campaign(agent_id=other_agent)
    await house.campaign(key="other")
    page = (await house.ask("GET", f"/campaigns?agent_id={agent_id}&per_page=2")).json
    assert [each["id"] for each in page["data"]] == ids[:0:-1]
    assert page["pagination"] == {"page": 1, "per_page": 2, "total": 3, "total_pages": 2}
    page = (await house.ask("GET", f"/campaigns?agent_id={agent_id}&per_page=2&page=2")).json
    assert [each["id"] for each in page["data"]] == ids[:1]
    assert page["data"][0] == (await house.ask("GET", f"/campaigns/{ids[0]}")).json
    assert (await house.ask("GET", "/campaigns?page=9")).json["data"] == []
    assert (await house.ask("GET", "/campaigns?agent_id=42")).json["pagination"]["total_pages"] == 0

    await house.ask("POST", f"/campaigns/{ids[1]}/start")
    for status in ("active", "running"):
        found = (await house.ask("GET", f"/campaigns?status={status}")).json["data"]
        assert [(each["id"], each["status"]) for each in found] == [(ids[1], "active")]


UNFIT_QUERIES = (
    ("page=0", "page"),
    ("page=x", "page"),
    ("per_page=201", "per_page"),
    ("status=ended", "status"),
    ("colour=red", "colour"),
    ("page=1&page=2", "page"),
    ("page=99999999999999999999", "page"),
)


async def test_a_query_that_does_not_fit(house: House) -> None:
    for query, field in UNFIT_QUERIES:
        answer = await house.ask("GET", f"/campaigns?{query}")
        assert answer.problem() == (400, "invalid_request"), query
        assert {each.partition(".")[0] for each in answer.fields()} == {field}


async def test_a_campaigns_way(house: House) -> None:
    campaign_id = await house.campaign("+12025550101", "+12025550102")
    path = f"/campaigns/{campaign_id}"
    assert (await house.ask("POST", f"{path}/pause")).problem() == (409, "campaign_not_active")
    assert (await house.ask("POST", f"{path}/resume")).problem() == (409, "campaign_not_paused")

    started = await house.ask("POST", f"{path}/start")
    assert (started.status, started.json["status"]) == (200, "active")
    assert started.json["started_at"].endswith("Z")
    assert any("main" in each for each in started.json["warnings"]), "its PBX is not reached"
    assert (await house.ask("POST", f"{path}/start")).problem() == (409, "campaign_already_active")
    assert (await house.ask("POST", f"{path}/resume")).problem() == (409, "campaign_not_paused")
    assert (await house.ask("DELETE", path)).problem() == (409, "campaign_active")

    paused = await house.ask("POST", f"{path}/pause")
    assert (paused.status, paused.json["status"]) == (200, "paused")
    assert (await house.ask("POST", f"{path}/pause")).problem() == (409, "campaign_not_active")
    resumed = await house.ask("POST", f"{path}/resume", json={})
    assert (resumed.status, resumed.json["status"]) == (200, "active")
    assert "warnings" in resumed.json
    await house.ask("POST", f"{path}/pause")
    assert (await house.ask("POST", f"{path}/start")).json["status"] == "active"

    stopped = await house.ask("POST", f"{path}/stop", json={"hangup": True})
    assert (stopped.status, stopped.json["status"]) == (200, "cancelled")
    assert stopped.json["completed_at"].endswith("Z")
    assert (stopped.json["stats"]["cancelled"], stopped.json["stats"]["pending"]) == (2, 0)
    for verb in ("start", "resume", "stop"):
        assert (await house.ask("POST", f"{path}/{verb}")).problem() == (409, "campaign_finished"), verb
    assert (await house.ask("POST", f"{path}/pause")).problem() == (409, "campaign_not_active")
    more = await house.ask("POST", f"{path}/contacts", json={"contacts": []})
    assert more.problem() == (409, "campaign_finished")

    gone = await house.ask("DELETE", path)
    assert (gone.status, gone.body) == (204, b"")
    assert (await house.ask("GET", path)).problem() == (404, "campaign_not_found")
    assert (await house.ask("DELETE", path)).problem() == (404, "campaign_not_found")


async def test_nothing_to_call(house: House) -> None:
    campaign_id = await house.campaign()
    assert (await house.ask("POST", f"/campaigns/{campaign_id}/start")).problem() == (409, "no_contacts")
    kept_open = await house.campaign(settings={"keep_open": True})
    assert (await house.ask("POST", f"/campaigns/{kept_open}/start")).json["status"] == "active"


@pytest.mark.parametrize("body", [{"hangup": "perhaps"}, {"hang_up": True}])
async def test_a_stop_that_does_not_fit_stops_nothing(house: House, body: dict[str, Any]) -> None:
    campaign_id = await house.campaign("+12025550101")
    answer = await house.ask("POST", f"/campaigns/{campaign_id}/stop", json=body)
    assert answer.problem() == (400, "invalid_request")
    assert (await house.ask("GET", f"/campaigns/{campaign_id}")).json["status"] == "draft"
