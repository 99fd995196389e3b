"""/tenants: shown from the file, made and changed here, and in force at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dialerd.core.throttle import Key, Level
from tests.contract.api.house import House, Template, open_house

ACME: dict[str, Any] = {
    "id": "acme",
    "max_calls_per_second": 2.5,
    "max_concurrent_calls": 9,
    "trunks": ["spare", "a"],
    "allowed_prefixes": ["+1"],
    "caller_ids": ["+12025550199"],
    "settings": {"timezone": "Europe/London", "concurrent_calls": 4},
}


async def made(house: House, **values: Any) -> Any:
    """Make a tenant and return it as it was answered."""
    answer = await house.ask("POST", "/tenants", key="system", json={**ACME, **values})
    assert answer.status == 201, answer
    assert answer.headers["Location"] == f"/api/v1/tenants/{answer.json['id']}"
    return answer.json


async def key_of(house: House, tenant: str, role: str = "admin") -> dict[str, str]:
    """The headers of a new key of a tenant."""
    body = {"name": "first", "role": role, "tenant": tenant}
    answer = await house.ask("POST", "/keys", key="system", json=body)
    assert answer.status == 201, answer
    return {"Authorization": f"Bearer {answer.json['key']}"}


async def test_tenants_of_the_file_are_shown_and_changed_there_only(house: House) -> None:
    listed = (await house.ask("GET", "/tenants", key="system")).json
    assert [(each["id"], each["configured_in_file"]) for each in listed["data"]] == [("one", True), ("two", True)]
    assert listed["data"][0]["settings"]["concurrent_calls"] == 7
    one = await house.ask("GET", "/tenants/one", key="system")
    assert one.json == listed["data"][0]
    refused = await house.ask("PATCH", "/tenants/one", key="system", json={"weight": 2})
    assert refused.problem() == (409, "configured_in_file")
    again = await house.ask("POST", "/tenants", key="system", json={**ACME, "id": "two"})
    assert again.problem() == (409, "configured_in_file")
    assert (await house.ask("GET", "/tenants/one", key="system")).json == one.json


async def test_a_tenant_is_in_force_at_once(house: House) -> None:
    acme = await made(house)
    assert acme["settings"]["concurrent_calls"] == 4
    assert (acme["configured_in_file"], acme["weight"], acme["number_period_hours"]) == (False, 1.0, 168.0)
    headers = await key_of(house, "acme")
    agent = {"name": "a", "kind": "dialplan", "context": "c", "exten": "s"}
    agent_id = (await house.ask("POST", "/agents", key=None, headers=headers, json=agent)).json["id"]
    body = {"name": "first", "agent_id": agent_id}
    campaign = (await house.ask("POST", "/campaigns", key=None, headers=headers, json=body)).json
    assert (campaign["settings"]["timezone"], campaign["settings"]["concurrent_calls"]) == ("Europe/London", 4)
    trunks = (await house.ask("GET", "/trunks", key=None, headers=headers)).json["data"]
    assert [each["id"] for each in trunks] == ["spare", "a"], "in its order of choice"
    path = f"/campaigns/{campaign['id']}"
    await house.ask(
        "POST", f"{path}/contacts", key=None, headers=headers, json={"contacts": [{"phone": "+12025550101"}]}
    )
    started = await house.ask("POST", f"{path}/start", key=None, headers=headers)
    assert started.status == 200, started
    assert not any("tenant" in each for each in started.json["warnings"])
    assert _limits(house) == (9, 2.5)
    assert (await house.ask("GET", path)).problem() == (404, "campaign_not_found"), "no other tenant sees it"


async def test_a_change_binds_at_once_and_over_a_restart(template: Template, tmp_path: Path) -> None:
    async with open_house(template, tmp_path) as house:
        await made(house)
        change = {"max_calls_per_second": 4, "max_concurrent_calls": 2, "allowed_prefixes": [], "max_calls_per_day": 10}
        changed = await house.ask("PATCH", "/tenants/acme", key="system", json=change)
        assert changed.status == 200, changed
        assert changed.json == {**changed.json, **change}
        assert changed.json["caller_ids"] == ACME["caller_ids"], "what is left out stays"
        assert changed.json["settings"]["timezone"] == "Europe/London"
        assert _limits(house) == (2, 4.0)
        headers = await key_of(house, "acme", "viewer")
    async with open_house(template, tmp_path, fresh=False) as house:
        assert (await house.ask("GET", "/tenants/acme", key="system")).json == changed.json
        assert (await house.ask("GET", "/campaigns", key=None, headers=headers)).status == 200
        assert _limits(house) == (2, 4.0)


def _limits(house: House) -> tuple[int | None, float | None]:
    """What the dispatcher holds a tenant to."""
    book = dict(house.daemon.dispatcher.limits())
    capacity = book[Key(Level.TENANT, "acme")]
    return capacity.slots, capacity.rate.per_second if capacity.rate else None


UNFIT: tuple[tuple[dict[str, Any], str], ...] = (
    ({"id": "a/b"}, "id"),
    ({"id": ""}, "id"),
    ({"max_calls_per_second": 0}, "max_calls_per_second"),
    ({"max_concurrent_calls": 0}, "max_concurrent_calls"),
    ({"trunks": []}, "trunks"),
    ({"trunks": ["a", "nobody's"]}, "trunks.1"),
    ({"settings": {"trunks": ["elsewhere"]}}, "settings.trunks"),
    ({"settings": {"timezone": "Mars"}}, "settings.timezone"),
    ({"default_region": "ZZZ"}, "default_region"),
    ({"caller_ids": ["12"]}, "caller_ids.0"),
    ({"allowed_prefixes": ["0044"]}, "allowed_prefixes.0"),
    ({"max_calls_per_day": 0}, "max_calls_per_day"),
    ({"colour": "red"}, "colour"),
)


async def test_refuses_what_does_not_fit(house: House) -> None:
    for change, field in UNFIT:
        answer = await house.ask("POST", "/tenants", key="system", json={**ACME, **change})
        assert (answer.problem(), answer.fields()) == ((400, "invalid_request"), [field]), change
    await made(house)
    twice = await house.ask("POST", "/tenants", key="system", json=ACME)
    assert (twice.problem(), twice.fields()) == ((400, "invalid_request"), ["id"])
    for change, field in UNFIT[2:]:
        answer = await house.ask("PATCH", "/tenants/acme", key="system", json=change)
        assert (answer.problem(), answer.fields()) == ((400, "invalid_request"), [field]), change
    assert (await house.ask("PATCH", "/tenants/acme", key="system", json={"weight": None})).fields() == ["weight"]
    assert (await house.ask("GET", "/tenants/acme", key="system")).json["weight"] == 1.0


async def test_only_a_system_key_comes_here(house: House) -> None:
    for method, path in (("GET", "/tenants"), ("POST", "/tenants"), ("GET", "/tenants/one"), ("PATCH", "/tenants/one")):
        assert (await house.ask(method, path, key="admin", json={})).problem() == (403, "forbidden")
    for method in ("GET", "PATCH"):
        missing = await house.ask(method, "/tenants/nobody", key="system", json={"weight": 2})
        assert missing.problem() == (404, "tenant_not_found")


async def test_lists_in_parts(house: House) -> None:
    await made(house)
    first = (await house.ask("GET", "/tenants?limit=2", key="system")).json
    assert ([each["id"] for each in first["data"]], first["total"], first["next"]) == (["acme", "one"], 3, "one")
    rest = (await house.ask("GET", "/tenants?limit=2&after=one", key="system")).json
    assert ([each["id"] for each in rest["data"]], rest["next"]) == (["two"], None)
