"""results.csv, rejects.csv and the filters of calls: every row, every code."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from dialerd.api import exports, results
from dialerd.api.exports import cell
from dialerd.clock import read_id, show_id
from dialerd.core.model import CallStatus, ContactStatus
from dialerd.core.outcome import Fault, Outcome
from dialerd.store import calls, contacts
from dialerd.store.errors import StoreError
from dialerd.store.records import CallStep
from tests.contract.api.house import Answer, House

NDJSON = {"Content-Type": "application/x-ndjson"}
RESULTS = [
    *("status", "last_outcome", "attempts", "last_call_at", "talk_seconds"),
    *("trunk", "caller_id", "hangup_cause", "sip_status"),
]


def table(answer: Answer) -> list[list[str]]:
    """A good answer's rows, read as strictly as can be."""
    assert answer.status == 200, answer
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert answer.body.endswith(b"\r\n")
    return list(csv.reader(io.StringIO(answer.body.decode(), newline=""), strict=True))


async def upload(house: House, campaign_id: str, *items: Mapping[str, Any]) -> Any:
    """Add contacts and return the report."""
    path = f"/campaigns/{campaign_id}/contacts"
    return (await house.ask("POST", path, json={"contacts": list(items)})).json


async def end_calls(house: House, campaign_id: str, outcome: Outcome = Outcome.ANSWERED) -> None:
    """Dial every pending contact, and let each call end."""
    number = read_id(campaign_id)
    assert number is not None
    await house.ask("POST", f"/campaigns/{campaign_id}/start")
    made = await house.dial(number)
    async with house.daemon.store.read() as conn:
        found = await contacts.get_many(conn, [call.contact_id for call in made])
    steps = [
        CallStep(
            replace(
                call,
                status=CallStatus.ENDED,
                outcome=outcome,
                fault=Fault.NONE,
                ended_at=call.originated_at + timedelta(seconds=9),
                talk_seconds=7.25,
                hangup_cause=16,
                sip_status=200,
            ),
            replace(found[call.contact_id], status=ContactStatus.COMPLETED, last_outcome=outcome),
            ContactStatus.ORIGINATED,
            None,
        )
        for call in made
    ]
    await house.daemon.store.record([], steps)


async def test_results_have_the_uploaded_columns_then_ours(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "PAGE", 2)
    campaign_id = await house.campaign(settings={"keep_open": True})
    await upload(house, campaign_id, {"phone": "+12025550101", "first_name": 'Ann "A", Lee', "plan": "gold"})
    await end_calls(house, campaign_id)
    await upload(
        house,
        campaign_id,
        {"phone": "+12025550102", "external_id": "x1", "status": "vip"},
        {"phone": "+12025550103", "plan": "=1+1", "priority": 5},
    )
    answer = await house.ask("GET", f"/campaigns/{campaign_id}/results.csv", key="viewer")
    assert answer.headers["Content-Disposition"] == f'attachment; filename="results-{campaign_id}.csv"'
    header, *rows = table(answer)
    assert header == [
        *("phone_number", "first_name", "priority", "external_id", "plan", "status (uploaded)"),
        *RESULTS,
    ]
    (call,) = (await house.ask("GET", f"/campaigns/{campaign_id}/calls")).json["data"]
    first = ["+12025550101", 'Ann "A", Lee', "0", "", "gold", "", "completed", "answered", "1"]
    assert rows == [
        [*first, call["originated_at"], "7.25", "a", "+12025550199", "16", "200"],
        ["+12025550102", "", "0", "x1", "", "vip", "pending", "", "0", "", "", "", "", "", ""],
        ["+12025550103", "", "5", "", "'=1+1", "", "pending", "", "0", "", "", "", "", "", ""],
    ]


async def test_results_of_nobody_are_a_header_and_the_last_call_counts(house: House) -> None:
    empty = await house.campaign()
    assert table(await house.ask("GET", f"/campaigns/{empty}/results.csv")) == [["phone_number", *RESULTS]]
    campaign_id = await house.campaign("+12025550101", settings={"keep_open": True})
    await end_calls(house, campaign_id, Outcome.MACHINE)
    due_at = house.clock.wall().isoformat()
    again = {"phone_number": "+12025550101", "due_at": due_at}
    assert (await house.ask("POST", f"/campaigns/{campaign_id}/callbacks", json=again)).status == 201
    number = read_id(campaign_id)
    assert number is not None
    await house.dial(number)
    _, row = table(await house.ask("GET", f"/campaigns/{campaign_id}/results.csv"))
    listed = (await house.ask("GET", f"/campaigns/{campaign_id}/calls")).json["data"]
    assert len(listed) == 2
    assert row[1:4] == ["originated", "machine", "2"]
    assert row[4:6] == [listed[-1]["originated_at"], ""]


async def test_attributes_beyond_all_measure_share_one_column(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "MOST_ATTRIBUTES", 2)
    campaign_id = await house.campaign()
    await upload(house, campaign_id, {"phone": "+12025550101", "a": "1", "b": "2", "c": "3", "d": "4"})
    await upload(house, campaign_id, {"phone": "+12025550102", "b": "5"})
    header, first, second = table(await house.ask("GET", f"/campaigns/{campaign_id}/results.csv"))
    assert header[:4] == ["phone_number", "a", "b", "attributes"]
    assert first[:4] == ["+12025550101", "1", "2", '{"c": "3", "d": "4"}']
    assert second[:4] == ["+12025550102", "", "5", ""]


async def test_a_store_that_fails_midway_breaks_the_table_off(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "PAGE", 1)
    campaign_id = await house.campaign("+12025550101", "+12025550102")
    asked: list[object] = []
    real = calls.last_of

    async def failing(conn: Any, ids: Any) -> Any:
        asked.append(ids)
        if len(asked) > failing_after:
            raise StoreError("disk I/O error")
        return await real(conn, ids)

    monkeypatch.setattr(calls, "last_of", failing)
    failing_after = 0
    answer = await house.ask("GET", f"/campaigns/{campaign_id}/results.csv")
    assert answer.problem() == (500, "database_error")
    failing_after = 2
    with pytest.raises(Exception, match="payload"):
        await house.ask("GET", f"/campaigns/{campaign_id}/results.csv")
    assert len(asked) == 3


async def test_rejected_rows_say_why(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "PAGE", 2)
    campaign_id, other = await house.campaign(), await house.campaign()
    lines = b'{"phone": "x1"}\n{"phone": "+12025550101"}\n{"phone": "=2"}\n{"phone": "x3"}\n'
    path = f"/campaigns/{campaign_id}"
    report = (await house.ask("POST", f"{path}/contacts", data=lines, headers=NDJSON)).json
    answer = await house.ask("GET", f"{path}/imports/{report['import_id']}/rejects.csv", key="viewer")
    header, *rows = table(answer)
    assert header == ["row", "column", "value", "code", "message"]
    assert [row[:3] for row in rows] == [["1", "phone", "x1"], ["3", "phone", "'=2"], ["4", "phone", "x3"]]
    errors = report["errors"]
    assert [row[3:] for row in rows] == [[each["code"], each["message"]] for each in errors]
    for import_id, of in ((house.nobody(), campaign_id), ("never an id", campaign_id), (report["import_id"], other)):
        missing = await house.ask("GET", f"/campaigns/{of}/imports/{import_id}/rejects.csv")
        assert missing.problem() == (404, "import_not_found")


@pytest.mark.parametrize("path", ["results.csv", "imports/x/rejects.csv"])
async def test_tables_of_a_campaign_that_is_not_there(house: House, path: str) -> None:
    answer = await house.ask("GET", f"/campaigns/{house.nobody()}/{path}")
    assert answer.problem() == (404, "campaign_not_found")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("+12025550101", "+12025550101"),
        ("-5", "-5"),
        ("-1.5", "-1.5"),
        ("=1+1", "'=1+1"),
        ("+1+1", "'+1+1"),
        ("+12025550101\t=1", "'+12025550101\t=1"),
        ("-cmd|' /C calc'!A0", "'-cmd|' /C calc'!A0"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("a=1", "a=1"),
        ("", ""),
        (None, ""),
        (7.0, "7"),
        (-7.25, "-7.25"),
        (16, "16"),
    ],
)
def test_cells_are_no_formulas(value: str | float | None, text: str) -> None:
    assert cell(value) == text
    assert exports.encode([[value, "x"]]).decode().endswith(",x\r\n")


async def test_calls_by_contact_and_by_outcome(house: House) -> None:
    campaign_id = await house.campaign("+12025550101", "+12025550102", settings={"keep_open": True})
    await end_calls(house, campaign_id, Outcome.BUSY)
    await upload(house, campaign_id, {"phone": "+12025550103"})
    await end_calls(house, campaign_id, Outcome.ANSWERED)
    path = f"/campaigns/{campaign_id}/calls"
    every = (await house.ask("GET", path)).json["data"]
    assert [each["outcome"] for each in every] == ["busy", "busy", "answered"]
    for query, expected in (
        ("outcome=busy", every[:2]),
        ("outcome=answered", every[2:]),
        ("outcome=failed", []),
        (f"contact_id={every[0]['contact_id']}", every[:1]),
        (f"contact_id={every[0]['contact_id']}&outcome=answered", []),
        (f"contact_id={show_id(1)}", []),
        ("contact_id=never", []),
    ):
        found = (await house.ask("GET", f"{path}?{query}")).json
        assert (found["data"], found["total"], found["next"]) == (expected, len(expected), None), query
    first = (await house.ask("GET", f"{path}?outcome=busy&limit=1")).json
    assert (first["total"], first["next"]) == (2, every[0]["id"])
    rest = (await house.ask("GET", f"{path}?outcome=busy&limit=1&after={first['next']}")).json
    assert (rest["data"], rest["next"]) == (every[1:2], None)
    assert (await house.ask("GET", f"{path}?outcome=gone")).problem() == (400, "invalid_request")
