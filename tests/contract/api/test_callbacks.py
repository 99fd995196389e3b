"""/campaigns/{id}/callbacks: every row, every code."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dialerd.clock import read_id
from dialerd.core.model import CallStatus, Contact, ContactStatus
from dialerd.core.outcome import Fault, Outcome
from dialerd.store import contact_list, contacts, events
from dialerd.store.records import CallStep, EventKind
from tests.contract.api.house import Answer, House

NUMBER, SECOND = "+12025550101", "+12025550102"
HOURS = (14, 16, 9)


class Promises:
    """A campaign of one tenant, and what is promised in it."""

    def __init__(self, house: House, campaign_id: str) -> None:
        self.house = house
        self.campaign_id = campaign_id
        self.path = f"/campaigns/{campaign_id}/callbacks"

    def later(self, hours: float = 24) -> str:
        """A moment so many hours ahead."""
        return (self.house.clock.wall() + timedelta(hours=hours)).isoformat().replace("+00:00", "Z")

    async def make(self, **body: Any) -> Answer:
        """Promise a callback, by default in a day."""
        return await self.house.ask("POST", self.path, json={"due_at": self.later(), **body})

    async def contact(self, number: str = NUMBER) -> dict[str, Any]:
        """A contact as the API shows it."""
        listed = await self.house.ask("GET", f"/campaigns/{self.campaign_id}/contacts")
        (found,) = [each for each in listed.json["data"] if each["phone_number"] == number]
        return dict(found)

    async def stored(self) -> Contact:
        """The only contact, with what the API does not show."""
        async with self.house.daemon.store.read() as conn:
            (found,) = await contact_list.page(conn, self.number, contact_list.Filter(), limit=2)
        return found

    @property
    def number(self) -> int:
        """The campaign's id in the store."""
        found = read_id(self.campaign_id)
        assert found is not None
        return found

    async def dial(self, *, end: ContactStatus | None = None) -> None:
        """Start the campaign, let its contacts be in flight, and end their calls if wanted."""
        await self.house.ask("POST", f"/campaigns/{self.campaign_id}/start")
        made = await self.house.dial(self.number)
        if end is None:
            return
        async with self.house.daemon.store.read() as conn:
            found = await contacts.get_many(conn, [call.contact_id for call in made])
        now = self.house.clock.wall()
        answered = end is ContactStatus.COMPLETED
        outcome, fault = (Outcome.ANSWERED, Fault.NONE) if answered else (Outcome.BUSY, Fault.CALLEE)
        steps = [
            CallStep(
                replace(call, status=CallStatus.ENDED, outcome=outcome, fault=fault, ended_at=now, talk_seconds=1.0),
                replace(
                    found[call.contact_id], status=end, callee_tries=4, mishaps=2, outcomes={"busy": 4}, updated_at=now
                ),
                ContactStatus.ORIGINATED,
                None,
            )
            for call in made
        ]
        await self.house.daemon.store.record([], steps)


@pytest.fixture
async def promises(house: House) -> Promises:
    """A campaign that stays open, with one contact."""
    return Promises(house, await house.campaign(NUMBER, settings={"keep_open": True}))


async def test_promises_lists_and_withdraws(promises: Promises, house: House) -> None:
    contact = await promises.contact()
    due_at = promises.later(5)
    made = await promises.make(contact_id=contact["id"], due_at=due_at, note="after lunch")
    assert made.status == 201, made
    callback_id = made.json["id"]
    assert made.headers["Location"].endswith(f"{promises.path}/{callback_id}")
    assert datetime.fromisoformat(made.json["created_at"]) <= house.clock.wall()
    assert {key: value for key, value in made.json.items() if key not in ("id", "created_at")} == {
        "contact_id": contact["id"],
        "phone_number": NUMBER,
        "due_at": due_at,
        "note": "after lunch",
        "status": "pending",
    }
    assert (await promises.contact())["next_attempt_at"] == due_at
    listed = (await house.ask("GET", promises.path, key="viewer")).json
    assert listed == {"data": [made.json], "limit": 100, "offset": 0, "total": 1, "next": None}

    gone = await house.ask("DELETE", f"{promises.path}/{callback_id}")
    assert (gone.status, gone.body) == (204, b"")
    again = await house.ask("DELETE", f"{promises.path}/{callback_id}")
    assert again.problem() == (404, "callback_not_found")
    assert (await house.ask("GET", promises.path)).json["total"] == 0
    contact = await promises.contact()
    assert (contact["status"], contact["next_attempt_at"]) == ("pending", None), "due at once, as before"


async def test_lists_soonest_first_and_in_parts(promises: Promises, house: House) -> None:
    numbers = [f"+1202555011{index}" for index in range(len(HOURS))]
    for number, hours in zip(numbers, HOURS, strict=True):
        assert (await promises.make(phone_number=number, due_at=promises.later(hours))).status == 201
    soonest = [number for _, number in sorted(zip(HOURS, numbers, strict=True))]
    first = (await house.ask("GET", f"{promises.path}?limit=2")).json
    assert [each["phone_number"] for each in first["data"]] == soonest[:2]
    assert first["total"] == 3
    rest = (await house.ask("GET", f"{promises.path}?limit=2&after={first['next']}")).json
    assert [each["phone_number"] for each in rest["data"]] == soonest[2:]
    assert rest["next"] is None
    nothing = (await house.ask("GET", f"{promises.path}?after={house.nobody()}")).json
    assert nothing["data"] == []


@pytest.mark.parametrize("end", [ContactStatus.COMPLETED, ContactStatus.FAILED])
async def test_a_contact_whose_way_had_ended_comes_back_with_fresh_budgets(
    promises: Promises, end: ContactStatus
) -> None:
    await promises.dial(end=end)
    assert (await promises.contact())["status"] == end
    due_at = promises.later()
    made = await promises.make(phone_number="(202) 555-0101", due_at=due_at)
    assert made.status == 201, made
    contact = await promises.stored()
    assert (contact.status, contact.callback, contact.attempts) == (ContactStatus.PENDING, True, 1)
    assert (contact.callee_tries, contact.mishaps, contact.outcomes) == (0, 0, {})
    shown = await promises.contact()
    assert shown["next_attempt_at"] == due_at
    stats = (await promises.house.ask("GET", f"/campaigns/{promises.campaign_id}")).json["stats"]
    assert (stats["total"], stats["pending"], stats[end.value]) == (1, 1, 0)
    async with promises.house.daemon.store.read() as conn:
        last = (await events.after(conn, promises.number, 0, 100))[-1].draft
    assert (last.kind, last.status, last.phone_number) == (EventKind.CALLBACK_SCHEDULED, "pending", NUMBER)

    withdrawn = await promises.house.ask("DELETE", f"{promises.path}/{made.json['id']}")
    assert withdrawn.status == 204
    assert (await promises.contact())["status"] == "cancelled", "its calls were over before the promise"


async def test_a_newer_promise_replaces_an_older_one(promises: Promises, house: House) -> None:
    await promises.dial(end=ContactStatus.COMPLETED)
    first = (await promises.make(phone_number=NUMBER, due_at=promises.later(3))).json
    second = (await promises.make(phone_number=NUMBER, due_at=promises.later(30))).json
    listed = (await house.ask("GET", promises.path)).json["data"]
    assert [each["id"] for each in listed] == [second["id"]]
    assert (await promises.contact())["next_attempt_at"] == second["due_at"]
    gone = await house.ask("DELETE", f"{promises.path}/{first['id']}")
    assert gone.problem() == (404, "callback_not_found")
    assert (await house.ask("DELETE", f"{promises.path}/{second['id']}")).status == 204
    assert (await promises.contact())["status"] == "cancelled", "the first promise had brought it back"


async def test_a_number_that_is_not_there_becomes_a_contact_for_its_promise_alone(
    promises: Promises, house: House
) -> None:
    made = await promises.make(phone_number="202 555 0102")
    assert (made.status, made.json["phone_number"]) == (201, SECOND)
    contact = await promises.contact(SECOND)
    assert (contact["id"], contact["status"]) == (made.json["contact_id"], "pending")
    assert (await house.ask("GET", f"/campaigns/{promises.campaign_id}")).json["stats"]["total"] == 2
    await house.ask("DELETE", f"{promises.path}/{made.json['id']}")
    assert (await promises.contact(SECOND))["status"] == "cancelled"
    assert (await promises.contact())["status"] == "pending"


@pytest.mark.parametrize("in_flight", [True, False])
async def test_in_flight_or_cancelled_it_gets_no_promise(promises: Promises, house: House, in_flight: bool) -> None:
    if in_flight:
        await promises.dial()
    else:
        await house.ask("POST", "/dnc", key="admin", json={"phone_number": NUMBER})
        await house.ask("DELETE", f"/dnc/{NUMBER}", key="admin")
    assert (await promises.make(phone_number=NUMBER)).problem() == (409, "contact_not_pending")
    assert (await house.ask("GET", promises.path)).json["total"] == 0


async def test_a_listed_number_gets_no_promise_and_loses_its_own(promises: Promises, house: House) -> None:
    contact = await promises.contact()
    made = await promises.make(phone_number=NUMBER)
    assert made.status == 201
    await house.ask("POST", "/dnc", key="admin", json={"numbers": [NUMBER, SECOND]})
    assert (await promises.contact())["status"] == "cancelled"
    assert (await house.ask("GET", promises.path)).json["total"] == 0
    gone = await house.ask("DELETE", f"{promises.path}/{made.json['id']}")
    assert gone.problem() == (404, "callback_not_found")
    for body, field in (({"contact_id": contact["id"]}, "contact_id"), ({"phone_number": SECOND}, "phone_number")):
        answer = await promises.make(**body)
        assert answer.problem() == (400, "invalid_request")
        assert answer.fields() == [field]


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, [""]),
        ({"phone_number": NUMBER, "contact_id": "x"}, [""]),
        ({"phone_number": "nobody"}, ["phone_number"]),
        ({"phone_number": NUMBER, "due_at": "2030-01-01T12:00:00"}, ["due_at"]),
        ({"phone_number": NUMBER, "due_at": "tomorrow"}, ["due_at"]),
        ({"phone_number": NUMBER, "due_at": "2001-01-01T12:00:00Z"}, ["due_at"]),
        ({"phone_number": NUMBER, "due_at": "0001-01-01T00:00:00+14:00"}, ["due_at"]),
        ({"phone_number": NUMBER, "due_at": "9999-12-31T23:59:59-14:00"}, ["due_at"]),
        ({"phone_number": NUMBER, "note": "a\nb"}, ["note"]),
        ({"phone_number": NUMBER, "when": "now"}, ["when"]),
    ],
)
async def test_refuses_what_does_not_fit(promises: Promises, body: dict[str, Any], fields: list[str]) -> None:
    answer = await promises.make(**body)
    assert answer.problem() == (400, "invalid_request")
    assert answer.fields() == fields


async def test_what_is_not_there(promises: Promises, house: House) -> None:
    assert (await promises.make(contact_id=house.nobody())).problem() == (404, "contact_not_found")
    assert (await promises.make(contact_id="never an id")).problem() == (404, "contact_not_found")
    other = Promises(house, await house.campaign(SECOND))
    theirs = (await other.contact(SECOND))["id"]
    assert (await promises.make(contact_id=theirs)).problem() == (404, "contact_not_found")
    made = (await other.make(phone_number=SECOND)).json
    assert (await house.ask("DELETE", f"{promises.path}/{made['id']}")).problem() == (404, "callback_not_found")


async def test_a_finished_campaign_takes_no_promise_and_keeps_none(promises: Promises, house: House) -> None:
    assert (await promises.make(phone_number=NUMBER)).status == 201
    assert (await house.ask("POST", f"/campaigns/{promises.campaign_id}/stop")).status == 200
    assert (await promises.make(phone_number=NUMBER)).problem() == (409, "campaign_finished")
    assert (await house.ask("GET", promises.path)).json["data"] == []


async def test_nothing_is_promised_beyond_the_campaigns_end(house: House) -> None:
    end_at = house.clock.wall() + timedelta(hours=10)
    campaign_id = await house.campaign(NUMBER, settings={"end_at": end_at.astimezone(UTC).isoformat()})
    promises = Promises(house, campaign_id)
    late = await promises.make(phone_number=NUMBER, due_at=promises.later(11))
    assert late.problem() == (400, "invalid_request")
    assert late.fields() == ["due_at"]
    assert (await promises.make(phone_number=NUMBER, due_at=promises.later(9))).status == 201


@pytest.mark.parametrize("method", ["POST", "DELETE"])
async def test_viewers_promise_nothing(promises: Promises, house: House, method: str) -> None:
    path = promises.path if method == "POST" else f"{promises.path}/x"
    assert (await house.ask(method, path, key="viewer", json={})).problem() == (403, "forbidden")
