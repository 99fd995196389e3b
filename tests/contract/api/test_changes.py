"""PATCH /campaigns/{id}, single contacts, and the lists' filters: every row, every code."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from dialerd.clock import read_id
from dialerd.core.settings import CampaignSettings
from dialerd.store import contact_due, events, schema
from dialerd.store.records import EventKind
from dialerd.store.tx import Tx
from tests.contract.api.house import DEADLINE, House

NUMBER, SECOND = "+12025550101", "+12025550102"
FETCHING = "due contacts are being fetched"


def number_of(shown: str) -> int:
    """The id in the store."""
    found = read_id(shown)
    assert found is not None
    return found


async def contact_ids(house: House, campaign_id: str) -> list[str]:
    """The ids of a campaign's contacts."""
    listed = await house.ask("GET", f"/campaigns/{campaign_id}/contacts")
    return [each["id"] for each in listed.json["data"]]


class TestPatch:
    async def test_what_is_given_changes_and_the_rest_stays(self, house: House) -> None:
        settings = {"max_retries": 1, "variables": {"team": "north"}}
        campaign_id = await house.campaign(NUMBER, settings=settings, description="d")
        before = (await house.ask("GET", f"/campaigns/{campaign_id}")).json
        agent_id = await house.agent()
        body = {"name": "new", "agent_id": agent_id, "settings": {"concurrent_calls": 9, "end_at": None}}
        changed = await house.ask("PATCH", f"/campaigns/{campaign_id}", json=body)
        assert changed.status == 200, changed
        assert changed.json == {
            **before,
            "name": "new",
            "agent_id": agent_id,
            "settings": {**before["settings"], "concurrent_calls": 9},
        }
        assert changed.json["settings"]["variables"] == {"team": "north"}
        assert (await house.ask("GET", f"/campaigns/{campaign_id}")).json == changed.json
        cleared = await house.ask("PATCH", f"/campaigns/{campaign_id}", json={"description": None})
        assert cleared.json == {**changed.json, "description": None}
        assert (await house.ask("PATCH", f"/campaigns/{campaign_id}", json={})).json == cleared.json

    async def test_variables_of_a_time_without_bounds_stay_until_others_are_given(self, house: House) -> None:
        campaign_id = await house.campaign(NUMBER)
        path, old = f"/campaigns/{campaign_id}", {"greeting": "x" * 950, "lines": "a\nb"}

        async def as_it_was_stored(tx: Tx) -> None:
            values = {"settings": {**CampaignSettings().to_json(), "variables": old}}
            await tx.conn.execute(sa.update(schema.campaign).values(values))

        await house.daemon.store.write(as_it_was_stored)
        changed = await house.ask("PATCH", path, json={"settings": {"concurrent_calls": 3}})
        assert (changed.status, changed.json["settings"]["variables"]) == (200, old)
        refused = await house.ask("PATCH", path, json={"settings": {"variables": old}})
        assert refused.problem() == (400, "invalid_request")
        assert refused.fields() == ["settings.variables.lines"]
        refused = await house.ask("PATCH", path, json={"settings": {"variables": {"greeting": old["greeting"]}}})
        assert refused.fields() == ["settings.variables.greeting"]
        shorter = await house.ask("PATCH", path, json={"settings": {"variables": {"greeting": "x" * 900}}})
        assert shorter.status == 200

    async def test_an_active_campaign_obeys_and_a_paused_one_stays_paused(self, house: House) -> None:
        campaign_id = await house.campaign(NUMBER)
        path, dispatcher = f"/campaigns/{campaign_id}", house.daemon.dispatcher
        await house.ask("POST", f"{path}/start")
        assert (await house.ask("PATCH", path, json={"settings": {"concurrent_calls": 3}})).status == 200
        view = dispatcher.view(number_of(campaign_id))
        assert view is not None
        assert view.campaign.settings.concurrent_calls == 3
        await house.ask("POST", f"{path}/pause")
        answer = await house.ask("PATCH", path, json={"settings": {"concurrent_calls": 4}})
        assert (answer.json["status"], answer.json["settings"]["concurrent_calls"]) == ("paused", 4)
        assert dispatcher.view(number_of(campaign_id)) is None

    async def test_without_keep_open_a_campaign_that_is_through_completes(self, house: House) -> None:
        campaign_id = await house.campaign(NUMBER, settings={"keep_open": True})
        await house.ask("POST", f"/campaigns/{campaign_id}/start")
        (contact_id,) = await contact_ids(house, campaign_id)
        assert (await house.ask("DELETE", f"/campaigns/{campaign_id}/contacts/{contact_id}")).status == 204
        assert (await house.ask("GET", f"/campaigns/{campaign_id}")).json["status"] == "active"
        done = await house.ask("PATCH", f"/campaigns/{campaign_id}", json={"settings": {"keep_open": False}})
        assert (done.status, done.json["status"]) == (200, "completed")
        assert house.daemon.dispatcher.view(number_of(campaign_id)) is None

    async def test_an_end_that_has_come_ends_it(self, house: House) -> None:
        campaign_id = await house.campaign(NUMBER)
        await house.ask("POST", f"/campaigns/{campaign_id}/start")
        end_at = (house.clock.wall() - timedelta(seconds=1)).isoformat()
        with house.daemon.feed.follow(number_of(campaign_id)) as subscription:
            changed = await house.ask("PATCH", f"/campaigns/{campaign_id}", json={"settings": {"end_at": end_at}})
            assert changed.status == 200
            told: list[str] = []
            while told.count("cancelled") < 1:
                told += [event.draft.status for event in await subscription.next()]
        assert told == ["completed", "cancelled"]

    @pytest.mark.parametrize(
        ("body", "field"),
        [
            ({"name": ""}, "name"),
            ({"name": None}, "name"),
            ({"agent_id": None}, "agent_id"),
            ({"settings": None}, "settings"),
            ({"status": "active"}, "status"),
            ({"name": "a\nb"}, "name"),
            ({"settings": {"concurrent_calls": 0}}, "settings.concurrent_calls"),
            ({"settings": {"colour": "red"}}, "settings.colour"),
            ({"settings": {"trunks": ["nobody's"]}}, "settings.trunks"),
            ({"settings": {"caller_ids": ["+12025550111"]}}, "settings.caller_ids"),
            ({"settings": {"start_at": "2030-02-01T00:00:00Z"}}, "settings"),
        ],
    )
    async def test_refuses_what_does_not_fit(self, house: House, body: dict[str, Any], field: str) -> None:
        campaign_id = await house.campaign(settings={"end_at": "2030-01-01T00:00:00Z"})
        before = (await house.ask("GET", f"/campaigns/{campaign_id}")).json
        answer = await house.ask("PATCH", f"/campaigns/{campaign_id}", json=body)
        assert answer.problem() == (400, "invalid_request")
        assert answer.fields() == [field]
        assert (await house.ask("GET", f"/campaigns/{campaign_id}")).json == before

    async def test_codes(self, house: House) -> None:
        campaign_id = await house.campaign(NUMBER)
        path = f"/campaigns/{campaign_id}"
        for agent_id in (house.nobody(), "never an id", await house.agent("other")):
            assert (await house.ask("PATCH", path, json={"agent_id": agent_id})).problem() == (400, "agent_not_found")
        nobody = await house.ask("PATCH", f"/campaigns/{house.nobody()}", json={"name": "x"})
        assert nobody.problem() == (404, "campaign_not_found")
        assert (await house.ask("PATCH", path, key="viewer", json={})).problem() == (403, "forbidden")
        await house.ask("POST", f"{path}/stop")
        assert (await house.ask("PATCH", path, json={"name": "x"})).problem() == (409, "campaign_finished")


class TestOneContact:
    async def test_is_shown_with_its_calls_and_its_explanation(self, house: House) -> None:
        campaign_id = await house.campaign(NUMBER)
        path = f"/campaigns/{campaign_id}"
        listed = (await house.ask("GET", f"{path}/contacts")).json["data"][0]
        shown = (await house.ask("GET", f"{path}/contacts/{listed['id']}", key="viewer")).json
        explain = shown.pop("explain")
        assert shown == {**listed, "calls": []}
        assert set(explain) == {"dialing", "summary", "next_moment", "rules"}
        assert (explain["dialing"], explain["summary"]) == (False, "the campaign is draft")
        await house.ask("POST", f"{path}/start")
        (call,) = await house.dial(number_of(campaign_id))
        shown = (await house.ask("GET", f"{path}/contacts/{listed['id']}")).json
        assert [each["id"] for each in shown["calls"]] == [call.id]
        assert shown["calls"] == (await house.ask("GET", f"{path}/calls")).json["data"]

    async def test_is_cancelled_while_pending_and_says_why_for_ever(self, house: House) -> None:
        campaign_id = await house.campaign(NUMBER, SECOND)
        path = f"/campaigns/{campaign_id}"
        first, second = await contact_ids(house, campaign_id)
        gone = await house.ask("DELETE", f"{path}/contacts/{first}")
        assert (gone.status, gone.body) == (204, b"")
        assert (await house.ask("DELETE", f"{path}/contacts/{first}")).problem() == (409, "contact_not_pending")
        shown = (await house.ask("GET", f"{path}/contacts/{first}")).json
        assert shown["status"] == "cancelled"
        rules = {each["rule"]: each for each in shown["explain"]["rules"]}
        assert rules["contact_status"]["detail"] == "the contact is cancelled: cancelled by hand"
        stats = (await house.ask("GET", path)).json["stats"]
        assert (stats["pending"], stats["cancelled"]) == (1, 1)
        async with house.daemon.store.read() as conn:
            (told,) = await events.after(conn, number_of(campaign_id), 0, 10)
        assert (told.draft.kind, told.draft.phone_number) == (EventKind.CANCELLED, NUMBER)
        await house.ask("POST", f"{path}/start")
        await house.dial(number_of(campaign_id))
        assert (await house.ask("DELETE", f"{path}/contacts/{second}")).problem() == (409, "contact_not_pending")

    @pytest.mark.parametrize("method", ["GET", "DELETE"])
    async def test_that_is_not_there(self, house: House, method: str) -> None:
        campaign_id, other = await house.campaign(NUMBER), await house.campaign(NUMBER)
        (elsewhere,) = await contact_ids(house, other)
        for contact_id in (house.nobody(), "never an id", elsewhere):
            answer = await house.ask(method, f"/campaigns/{campaign_id}/contacts/{contact_id}")
            assert answer.problem() == (404, "contact_not_found")
        answer = await house.ask(method, f"/campaigns/{house.nobody()}/contacts/{elsewhere}")
        assert answer.problem() == (404, "campaign_not_found")

    async def test_is_not_a_viewers_to_cancel(self, house: House) -> None:
        campaign_id = await house.campaign(NUMBER)
        (contact_id,) = await contact_ids(house, campaign_id)
        path = f"/campaigns/{campaign_id}/contacts/{contact_id}"
        assert (await house.ask("DELETE", path, key="viewer")).problem() == (403, "forbidden")


class TestFilters:
    PEOPLE = (
        {"phone": "+12025550101", "first_name": "Ann", "company": "Acme 100%", "external_id": "crm_1"},
        {"phone": "+12025550102", "last_name": "Hannigan", "email": "bob@example.org"},
        {"phone": "+442079460000", "first_name": "Zoë"},
    )

    @pytest.mark.parametrize(
        ("q", "found"),
        [
            ("ann", [0, 1]),
            ("202 555-01", [0, 1]),
            ("(202) 555.0102", [1]),
            ("+44", [2]),
            ("+1 (202) 555-0102", [1]),
            ("+1202555010", [0, 1]),
            ("+", [0, 1, 2]),
            ("100%", [0]),
            ("%", [0]),
            ("crm_1", [0]),
            ("_", [0]),
            ("EXAMPLE", [1]),
            ("zo", [2]),
            ("nobody", []),
        ],
    )
    async def test_contacts_are_searched(self, house: House, q: str, found: list[int]) -> None:
        campaign_id = await house.campaign()
        path = f"/campaigns/{campaign_id}/contacts"
        await house.ask("POST", path, json={"contacts": list(self.PEOPLE)})
        listed = (await house.ask("GET", path, params={"q": q})).json
        assert [each["phone_number"] for each in listed["data"]] == [self.PEOPLE[index]["phone"] for index in found]
        assert listed["total"] == len(found)

    async def test_contacts_by_outcome_in_parts(self, house: House) -> None:
        campaign_id = await house.campaign(NUMBER, SECOND)
        path = f"/campaigns/{campaign_id}/contacts"
        assert (await house.ask("GET", f"{path}?outcome=busy")).json["total"] == 0
        assert (await house.ask("GET", f"{path}?outcome=gone")).problem() == (400, "invalid_request")
        first = (await house.ask("GET", f"{path}?q=202&status=pending&limit=1")).json
        assert (len(first["data"]), first["total"]) == (1, 2)
        rest = (await house.ask("GET", f"{path}?q=202&status=pending&limit=1&after={first['next']}")).json
        assert (rest["data"][0]["phone_number"], rest["next"]) == (SECOND, None)
        assert (await house.ask("GET", f"{path}?q=202&status=failed")).json["total"] == 0
        assert (await house.ask("GET", f"{path}?q=")).problem() == (400, "invalid_request")

    async def test_campaigns_are_searched_and_sorted(self, house: House) -> None:
        agent_id = await house.agent()
        for name, description in (("beta", "spring"), ("Alpha", "Spring sale"), ("gamma", None)):
            await house.campaign(NUMBER, agent_id=agent_id, name=name, description=description)

        async def names(query: str) -> list[str]:
            return [each["name"] for each in (await house.ask("GET", f"/campaigns{query}")).json["data"]]

        assert await names("") == ["gamma", "Alpha", "beta"]
        assert await names("?sort=created_at") == ["beta", "Alpha", "gamma"]
        assert await names("?sort=name") == ["Alpha", "beta", "gamma"]
        assert await names("?sort=-name&per_page=2") == ["gamma", "beta"]
        assert await names("?q=spring") == ["Alpha", "beta"]
        assert await names("?q=GAM") == ["gamma"]
        listed = (await house.ask("GET", "/campaigns?q=spring&per_page=1")).json
        assert listed["pagination"] == {"page": 1, "per_page": 1, "total": 2, "total_pages": 2}
        await house.ask("POST", f"/campaigns/{listed['data'][0]['id']}/start")
        assert (await names("?sort=-started_at"))[0] == "Alpha"
        assert (await names("?sort=started_at"))[-1] == "Alpha"
        assert (await house.ask("GET", "/campaigns?sort=colour")).problem() == (400, "invalid_request")


class TestExplain:
    RULES = ("system", "status", "tenant", "agent", "calling_hours", "contacts", "max_calls_per_day")

    async def test_a_draft_says_that_it_is_one(self, house: House) -> None:
        campaign_id = await house.campaign(NUMBER, SECOND)
        told = (await house.ask("GET", f"/campaigns/{campaign_id}/explain", key="viewer")).json
        assert (told["dialing"], told["summary"], told["next_moment"]) == (False, "the campaign is draft", None)
        assert told["counts"] == {"due": 2, "waiting": 0, "in_flight": 0}
        assert tuple(each["rule"] for each in told["rules"])[: len(self.RULES)] == self.RULES
        assert all(set(each) == {"rule", "level", "holds", "detail", "until"} for each in told["rules"])
        assert all(each["detail"] for each in told["rules"])

    async def test_an_active_campaign_without_calls_names_the_pbx(self, house: House) -> None:
        settings = {"calling_hours_start": "00:00", "calling_hours_end": "00:00"}
        campaign_id = await house.campaign(NUMBER, settings=settings)
        started = (await house.ask("POST", f"/campaigns/{campaign_id}/start")).json
        async with asyncio.timeout(DEADLINE):
            told: dict[str, Any] = {"summary": FETCHING}
            while told["summary"] == FETCHING:
                told = (await house.ask("GET", f"/campaigns/{campaign_id}/explain")).json
        assert not told["dialing"]
        assert told["summary"].startswith("unreachable on pbx main since 20")
        assert started["warnings"] == [told["summary"]]
        (refused,) = [each for each in told["rules"] if not each["holds"]]
        assert (refused["rule"], refused["level"], refused["until"]) == ("pbx_state", "pbx", None)

    async def test_closed_hours_say_when_they_open(self, house: House) -> None:
        start_at = (house.clock.wall() + timedelta(hours=30)).replace(microsecond=0)
        settings = {"start_at": start_at.isoformat(), "calling_hours_start": "00:00", "calling_hours_end": "00:00"}
        campaign_id = await house.campaign(NUMBER, settings=settings)
        await house.ask("POST", f"/campaigns/{campaign_id}/start")
        told = (await house.ask("GET", f"/campaigns/{campaign_id}/explain")).json
        assert told["next_moment"] == start_at.isoformat().replace("+00:00", "Z")
        (hours,) = [each for each in told["rules"] if each["rule"] == "calling_hours"]
        assert (hours["holds"], hours["until"]) == (False, told["next_moment"])
        assert told["summary"] == hours["detail"]
        (contacts,) = [each for each in told["rules"] if each["rule"] == "contacts"]
        assert (contacts["holds"], contacts["detail"]) == (True, "contacts are due")

    async def test_counts_what_waits_and_what_is_in_flight(self, house: House) -> None:
        campaign_id = await house.campaign(NUMBER, SECOND, settings={"keep_open": True})
        await house.ask("POST", f"/campaigns/{campaign_id}/start")
        await house.dial(number_of(campaign_id))
        due_at = (house.clock.wall() + timedelta(hours=1)).isoformat()
        body = {"phone_number": "+12025550103", "due_at": due_at}
        assert (await house.ask("POST", f"/campaigns/{campaign_id}/callbacks", json=body)).status == 201
        told = (await house.ask("GET", f"/campaigns/{campaign_id}/explain")).json
        assert told["counts"] == {"due": 0, "waiting": 1, "in_flight": 2}

    @pytest.mark.parametrize("quickly", [1, 2, 3, 100])
    @pytest.mark.parametrize("waiting", [0, 1, 3, 4])
    async def test_counts_whichever_side_is_smaller(
        self, house: House, monkeypatch: pytest.MonkeyPatch, quickly: int, waiting: int
    ) -> None:
        monkeypatch.setattr(contact_due, "_QUICKLY", quickly)
        numbers = [f"+1202555010{index}" for index in range(4)]
        campaign_id = await house.campaign(*numbers)
        due_at = (house.clock.wall() + timedelta(hours=1)).isoformat()
        for number in numbers[:waiting]:
            body = {"phone_number": number, "due_at": due_at}
            assert (await house.ask("POST", f"/campaigns/{campaign_id}/callbacks", json=body)).status == 201
        told = (await house.ask("GET", f"/campaigns/{campaign_id}/explain")).json
        assert told["counts"] == {"due": 4 - waiting, "waiting": waiting, "in_flight": 0}

    async def test_a_contact_names_its_own_rules(self, house: House) -> None:
        settings = {"calling_hours_start": "00:00", "calling_hours_end": "00:00"}
        campaign_id = await house.campaign(NUMBER, settings=settings)
        await house.ask("POST", f"/campaigns/{campaign_id}/start")
        due_at = (house.clock.wall() + timedelta(hours=1)).isoformat().replace("+00:00", "Z")
        body = {"phone_number": NUMBER, "due_at": due_at}
        await house.ask("POST", f"/campaigns/{campaign_id}/callbacks", json=body)
        (contact_id,) = await contact_ids(house, campaign_id)
        told = (await house.ask("GET", f"/campaigns/{campaign_id}/contacts/{contact_id}")).json["explain"]
        assert (told["summary"], told["next_moment"]) == ("its callback was promised for later", due_at)
        own = [each["rule"] for each in told["rules"] if each["level"] == "contact"]
        assert own == [
            *("contact_status", "next_attempt_at", "contact_timezone", "contact_hours", "allowed_prefixes"),
            *("max_attempts_per_day", "max_calls_per_number", "do_not_call"),
        ]

    async def test_that_is_not_there(self, house: House) -> None:
        answer = await house.ask("GET", f"/campaigns/{house.nobody()}/explain")
        assert answer.problem() == (404, "campaign_not_found")
