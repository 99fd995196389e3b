"""Who may do what: keys, roles, tenants, and what is told to those without."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from dialerd.api.context import Limits
from dialerd.api.problems import COMMON
from dialerd.store import keys
from dialerd.store.keys import Role, StoredKey
from dialerd.store.schema import api_key
from dialerd.store.tx import Tx
from tests.contract.api.house import DEADLINE, House, Template, open_house


@pytest.mark.parametrize(
    "header",
    [None, "", "Bearer", "Bearer ", "Basic dXNlcjpwYXNz", "Bearer dk_", "Bearer nonsense", "Bearer " + "x" * 600],
)
async def test_without_a_key_there_is_nothing(house: House, header: str | None) -> None:
    headers = {} if header is None else {"Authorization": header}
    answer = await house.ask("GET", "/campaigns", key=None, headers=headers)
    assert answer.problem() == (401, "unauthorized")
    assert answer.headers["WWW-Authenticate"] == "Bearer"


async def test_a_wrong_secret_is_no_key(house: House) -> None:
    good = house.keys["admin"]
    wrong = good[:-1] + ("a" if good[-1] != "a" else "b")
    answer = await house.ask("GET", "/agents", key=None, headers={"Authorization": f"Bearer {wrong}"})
    assert answer.problem() == (401, "unauthorized")
    assert (await house.ask("GET", "/agents", key=None, headers={"Authorization": f"bearer {good}"})).status == 200


@pytest.mark.parametrize(
    ("key", "method", "path", "status"),
    [
        ("viewer", "GET", "/campaigns", 200),
        ("viewer", "POST", "/campaigns", 403),
        ("viewer", "POST", "/agents", 403),
        ("operator", "GET", "/agents", 200),
        ("operator", "POST", "/agents", 403),
        ("operator", "POST", "/campaigns", 415),
        ("admin", "POST", "/campaigns", 415),
        ("admin", "POST", "/agents", 415),
        ("system", "GET", "/campaigns", 403),
        ("orphan", "GET", "/campaigns", 403),
    ],
)
async def test_roles(house: House, key: str, method: str, path: str, status: int) -> None:
    answer = await house.ask(method, path, key=key)
    assert answer.status == status
    if status == 403:
        assert answer.problem() == (403, "forbidden")


async def test_failed_logins_are_bounded_and_good_keys_go_on(template: Template, tmp_path: Path) -> None:
    async with open_house(template, tmp_path, Limits(failed_logins_per_minute=3)) as house:
        assert (await house.ask("GET", "/agents", key="viewer")).status == 200
        for _ in range(3):
            bad = await house.ask("GET", "/agents", key=None, headers={"Authorization": "Bearer dk_guess"})
            assert bad.status == 401
        limited = await house.ask("GET", "/agents", key=None, headers={"Authorization": "Bearer dk_guess"})
        assert limited.problem() == (429, "rate_limited")
        assert 0 < int(limited.headers["Retry-After"]) <= 60
        assert (await house.ask("GET", "/agents", key="admin")).status == 200, "a key not seen yet is not locked out"
        assert (await house.ask("GET", "/agents", key="viewer")).status == 200, "a key that was good is not asked again"
        assert b"dialerd_logins_failed_total 3.0" in (await house.ask("GET", "/~/metrics", key=None)).body


async def test_keys_that_are_none_lock_out_nobody(template: Template, tmp_path: Path) -> None:
    """They come from where all come from, behind a proxy: those that name no key, and those that only look like one."""
    async with open_house(template, tmp_path, Limits(failed_logins_per_minute=2)) as house:
        statuses = []
        for shown in ("dk_x", f"dk_{house.nobody()}_x", f"dk_{house.nobody()}_x", "nonsense", f"dk_{house.nobody()}_y"):
            headers = {"Authorization": f"Bearer {shown}"}
            statuses.append((await house.ask("GET", "/agents", key=None, headers=headers)).status)
        assert statuses == [401, 401, 429, 429, 429]
        for key in ("viewer", "operator", "admin", "other"):
            assert (await house.ask("GET", "/agents", key=key)).status == 200


async def test_wrong_secrets_of_a_key_are_bounded_and_lock_out_that_key_alone(
    template: Template, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[object] = []
    fits = StoredKey.fits

    def counting(self: StoredKey, secret: str) -> bool:
        checked.append(self)
        return fits(self, secret)

    monkeypatch.setattr(StoredKey, "fits", counting)
    async with open_house(template, tmp_path, Limits(failed_logins_per_minute=3)) as house:
        guesses = [{"Authorization": f"Bearer {house.keys['admin']}{n}"} for n in range(20)]
        answers = await asyncio.gather(*(house.ask("GET", "/agents", key=None, headers=each) for each in guesses))
        statuses = sorted(each.status for each in answers)
        assert (statuses.count(401), statuses.count(429), len(checked)) == (3, 17, 3)
        assert (await house.ask("GET", "/agents", key="admin")).problem() == (429, "rate_limited")
        assert (await house.ask("GET", "/agents", key="viewer")).status == 200


async def test_a_key_that_many_show_at_once_is_checked_once(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after a restart, when all come back: they take one turn, and none is told to come again."""
    checked: list[object] = []
    fits = StoredKey.fits

    def counting(self: StoredKey, secret: str) -> bool:
        checked.append(self)
        return fits(self, secret)

    monkeypatch.setattr(StoredKey, "fits", counting)
    monkeypatch.setattr("dialerd.api.auth._WAITING", 1)
    answers = await asyncio.gather(*(house.ask("GET", "/agents", key="viewer") for _ in range(50)))
    assert {each.status for each in answers} == {200}
    assert len(checked) == 1


async def test_bytes_that_are_no_text_in_a_key_are_a_failed_login(template: Template, tmp_path: Path) -> None:
    async with open_house(template, tmp_path, Limits(failed_logins_per_minute=3)) as house:
        good = house.keys["viewer"].encode()
        head = b"GET /api/v1/agents HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer "
        statuses = []
        for shown in (good[:-1] + b"\xff", good[:-1] + "é".encode(), b"\xff" + good, good + b"\xed\xa0\x80"):
            reader, writer = await asyncio.open_connection("127.0.0.1", house.server.port)
            writer.write(head + shown + b"\r\n\r\n")
            async with asyncio.timeout(DEADLINE):
                statuses.append(int((await reader.read()).split()[1]))
            writer.close()
        assert statuses == [401] * 3 + [429]
        assert b"dialerd_logins_failed_total 3.0" in (await house.ask("GET", "/~/metrics", key=None)).body


async def test_a_request_without_a_key_is_no_failed_login(template: Template, tmp_path: Path) -> None:
    async with open_house(template, tmp_path, Limits(failed_logins_per_minute=1)) as house:
        for _ in range(3):
            assert (await house.ask("GET", "/agents", key=None)).status == 401
        assert (await house.ask("GET", "/agents", key="viewer")).status == 200


async def test_a_deleted_key_dies_within_a_minute(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[object] = []
    fits = StoredKey.fits

    def counting(self: StoredKey, secret: str) -> bool:
        checked.append(self)
        return fits(self, secret)

    monkeypatch.setattr(StoredKey, "fits", counting)
    for _ in range(3):
        assert (await house.ask("GET", "/agents", key="viewer")).status == 200
    assert len(checked) == 1, "the digest is computed once"
    monkeypatch.setattr("dialerd.api.auth.REMEMBER_SECONDS", -1.0)
    assert (await house.ask("GET", "/agents", key="operator")).status == 200
    assert (await house.ask("GET", "/agents", key="operator")).status == 200
    assert len(checked) == 2, "a key that still stands is remembered on"
    parts = keys.split(house.keys["operator"])
    assert parts is not None

    async def delete(tx: Tx) -> None:
        await tx.conn.execute(sa.delete(api_key).where(api_key.c.id == parts[0]))

    await house.daemon.store.write(delete)
    assert (await house.ask("GET", "/agents", key="operator")).problem() == (401, "unauthorized")


async def test_another_tenants_campaign_answers_like_none(house: House) -> None:
    theirs = await house.campaign("+12025550100", key="other")
    nobody = house.nobody()
    paths = ["", "/contacts", "/calls", "/events"]
    asked: list[tuple[str, str, Any]] = [("GET", path, None) for path in paths]
    asked += [("POST", f"/{verb}", None) for verb in ("start", "pause", "resume", "stop")]
    asked += [("DELETE", "", None), ("POST", "/contacts", {"contacts": []})]
    for method, path, body in asked:
        answers = [
            await house.ask(method, f"/campaigns/{each}{path}", json=body)
            for each in (theirs, nobody, "42", "zzzzzzzzzzzzz", "%00", "'; drop table campaign")
        ]
        assert answers[0].problem() == (404, "campaign_not_found"), (method, path)
        assert len({each.body for each in answers}) == 1, (method, path)
    assert (await house.ask("GET", "/campaigns")).json["pagination"]["total"] == 0
    mine = await house.ask("POST", "/campaigns", json={"name": "c", "agent_id": await house.agent("other")})
    never = await house.ask("POST", "/campaigns", json={"name": "c", "agent_id": nobody})
    assert mine.problem() == (400, "agent_not_found")
    assert mine.body == never.body


async def test_security_headers_are_everywhere(house: House) -> None:
    asked = [("/campaigns", "viewer"), ("/campaigns", None), ("/nothing", None), ("/~/healthz", None)]
    for path, key in asked:
        headers = (await house.ask("GET", path, key=key)).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Content-Security-Policy"] == "default-src 'none'; frame-ancestors 'none'"
        assert headers["Cache-Control"] == "no-store"
        assert headers["Server"] == "dialerd"


async def test_every_route_wants_a_key_and_names_its_codes(house: House) -> None:
    routes = house.routes()
    common = {code.code for code in COMMON}
    assert len({(route.method, route.path) for route in routes}) == len(routes)
    for route in routes:
        path = re.sub(r"\{\w+\}", "0", route.path)
        assert (await house.ask(route.method, path, key=None)).problem() == (401, "unauthorized"), route.path
        assert route.summary, route.path
        assert not common & {code.code for code in route.codes}, route.path


async def test_unknown_paths_and_wrong_methods(house: House) -> None:
    for path in ("/nothing", "/campaigns/", "/~/nothing", "/~/api/v2/campaigns"):
        assert (await house.ask("GET", path)).problem() == (404, "not_found")
    wrong = await house.ask("PUT", "/campaigns")
    assert wrong.problem() == (405, "method_not_allowed")
    assert set(wrong.headers["Allow"].split(",")) == {"GET", "HEAD", "POST"}
    assert (await house.ask("DELETE", "/campaigns/0/start")).headers["Allow"] == "POST"
    assert (await house.ask("HEAD", "/campaigns")).status == 200


def test_a_system_key_stands_beside_the_tenants() -> None:
    from dialerd.api.auth import may
    from dialerd.store.keys import Principal

    system = Principal(1, None, Role.SYSTEM)
    assert may(system, Role.SYSTEM)
    assert not any(may(system, role) for role in (Role.VIEWER, Role.OPERATOR, Role.ADMIN))
    assert not may(replace(system, tenant="one", role=Role.ADMIN), Role.SYSTEM)
