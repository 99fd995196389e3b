"""U+0000, which PostgreSQL keeps in no text: refused by its field on every store, and never the store's failure."""

from __future__ import annotations

from typing import Any

import pytest

from tests.contract.api.house import House

NUL = "a\0b"
CONTROL = "must not hold line breaks or other control characters"


async def test_in_a_query_it_is_refused(house: House) -> None:
    campaign_id = await house.campaign("+12025550140")
    asked = 0
    for route in house.routes():
        path = route.path.replace("{campaign_id}", campaign_id)
        key = "system" if route.role == "system" else "admin"
        for name in route.query.model_fields if "{" not in path else ():
            answer = await house.ask(route.method, path, key=key, params={name: NUL})
            assert answer.problem() == (400, "invalid_request"), (route, name)
            assert {each["field"].partition(".")[0] for each in answer.json["errors"]} == {name}
            asked += 1
    assert asked > 30


@pytest.mark.parametrize(
    ("path", "key", "body", "field"),
    [
        ("/agents", "admin", {"name": NUL, "kind": "queue", "queue": "q"}, "name"),
        ("/agents", "admin", {"name": "a", "kind": "dialplan", "context": "c", "exten": NUL}, "exten"),
        ("/campaigns", "operator", {"name": "c", "description": NUL}, "description"),
        ("/campaigns", "operator", {"name": "c", "settings": {"variables": {"x": NUL}}}, "settings.variables.x"),
        ("/campaigns", "operator", {"name": "c", "settings": {"variables": {NUL: "x"}}}, "settings.variables.a?b"),
        ("/campaigns/{campaign}/callbacks", "operator", {"phone_number": "+12025550140", "note": NUL}, "note"),
        ("/dnc", "admin", {"phone_number": "+12025550140", "note": NUL}, "note"),
        ("/keys", "admin", {"name": NUL, "role": "viewer"}, "name"),
        ("/tenants", "system", {"id": "t", "default_agent": NUL}, "default_agent"),
        ("/trunks/a/pause", "system", {"reason": NUL}, "reason"),
        ("/webhooks", "admin", {"url": "https://example.com/", "description": NUL}, "description"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_in_a_body_it_is_refused(house: House, path: str, key: str, body: dict[str, Any], field: str) -> None:
    campaign_id = await house.campaign("+12025550140")
    answer = await house.ask("POST", path.format(campaign=campaign_id), key=key, json=body)
    assert answer.problem() == (400, "invalid_request")
    assert answer.json["errors"] == [{"field": field, "message": CONTROL}]


async def test_in_a_row_it_is_that_rows_fault(house: House) -> None:
    path = f"/campaigns/{await house.campaign()}/contacts"
    good = {"phone": "+12025550140"}
    bad = [{"phone": "+12025550141", "first_name": NUL}, {"phone": "+12025550142", NUL: "x"}, {"phone": "+1202\0"}]
    report = (await house.ask("POST", path, json={"contacts": [good, *bad]})).json
    assert (report["added"], report["invalid"]) == (1, 3)
    assert [(each["row"], each["column"], each["code"]) for each in report["errors"]] == [
        (2, "first_name", "control_character"),
        (3, "a\\x00b", "control_character"),
        (4, "phone", "control_character"),
    ]
    # In JSON inside an attribute it is spelled out, as it came.
    inside = {"phone": "+12025550143", "extra": {"deep": [NUL]}}
    assert (await house.ask("POST", path, json={"contacts": [inside]})).json["added"] == 1
    [shown] = (await house.ask("GET", f"{path}?q=%2B12025550143")).json["data"]
    assert shown["attributes"] == {"extra": '{"deep":["a\\u0000b"]}'}


async def test_a_file_that_holds_it_is_no_text(house: House) -> None:
    path = f"/campaigns/{await house.campaign()}/contacts"
    for where in (path, "/dnc"):
        body = "phone_number,note\n+12025550140,\n+12025550141,a\0b\n"
        answer = await house.ask("POST", where, key="admin", data=body, headers={"Content-Type": "text/csv"})
        assert answer.problem() == (400, "invalid_csv")
        assert [each["row"] for each in answer.json["errors"]] == [3]
        assert "holds a NUL" in answer.json["errors"][0]["message"]
    assert (await house.ask("GET", path)).json["total"] == 0
