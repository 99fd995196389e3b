"""/campaigns/{id}/contacts and /calls: every row, every code."""

from __future__ import annotations

import contextlib
import io
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from dialerd.api.context import SEARCHES, Limits
from dialerd.clock import read_id, show_id
from dialerd.core.model import CallStatus, ContactStatus, HungUpBy
from dialerd.core.outcome import Fault, Outcome
from dialerd.store import contacts
from dialerd.store.records import CallStep
from tests.contract.api.house import House, Template, open_house
from tests.contract.api.test_campaigns import form

CSV = {"Content-Type": "text/csv"}
GOOD = b"phone_number;first_name\n+12025550101;Ann\n(202) 555-0102;Bob\n"


async def test_adds_json_and_lists_it(house: House) -> None:
    campaign_id = await house.campaign()
    items: list[Any] = [
        {"phone": "+12025550101", "first_name": "Ann", "last_name": "Lee", "email": "a@b.c", "company": "Acme"},
        {"phone_number": "2025550102", "timezone": "Europe/Rome", "priority": 5, "external_id": "x1", "SHELL(id)": "y"},
        {"phone": "+1 202 555 0101"},
        {"phone": "no number"},
        {"phone": "+12025550104", "first_name": "Bob\r\nAction: Command"},
        {"first_name": "Nobody"},
        "+12025550105",
    ]
    added = await house.ask("POST", f"/campaigns/{campaign_id}/contacts", json={"contacts": items})
    assert added.status == 200
    report = added.json
    assert read_id(report.pop("import_id")) is not None
    errors = report.pop("errors")
    assert report == {"added": 2, "duplicates": 1, "invalid": 4, "do_not_call": 0}
    assert [(each["row"], each["column"]) for each in errors] == [
        (4, "phone"),
        (5, "first_name"),
        (6, "phone_number"),
        (7, None),
    ]
    assert all(set(each) == {"row", "column", "value", "code", "message"} for each in errors)
    assert errors[1]["value"] == "Bob\\r\\nAction: Command"

    listed = (await house.ask("GET", f"/campaigns/{campaign_id}/contacts", key="viewer")).json
    ann, bob = listed.pop("data")
    assert listed == {"limit": 100, "offset": 0, "total": 2, "next": None}
    contact_id, updated_at = ann.pop("id"), ann.pop("updated_at")
    assert read_id(contact_id) is not None
    assert updated_at.endswith("Z")
    assert ann == {
        "phone_number": "+12025550101",
        "first_name": "Ann",
        "last_name": "Lee",
        "email": "a@b.c",
        "company": "Acme",
        "timezone": None,
        "priority": 0,
        "external_id": None,
        "attributes": {},
        "status": "pending",
        "attempts": 0,
        "last_outcome": None,
        "next_attempt_at": None,
    }
    assert (bob["phone_number"], bob["timezone"], bob["priority"]) == ("+12025550102", "Europe/Rome", 5)
    assert (bob["external_id"], bob["attributes"]) == ("x1", {"SHELL(id)": "y"})


async def test_adds_csv_ndjson_and_forms(house: House) -> None:
    campaign_id = await house.campaign()
    path = f"/campaigns/{campaign_id}/contacts"
    assert (await house.ask("POST", path, data=GOOD, headers=CSV)).json["added"] == 2
    again = await house.ask(
        "POST", path, data=GOOD, headers={"Content-Type": "text/csv; charset=utf-8; header=present"}
    )
    assert (again.json["added"], again.json["duplicates"]) == (0, 2)
    lines = b'{"phone": "+12025550103", "city": "Rome"}\n{"phone": 5}\n'
    ndjson = await house.ask("POST", path, data=lines, headers={"Content-Type": "application/x-ndjson"})
    assert (ndjson.json["added"], ndjson.json["invalid"]) == (1, 1)
    parts = [("contacts", b"phone\n+12025550104\n"), ("on_invalid", "reject")]
    assert (await house.ask("POST", path, data=form(*parts))).json["added"] == 1
    assert (await house.ask("GET", path)).json["total"] == 4


async def test_columns_named_like_functions_are_attributes(house: House) -> None:
    campaign_id = await house.campaign()
    table = b"phone_number,SHELL(id),CALLERID(num)\n+12025550101,x,+19005550100\n"
    added = await house.ask("POST", f"/campaigns/{campaign_id}/contacts", data=table, headers=CSV)
    assert added.json["added"] == 1
    (contact,) = (await house.ask("GET", f"/campaigns/{campaign_id}/contacts")).json["data"]
    assert contact["attributes"] == {"SHELL(id)": "x", "CALLERID(num)": "+19005550100"}


async def test_reject_keeps_none(house: House) -> None:
    campaign_id = await house.campaign("+12025550100")
    path = f"/campaigns/{campaign_id}/contacts"
    table = b"phone_number\n+12025550101\nx\n"
    answers = [
        await house.ask("POST", f"{path}?on_invalid=reject", data=table, headers=CSV),
        await house.ask("POST", path, data=form(("on_invalid", "reject"), ("contacts", table))),
        await house.ask(
            "POST", path, json={"contacts": [{"phone": "+12025550101"}, {"phone": "x"}], "on_invalid": "reject"}
        ),
    ]
    for answer in answers:
        assert answer.problem() == (400, "invalid_request")
        (error,) = answer.json["errors"]
        assert error["value"] == "x"
        assert error["field"] == error["column"]
        assert error["code"]
    assert (await house.ask("GET", path)).json["total"] == 1
    assert (await house.ask("POST", f"{path}?on_invalid=skip", data=table, headers=CSV)).json["added"] == 1


@pytest.mark.parametrize(
    "content",
    [
        b"name\nAnn\n",
        b'phone_number,name\n+12025550101,"Ann\n',
        b'phone_number,name\n+12025550101,A"nn"\n+12025550102,"x"y\n',
        "phone_number,name\n+12025550101,Zoë\n".encode("latin-1"),
        b"phone_number,name\n+12025550100,a\n+12025550101," + b"x" * 10_000_000 + b"\n",
        b"",
    ],
    ids=["no phone_number", "open quote", "text after quote", "latin-1", "10 MB in a field", "empty"],
)
async def test_a_table_that_is_none_adds_nothing(house: House, content: bytes) -> None:
    campaign_id = await house.campaign()
    answer = await house.ask("POST", f"/campaigns/{campaign_id}/contacts", data=io.BytesIO(content), headers=CSV)
    assert answer.problem() == (400, "invalid_csv")
    assert (await house.ask("GET", f"/campaigns/{campaign_id}/contacts")).json["total"] == 0


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "contacts"),
        ({"contacts": {}}, "contacts"),
        ({"contacts": [], "colour": "red"}, "colour"),
        ({"contacts": [], "on_invalid": "explode"}, "on_invalid"),
    ],
)
async def test_json_that_does_not_fit(house: House, body: dict[str, Any], field: str) -> None:
    campaign_id = await house.campaign()
    answer = await house.ask("POST", f"/campaigns/{campaign_id}/contacts", json=body)
    assert answer.problem() == (400, "invalid_request")
    assert answer.fields() == [field]


async def test_forms_that_do_not_fit(house: House) -> None:
    path = f"/campaigns/{await house.campaign()}/contacts"
    without = await house.ask("POST", path, data=form(("on_invalid", "skip")))
    assert without.fields() == ["contacts"]
    other = await house.ask("POST", path, data=form(("contacts", GOOD), ("colour", "red")))
    assert other.fields() == ["colour"]
    assert (await house.ask("POST", f"{path}?on_invalid=x", json={"contacts": []})).fields() == ["on_invalid"]
    assert (await house.ask("GET", path)).json["total"] == 0


async def test_a_large_upload_keeps_its_order_and_says_all(house: House) -> None:
    path = f"/campaigns/{await house.campaign()}/contacts"
    rows = [f"+1202{5550000 + index:07d}" if index % 10 else "bad" for index in range(3000)]
    added = await house.ask("POST", path, data=("phone_number\n" + "\n".join(rows)).encode(), headers=CSV)
    assert (added.json["added"], added.json["invalid"]) == (2700, 300)
    assert [each["row"] for each in added.json["errors"]] == [2 + 10 * index for index in range(100)]
    found: list[str] = []
    after = ""
    while True:
        page = (await house.ask("GET", f"{path}?limit=1000{after}")).json
        found += [each["phone_number"] for each in page["data"]]
        assert page["total"] == 2700
        if page["next"] is None:
            break
        after = f"&after={page['next']}"
    assert found == [row for row in rows if row != "bad"]


async def test_lists_by_status_limit_offset_and_cursor(house: House) -> None:
    campaign_id = await house.campaign(*(f"+1202555010{digit}" for digit in range(5)))
    path = f"/campaigns/{campaign_id}/contacts"
    every = (await house.ask("GET", path)).json["data"]
    page = (await house.ask("GET", f"{path}?limit=2&offset=1&status=pending")).json
    assert page["data"] == every[1:3]
    assert (page["limit"], page["offset"], page["total"], page["next"]) == (2, 1, 5, every[2]["id"])
    rest = (await house.ask("GET", f"{path}?after={page['next']}")).json
    assert (rest["data"], rest["next"]) == (every[3:], None)
    none = (await house.ask("GET", f"{path}?status=failed")).json
    assert (none["data"], none["total"]) == ([], 0)
    await house.ask("POST", f"/campaigns/{campaign_id}/stop")
    cancelled = (await house.ask("GET", f"{path}?status=cancelled")).json
    assert cancelled["total"] == 5
    assert [each["id"] for each in cancelled["data"]] == [each["id"] for each in every]
    for query, field in (
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("offset=-1", "offset"),
        ("status=x", "status"),
    ):
        answer = await house.ask("GET", f"{path}?{query}")
        assert answer.problem() == (400, "invalid_request")
        assert answer.fields() == [field]


async def test_a_finished_campaign_takes_no_contacts(house: House) -> None:
    campaign_id = await house.campaign("+12025550100")
    await house.ask("POST", f"/campaigns/{campaign_id}/stop")
    ways: tuple[dict[str, Any], ...] = ({"json": {"contacts": []}}, {"data": GOOD, "headers": CSV})
    for how in ways:
        answer = await house.ask("POST", f"/campaigns/{campaign_id}/contacts", **how)
        assert answer.problem() == (409, "campaign_finished")


async def test_active_and_paused_campaigns_take_contacts(house: House) -> None:
    campaign_id = await house.campaign("+12025550100")
    path = f"/campaigns/{campaign_id}"
    await house.ask("POST", f"{path}/start")
    assert (await house.ask("POST", f"{path}/contacts", json={"contacts": [{"phone": "+12025550101"}]})).json[
        "added"
    ] == 1
    await house.ask("POST", f"{path}/pause")
    assert (await house.ask("POST", f"{path}/contacts", json={"contacts": [{"phone": "+12025550102"}]})).json[
        "added"
    ] == 1
    assert (await house.ask("GET", path)).json["stats"]["pending"] == 3


async def test_calls_and_statistics(house: House) -> None:
    campaign_id = await house.campaign("+12025550100", "+12025550101", "+12025550102")
    await house.ask("POST", f"/campaigns/{campaign_id}/start")
    number = read_id(campaign_id)
    assert number is not None
    answered, abandoned, live = await house.dial(number)
    steps = []
    async with house.daemon.store.read() as conn:
        known = await contacts.get_many(conn, [answered.contact_id, abandoned.contact_id])
    for call, outcome, talk in ((answered, Outcome.ANSWERED, 12.5), (abandoned, Outcome.ABANDONED, 0.5)):
        ended = replace(
            call,
            status=CallStatus.ENDED,
            outcome=outcome,
            fault=Fault.NONE,
            hangup_cause=16,
            hangup_text="Normal Clearing",
            sip_status=200,
            hung_up_by=HungUpBy.CALLEE,
            ringing_at=call.originated_at + timedelta(seconds=1),
            answered_at=call.originated_at + timedelta(seconds=2),
            ended_at=call.originated_at + timedelta(seconds=20),
            talk_seconds=talk,
        )
        done = replace(known[call.contact_id], status=ContactStatus.COMPLETED, last_outcome=outcome)
        steps.append(CallStep(ended, done, ContactStatus.ORIGINATED, None))
    await house.daemon.store.record([], steps)

    stats = (await house.ask("GET", f"/campaigns/{campaign_id}")).json["stats"]
    assert (stats["total"], stats["completed"], stats["originated"]) == (3, 2, 1)
    assert (stats["calls_placed"], stats["calls_in_flight"]) == (3, 1)
    assert (stats["answer_rate"], stats["abandon_rate"], stats["average_talk_seconds"]) == (1.0, 0.5, 6.5)
    assert (stats["outcomes"]["answered"], stats["outcomes"]["abandoned"], stats["outcomes"]["busy"]) == (1, 1, 0)

    listed = (await house.ask("GET", f"/campaigns/{campaign_id}/calls", key="viewer")).json
    assert (listed["total"], listed["next"]) == (3, None)
    first = listed["data"][0]
    assert set(first) == {
        *("id", "contact_id", "attempt", "pbx", "trunk", "caller_id", "phone_number", "status", "outcome", "fault"),
        *("hangup_cause", "hangup_text", "sip_status", "hung_up_by", "originated_at", "ringing_at", "answered_at"),
        *("handed_over_at", "ended_at", "talk_seconds", "recording"),
    }
    assert (first["id"], first["contact_id"]) == (answered.id, show_id(answered.contact_id))
    assert (first["outcome"], first["fault"], first["hangup_cause"]) == ("answered", "none", 16)
    assert (first["status"], first["hung_up_by"], first["talk_seconds"]) == ("ended", "callee", 12.5)
    assert first["answered_at"].endswith("Z")
    assert [each["status"] for each in listed["data"]] == ["ended", "ended", "originated"]

    page = (await house.ask("GET", f"/campaigns/{campaign_id}/calls?limit=2")).json
    assert page["next"] == abandoned.id
    rest = (await house.ask("GET", f"/campaigns/{campaign_id}/calls?limit=2&after={page['next']}")).json
    assert [each["id"] for each in rest["data"]] == [live.id]
    assert (await house.ask("GET", f"/campaigns/{campaign_id}/calls?after=nothing")).json["data"] == []


async def test_few_search_through_whole_lists_at_once_and_all_else_is_served(
    template: Template, tmp_path: Path
) -> None:
    async with (
        open_house(template, tmp_path, Limits(search_seconds=0.05)) as house,
        contextlib.AsyncExitStack() as busy,
    ):
        path = f"/campaigns/{await house.campaign('+12025550101')}/contacts"
        for _ in range(SEARCHES):
            assert (await house.ask("GET", f"{path}?q=2025")).json["total"] == 1
            await busy.enter_async_context(house.daemon.api.searches)
        late = await house.ask("GET", f"{path}?q=2025")
        assert late.problem() == (429, "rate_limited")
        assert int(late.headers["Retry-After"]) > 0
        for question in ("?q=%2B1202", "?status=pending", ""):
            assert (await house.ask("GET", f"{path}{question}")).json["total"] == 1
        await busy.aclose()
        assert (await house.ask("GET", f"{path}?q=2025")).json["total"] == 1
