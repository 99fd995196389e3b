"""/dnc: every row, every code; and what the list does to contacts and uploads."""

from __future__ import annotations

from typing import Any

import pytest

from dialerd.clock import read_id
from dialerd.dispatch import exclusions
from dialerd.store import events
from dialerd.store.records import EventKind
from tests.contract.api.house import House

CSV = {"Content-Type": "text/csv"}


async def add(house: House, body: dict[str, Any]) -> Any:
    """Put numbers on the list and return the report."""
    answer = await house.ask("POST", "/dnc", key="admin", json=body)
    assert answer.status == 200, answer
    return answer.json


async def test_one_number_is_listed_normalised_and_taken_off(house: House) -> None:
    report = await add(house, {"phone_number": "(202) 555-0101", "note": "asked us"})
    assert report == {"added": 1, "duplicates": 0, "invalid": 0, "errors": []}
    again = await add(house, {"phone_number": "+1 202 555 0101", "note": "asked again"})
    assert again == {"added": 0, "duplicates": 1, "invalid": 0, "errors": []}
    listed = (await house.ask("GET", "/dnc", key="viewer")).json
    (entry,) = listed.pop("data")
    assert listed == {"limit": 100, "offset": 0, "total": 1, "next": None}
    assert entry.pop("created_at").endswith("Z")
    assert entry == {"phone_number": "+12025550101", "note": "asked us"}
    assert (await house.ask("GET", "/dnc", key="other")).json["total"] == 0

    assert (await house.ask("DELETE", "/dnc/+12025550101", key="other")).problem() == (404, "not_found")
    gone = await house.ask("DELETE", "/dnc/2025550101", key="admin")
    assert (gone.status, gone.body) == (204, b"")
    assert (await house.ask("DELETE", "/dnc/+12025550101", key="admin")).problem() == (404, "not_found")
    assert (await house.ask("DELETE", "/dnc/nonsense", key="admin")).problem() == (404, "not_found")
    assert (await house.ask("GET", "/dnc")).json["total"] == 0


async def test_many_are_listed_and_those_that_are_none_reported(house: House) -> None:
    numbers = ["+12025550101", "+1 202 555 0101", "nobody", "+12025550102", "+1202555\r\n0103"]
    report = await add(house, {"numbers": numbers, "note": "register"})
    errors = report.pop("errors")
    assert report == {"added": 2, "duplicates": 1, "invalid": 2}
    assert [(each["row"], each["value"]) for each in errors] == [(3, "nobody"), (5, "+1202555\\r\\n0103")]
    table = b"phone_number,note\n+12025550103,by letter\n+12025550101,\nx,\n"
    report = await add_csv(house, table)
    assert {key: report[key] for key in ("added", "duplicates", "invalid")} == {
        "added": 1,
        "duplicates": 1,
        "invalid": 1,
    }
    first = (await house.ask("GET", "/dnc?limit=2")).json
    assert [(each["phone_number"], each["note"]) for each in first["data"]] == [
        ("+12025550101", "register"),
        ("+12025550102", "register"),
    ]
    assert first["total"] == 3
    rest = await house.ask("GET", "/dnc", params={"limit": "2", "after": first["next"]})
    assert [(each["phone_number"], each["note"]) for each in rest.json["data"]] == [("+12025550103", "by letter")]
    assert rest.json["next"] is None


async def add_csv(house: House, table: bytes) -> Any:
    """Put a file's numbers on the list and return the report."""
    answer = await house.ask("POST", "/dnc", key="admin", data=table, headers=CSV)
    assert answer.status == 200, answer
    return answer.json


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"phone_number": "x"}, "phone_number"),
        ({"phone_number": "911"}, "phone_number"),
        ({}, ""),
        ({"phone_number": "+12025550101", "numbers": ["+12025550102"]}, ""),
        ({"numbers": []}, "numbers"),
        ({"numbers": [5]}, "numbers.0"),
        ({"phone_number": "+12025550101", "note": "x" * 2001}, "note"),
        ({"phone_number": "+12025550101", "note": "a\r\nb"}, "note"),
        ({"number": "+12025550101"}, "number"),
    ],
)
async def test_refuses_what_does_not_fit(house: House, body: Any, field: str) -> None:
    answer = await house.ask("POST", "/dnc", key="admin", json=body)
    assert answer.problem() == (400, "invalid_request")
    assert answer.fields()[0] == field
    assert (await house.ask("GET", "/dnc")).json["total"] == 0


async def test_a_broken_table_lists_nothing(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exclusions, "STEP", 1)
    broken = b'phone_number,note\n+12025550101,a\n+12025550102,"b"c\n'
    answer = await house.ask("POST", "/dnc", key="admin", data=broken, headers=CSV)
    assert answer.problem() == (400, "invalid_csv")
    unnamed = await house.ask("POST", "/dnc", key="admin", data=b"name\nAnn\n", headers=CSV)
    assert unnamed.problem() == (400, "invalid_csv")
    assert (await house.ask("GET", "/dnc")).json["total"] == 0
    ndjson = {"Content-Type": "application/x-ndjson"}
    assert (await house.ask("POST", "/dnc", key="admin", data=b"{}", headers=ndjson)).problem()[0] == 415


@pytest.mark.parametrize(("method", "path"), [("POST", "/dnc"), ("DELETE", "/dnc/+12025550101")])
async def test_only_admins_change_the_list(house: House, method: str, path: str) -> None:
    answer = await house.ask(method, path, key="operator", json={"phone_number": "+12025550101"})
    assert answer.problem() == (403, "forbidden")


async def test_pending_contacts_are_cancelled_in_every_campaign_of_the_tenant(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exclusions, "_PROBES", 4)
    numbers = [f"+1202555010{index}" for index in range(5)]
    mine = [await house.campaign(*numbers, "+12025550199") for _ in range(2)]
    theirs = await house.campaign(*numbers, key="other", agent_id=await house.agent("other"))
    assert (await add(house, {"numbers": numbers}))["added"] == 5
    for campaign_id in mine:
        listed = (await house.ask("GET", f"/campaigns/{campaign_id}/contacts")).json["data"]
        assert [each["status"] for each in listed] == ["cancelled"] * 5 + ["pending"]
        stats = (await house.ask("GET", f"/campaigns/{campaign_id}")).json["stats"]
        assert (stats["pending"], stats["cancelled"]) == (1, 5)
        number = read_id(campaign_id)
        assert number is not None
        async with house.daemon.store.read() as conn:
            told = await events.after(conn, number, 0, 100)
        assert [each.draft.kind for each in told] == [EventKind.CANCELLED] * 5
        assert {each.draft.phone_number for each in told} == set(numbers)
    assert (await house.ask("GET", f"/campaigns/{theirs}", key="other")).json["stats"]["pending"] == 5


@pytest.mark.parametrize("count", [3, 700])
async def test_an_upload_leaves_listed_numbers_out(house: House, count: int) -> None:
    numbers = [f"+1202{5_000_000 + index:07d}" for index in range(count)]
    await add(house, {"numbers": numbers[1:]})
    campaign_id = await house.campaign()
    table = "\n".join(["phone_number", *numbers, numbers[0], "x"]).encode()
    report = (await house.ask("POST", f"/campaigns/{campaign_id}/contacts", data=table, headers=CSV)).json
    assert (report["added"], report["duplicates"], report["invalid"]) == (1, 1, 1)
    assert report["do_not_call"] == count - 1
    listed = (await house.ask("GET", f"/campaigns/{campaign_id}/contacts")).json
    assert [each["phone_number"] for each in listed["data"]] == numbers[:1]
    assert listed["total"] == 1
