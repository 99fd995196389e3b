"""/agents: every row, every code."""

from __future__ import annotations

from typing import Any

import pytest

from tests.contract.api.house import House

DIALPLAN = {"name": "sales", "kind": "dialplan", "context": "sales", "exten": "s"}


async def test_makes_shows_changes_and_deletes_an_agent(house: House) -> None:
    made = await house.ask("POST", "/agents", key="admin", json=DIALPLAN)
    assert made.status == 201
    agent_id = made.json["id"]
    assert made.json == {
        "id": agent_id,
        "name": "sales",
        "kind": "dialplan",
        "max_concurrent_calls": None,
        "context": "sales",
        "exten": "s",
        "priority": 1,
    }
    assert made.headers["Location"] == f"/api/v1/agents/{agent_id}"
    assert (await house.ask("GET", f"/agents/{agent_id}", key="viewer")).json == made.json

    changed = await house.ask("PATCH", f"/agents/{agent_id}", key="admin", json={"max_concurrent_calls": 3})
    assert changed.status == 200
    assert changed.json == {**made.json, "max_concurrent_calls": 3}
    unlimited = await house.ask("PATCH", f"/agents/{agent_id}", key="admin", json={"max_concurrent_calls": None})
    assert unlimited.json == made.json

    gone = await house.ask("DELETE", f"/agents/{agent_id}", key="admin")
    assert (gone.status, gone.body) == (204, b"")
    assert (await house.ask("GET", f"/agents/{agent_id}")).problem() == (404, "agent_not_found")
    assert (await house.ask("DELETE", f"/agents/{agent_id}", key="admin")).problem() == (404, "agent_not_found")


async def test_a_new_kind_needs_its_own_fields(house: House) -> None:
    agent_id = await house.agent(name="a")
    half = await house.ask("PATCH", f"/agents/{agent_id}", key="admin", json={"kind": "queue"})
    assert half.problem() == (400, "invalid_request")
    assert half.fields() == ["queue"]
    options = {"kind": "queue", "queue": "support,,,,20"}
    assert (await house.ask("PATCH", f"/agents/{agent_id}", key="admin", json=options)).fields() == ["queue"]
    of_callcenter = {"kind": "queue", "queue": "support@default"}
    assert (await house.ask("PATCH", f"/agents/{agent_id}", key="admin", json=of_callcenter)).status == 200
    whole = await house.ask("PATCH", f"/agents/{agent_id}", key="admin", json={"kind": "queue", "queue": "support"})
    assert whole.json == {
        "id": agent_id,
        "name": "a",
        "kind": "queue",
        "max_concurrent_calls": None,
        "queue": "support",
    }
    assert (await house.ask("GET", f"/agents/{agent_id}")).json == whole.json


async def test_lists_agents_in_parts(house: House) -> None:
    ids = [await house.agent() for _ in range(3)]
    await house.agent("other")
    first = (await house.ask("GET", "/agents?limit=2")).json
    assert [each["id"] for each in first["data"]] == ids[:2]
    assert {key: first[key] for key in ("limit", "offset", "total")} == {"limit": 2, "offset": 0, "total": 3}
    second = (await house.ask("GET", f"/agents?limit=2&after={first['next']}")).json
    assert [each["id"] for each in second["data"]] == ids[2:]
    assert second["next"] is None
    assert [each["id"] for each in (await house.ask("GET", "/agents?offset=1")).json["data"]] == ids[1:]


UNFIT: tuple[tuple[dict[str, Any], str], ...] = (
    ({"kind": "person"}, "kind"),
    ({"kind": None}, "kind"),
    ({"name": ""}, "name"),
    ({"name": "   "}, "name"),
    ({"name": "x" * 201}, "name"),
    ({"name": "a\r\nAction: Command"}, "name"),
    ({"context": "a,b"}, "context"),
    ({"context": "a\n"}, "context"),
    ({"exten": "${EXTEN}"}, "exten"),
    ({"exten": None}, "exten"),
    ({"priority": 0}, "priority"),
    ({"max_concurrent_calls": 0}, "max_concurrent_calls"),
    ({"colour": "red"}, "colour"),
    ({"queue": "q"}, "queue"),
)


async def test_refuses_what_does_not_fit(house: House) -> None:
    for change, field in UNFIT:
        body = {key: value for key, value in {**DIALPLAN, **change}.items() if value is not None}
        answer = await house.ask("POST", "/agents", key="admin", json=body)
        assert answer.problem() == (400, "invalid_request"), body
        assert answer.fields() == [field]
    assert (await house.ask("GET", "/agents")).json["total"] == 0


@pytest.mark.parametrize(
    ("application", "data", "field"),
    [
        ("System", "rm", "application"),
        ("playback", "beep", "application"),
        ("Playback", "${SHELL(id)}", "data"),
        ("Playback", "$${SHELL(id)}", "data"),
        ("Playback", "$[1+1]", "data"),
    ],
)
async def test_only_allowed_applications_without_expressions(
    house: House, application: str, data: str, field: str
) -> None:
    body = {"name": "a", "kind": "application", "application": application, "data": data}
    answer = await house.ask("POST", "/agents", key="admin", json=body)
    assert answer.problem() == (400, "invalid_request")
    assert answer.fields() == [field]


@pytest.mark.parametrize("context", ["dialerd-out", "Dialerd-OUT", "routes"])
async def test_a_context_that_trunks_dial_through_is_no_place_for_answered_calls(house: House, context: str) -> None:
    """An admin of a tenant would call any number by it, past its prefixes and its do-not-call list."""
    await house.reload(('"PJSIP/{number}@spare"', '"Local/{number}@routes"'))
    body = {**DIALPLAN, "context": context, "exten": "19005550100"}
    answer = await house.ask("POST", "/agents", key="admin", json=body)
    assert (answer.problem(), answer.fields()) == ((400, "invalid_request"), ["context"])
    agent_id = await house.agent(name="a")
    answer = await house.ask("PATCH", f"/agents/{agent_id}", key="admin", json={"context": context})
    assert (answer.problem(), answer.fields()) == ((400, "invalid_request"), ["context"])


async def test_contexts_may_be_listed_and_the_list_changed_while_it_runs(house: House) -> None:
    agent_id = await house.agent(name="a")
    campaign_id = await house.campaign("+12025550101", agent_id=agent_id)
    await house.reload(('applications = ["Playback"]', 'contexts = ["sales"]'))
    context = (await house.ask("GET", f"/agents/{agent_id}")).json["context"]
    assert (await house.ask("POST", "/agents", key="admin", json=DIALPLAN)).status == 201
    other = {**DIALPLAN, "name": "other", "context": "support"}
    answer = await house.ask("POST", "/agents", key="admin", json=other)
    assert (answer.problem(), answer.fields()) == ((400, "invalid_request"), ["context"])
    started = await house.ask("POST", f"/campaigns/{campaign_id}/start")
    words = f"its agent's context '{context}' is not allowed by the configuration; allowed: sales"
    assert words in started.json["warnings"], "an agent from before the list"
    explained = await house.ask("GET", f"/campaigns/{campaign_id}/explain")
    assert explained.json["summary"] == words
    await house.reload(('contexts = ["sales"]', f'contexts = ["{context}", "support"]'))
    assert (await house.ask("POST", "/agents", key="admin", json=other)).status == 201
    told = (await house.ask("GET", f"/campaigns/{campaign_id}/explain")).json["rules"]
    assert [rule["holds"] for rule in told if rule["rule"] == "agent"] == [True]


async def test_an_allowed_application_is_taken(house: House) -> None:
    body = {"name": "a", "kind": "application", "application": "Playback", "data": "hello-world&costs-$5"}
    answer = await house.ask("POST", "/agents", key="admin", json=body)
    assert answer.status == 201
    assert answer.json["data"] == "hello-world&costs-$5"


async def test_a_name_is_taken_once_per_tenant(house: House) -> None:
    await house.agent(name="sales")
    again = await house.ask("POST", "/agents", key="admin", json=DIALPLAN)
    assert again.problem() == (400, "invalid_request")
    assert again.fields() == ["name"]
    assert (await house.ask("POST", "/agents", key="other", json=DIALPLAN)).status == 201
    second = await house.agent(name="support")
    renamed = await house.ask("PATCH", f"/agents/{second}", key="admin", json={"name": "sales"})
    assert renamed.fields() == ["name"]
    assert (await house.ask("PATCH", f"/agents/{second}", key="admin", json={"name": "support"})).status == 200


async def test_an_agent_in_use_stays(house: House) -> None:
    agent_id = await house.agent()
    campaign_id = await house.campaign(agent_id=agent_id)
    refused = await house.ask("DELETE", f"/agents/{agent_id}", key="admin")
    assert refused.problem() == (409, "agent_in_use")
    assert (await house.ask("GET", f"/agents/{agent_id}")).status == 200
    await house.ask("POST", f"/campaigns/{campaign_id}/stop")
    assert (await house.ask("DELETE", f"/agents/{agent_id}", key="admin")).status == 204


async def test_another_tenants_agent_is_none(house: House) -> None:
    theirs = await house.agent("other")
    for method, body in (("GET", None), ("DELETE", None), ("PATCH", {"name": "x"})):
        found = await house.ask(method, f"/agents/{theirs}", key="admin", json=body)
        never = await house.ask(method, f"/agents/{house.nobody()}", key="admin", json=body)
        unlike = await house.ask(method, "/agents/42", key="admin", json=body)
        assert found.problem() == (404, "agent_not_found")
        assert found.body == never.body == unlike.body
    assert (await house.ask("GET", f"/agents/{theirs}", key="other")).status == 200


async def test_the_dispatcher_hears_of_changes(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[object] = []
    control = house.daemon.api.control
    monkeypatch.setattr(control, "agent_changed", lambda agent: heard.append((agent.id, agent.max_concurrent_calls)))
    monkeypatch.setattr(control, "agent_removed", heard.append)
    agent_id = await house.agent(max_concurrent_calls=1)
    await house.ask("PATCH", f"/agents/{agent_id}", key="admin", json={"max_concurrent_calls": 2})
    await house.ask("DELETE", f"/agents/{agent_id}", key="admin")
    number = heard[-1]
    assert heard == [(number, 1), (number, 2), number]
