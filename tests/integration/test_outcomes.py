"""Campaigns over everything that a far end can do: each call ends in its right outcome, and is sent at most once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.integration.client import Api, Follower
from tests.integration.daemon import CALLER_ID, Stock
from tests.integration.evidence import Numbers, check_one_at_a_time, check_told, match
from tests.integration.house import House, house
from tests.lab.lab import Lab

ANSWER_TIMEOUT = 5
DEADLINE = 60.0


@dataclass(frozen=True, slots=True)
class Row:
    """What calls of one kind end in."""

    trunk: str
    exten: str
    """Where answered calls go in the lab's dialplan."""
    behaviour: str
    contact: str
    outcome: str
    fault: str
    cause: int | None = None
    sip: int | None = None
    """The SIP status, which Asterisk tells from 22 on."""
    hung_up_by: str | None = None
    sent: bool = True
    on_16: Mapping[str, Any] = field(default_factory=dict)
    """What Asterisk 16 tells otherwise."""
    sip_may_lack: bool = False

    def expected(self, version: str, call: Mapping[str, Any]) -> dict[str, Any]:
        """What the call must be recorded as at the end."""
        values = {
            "outcome": self.outcome,
            "fault": self.fault,
            "hangup_cause": self.cause,
            "sip_status": self.sip if version == "22" else None,
            "hung_up_by": self.hung_up_by,
            "status": "ended" if self.sent else "not_sent",
            "contact": self.contact,
        }
        if self.sip_may_lack and call["sip_status"] is None:
            values["sip_status"] = None
        return {**values, **(self.on_16 if version == "16" else {})}


NORMAL_CLEARING = {"hangup_cause": 16}
NO_CAUSE = {"hangup_cause": None}
REJECTED_BY_CALLEE = {"contact": "failed", "fault": "callee", "hung_up_by": "callee"}
"""A 403 bears the cause of a 603, and Asterisk 16 does not tell the status."""

ROWS = (
    # Answered, and the dialplan hangs up.
    Row("trunk", "answered", "00", "completed", "answered", "none", 16, hung_up_by="pbx"),
    Row("trunk", "answered", "02", "completed", "answered", "none", 16, hung_up_by="pbx"),
    Row("trunk", "answered", "04", "completed", "answered", "none", 16, hung_up_by="pbx"),
    Row("carrier-a", "answered", "00", "completed", "answered", "none", 16, hung_up_by="pbx"),
    # Answered, and the far end hangs up.
    Row("trunk", "hold", "01", "completed", "answered", "none", hung_up_by="callee", on_16=NORMAL_CLEARING),
    Row("trunk", "hold", "03", "completed", "answered", "none", hung_up_by="callee", on_16=NORMAL_CLEARING),
    Row("trunk", "hold", "06", "completed", "answered", "none", hung_up_by="callee", on_16=NORMAL_CLEARING),
    # Refused by the callee, or for the number.
    Row("trunk", "answered", "10", "failed", "busy", "callee", 17, 486, "callee"),
    Row("trunk", "answered", "22", "failed", "busy", "callee", 17, 600, "callee"),
    Row("trunk", "answered", "15", "failed", "rejected", "callee", 21, 603, "callee"),
    Row("trunk", "answered", "16", "failed", "no_answer", "callee", 19, 480, "callee"),
    Row("trunk", "answered", "18", "failed", "no_answer", "callee", 19, 480, "callee"),
    Row("trunk", "answered", "11", "failed", "invalid_number", "number", 1, 404),
    Row("trunk", "answered", "23", "failed", "invalid_number", "number", 22, 410),
    Row("trunk", "answered", "17", "failed", "invalid_number", "number", 28, 484),
    # Refused by the trunk.
    Row("trunk", "answered", "12", "pending", "congestion", "trunk", 34, 503),
    Row("trunk", "answered", "19", "pending", "congestion", "trunk", 38, 500),
    Row("trunk", "answered", "21", "pending", "rejected", "trunk", 21, 403, on_16=REJECTED_BY_CALLEE),
    # A redirect is not followed. Whether its status outlives the channel is a race inside Asterisk.
    Row("trunk", "answered", "30", "pending", "failed", "trunk", 23, 302, sip_may_lack=True),
    # No answer: it rings for ever, or nothing but a 100 comes, or nothing at all.
    Row("trunk", "answered", "13", "failed", "no_answer", "callee", 16, hung_up_by="dialer"),
    Row("trunk", "answered", "14", "pending", "unreachable", "trunk", 19, hung_up_by="pbx", on_16=NO_CAUSE),
    Row("trunk", "answered", "20", "pending", "unreachable", "trunk", 19, hung_up_by="pbx", on_16=NO_CAUSE),
    # An endpoint that Asterisk does not know: nothing is sent. What it knows to be down is not even dialled.
    Row("nowhere", "answered", "00", "pending", "unreachable", "trunk", sent=False),
    # Dialled by the dialplan.
    Row("local-out", "answered", "00", "completed", "answered", "none", 16, hung_up_by="pbx"),
    Row("local-out", "answered", "10", "failed", "busy", "callee", 17, hung_up_by="callee"),
    Row("local-out", "answered", "11", "failed", "invalid_number", "number", 1),
    Row("local-out", "answered", "13", "failed", "no_answer", "callee", 16, hung_up_by="dialer"),
    Row("local-out", "hold", "01", "completed", "answered", "none", 16, hung_up_by="callee"),
)
CONTACTS = 200


@dataclass(slots=True)
class _Campaign:
    """The contacts of one trunk and one place for answered calls."""

    id: str
    rows: dict[str, Row]
    """By telephone number."""


def _numbered() -> Iterator[tuple[str, Row]]:
    """Give two hundred numbers, each kind as often as the others, those that take longest first."""
    numbers = Numbers(202)
    slowest_first = sorted(ROWS, key=lambda row: row.behaviour not in ("13", "14", "20"))
    for index in range(CONTACTS):
        row = slowest_first[index % len(ROWS)]
        yield numbers.next(row.behaviour), row


async def _make(api: Api) -> list[_Campaign]:
    by_place: dict[tuple[str, str], dict[str, Row]] = {}
    for number, row in _numbered():
        by_place.setdefault((row.trunk, row.exten), {})[number] = row
    agents = {exten: await api.agent(exten) for exten in {exten for _, exten in by_place}}
    made = []
    for (trunk, exten), rows in by_place.items():
        campaign_id = await api.campaign(
            agents[exten],
            [{"phone_number": number} for number in rows],
            trunks=[trunk],
            concurrent_calls=CONTACTS,
            max_retries=0,
            answer_timeout=ANSWER_TIMEOUT,
        )
        made.append(_Campaign(campaign_id, rows))
    return made


async def test_every_far_end_behaviour_ends_in_its_outcome(lab: Lab, tmp_path: Path, stock: Stock) -> None:
    async with house(lab, tmp_path, stock) as home:
        campaigns = await _make(home.api)
        await asyncio.gather(*(_dial(home.api, each) for each in campaigns))
        calls = [call for each in campaigns for call in await home.api.calls(each.id)]
        wrong = [wrong for each in campaigns for wrong in await _wrong(home, each)]
        assert not wrong, "\n".join(wrong)
        _check_sent_once(lab, calls)


async def _dial(api: Api, campaign: _Campaign) -> None:
    async with api.follow(campaign.id) as follower:
        await api.step(campaign.id, "start")
        await follower.settled(len(campaign.rows), DEADLINE)
        contacts = await api.contacts(campaign.id)
        check_told(follower.told, contacts)
        await _check_end(api, campaign, follower)


async def _check_end(api: Api, campaign: _Campaign, follower: Follower) -> None:
    """A campaign with nobody left is completed; one whose contacts wait for their retries is stopped by hand."""
    waiting = [contact for contact in await api.contacts(campaign.id) if contact["status"] == "pending"]
    assert all(contact["next_attempt_at"] is not None for contact in waiting)
    if waiting:
        assert (await api.step(campaign.id, "stop"))["status"] == "cancelled"
    await follower.finished(DEADLINE)
    after = {contact["id"]: contact["status"] for contact in await api.contacts(campaign.id)}
    assert {after[contact["id"]] for contact in waiting} <= {"cancelled"}
    stats = (await api.show(campaign.id))["stats"]
    assert (stats["pending"], stats["calls_in_flight"], stats["calls_placed"]) == (0, 0, len(campaign.rows))


async def _wrong(home: House, campaign: _Campaign) -> list[str]:
    """What was recorded otherwise than expected."""
    contacts = {each["phone_number"]: each for each in await home.api.contacts(campaign.id)}
    wrong = []
    for call in await home.api.calls(campaign.id):
        row = campaign.rows[call["phone_number"]]
        expected = row.expected(home.lab.version, call)
        status = contacts[call["phone_number"]]["status"]
        got = {name: call.get(name) for name in expected} | {"contact": "pending" if status == "cancelled" else status}
        if got != expected:
            other = {name: (got[name], expected[name]) for name in got if got[name] != expected[name]}
            wrong.append(f"{row.trunk} {row.exten} {row.behaviour}: (got, expected) {other}")
    return wrong


def _check_sent_once(lab: Lab, calls: list[dict[str, Any]]) -> None:
    """One Call-ID for each attempt but those recorded as never sent, which have none; and one attempt for each."""
    assert len(calls) == CONTACTS
    check_one_at_a_time(calls)
    seen = match(calls, lab.ledger().of(call["phone_number"].removeprefix("+") for call in calls))
    assert {call["id"] for call in calls if call["id"] not in seen} == {
        call["id"] for call in calls if call["status"] == "not_sent"
    }
    assert {each.from_user for each in seen.values()} == {CALLER_ID}
