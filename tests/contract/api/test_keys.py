"""/keys: made, listed without their secrets, and dead as soon as they are deleted."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
import sqlalchemy as sa

from dialerd.store import keys
from dialerd.store.schema import api_key, idempotency
from tests.contract.api.house import DEADLINE, KEYS, Answer, House


async def made(house: House, key: str = "admin", **values: Any) -> Any:
    """Make a key and return the answer's body."""
    answer = await house.ask("POST", "/keys", key=key, json={"name": "crm", "role": "viewer", **values})
    assert answer.status == 201, answer
    return answer.json


def bearing(key: str) -> dict[str, str]:
    """The headers of a request with a key."""
    return {"Authorization": f"Bearer {key}"}


async def test_a_key_is_shown_once_and_opens_what_its_role_allows(house: House) -> None:
    key = await made(house, role="operator")
    assert set(key) == {"id", "tenant", "role", "name", "created_at", "key"}
    assert (key["tenant"], key["role"], key["name"]) == ("one", "operator", "crm")
    headers = bearing(key["key"])
    assert (await house.ask("GET", "/campaigns", key=None, headers=headers)).status == 200
    assert (await house.ask("GET", "/keys", key=None, headers=headers)).problem() == (403, "forbidden")
    listed = await house.ask("GET", "/keys", key="admin")
    assert {each["id"] for each in listed.json["data"]} >= {key["id"]}
    assert all(set(each) == {"id", "tenant", "role", "name", "created_at"} for each in listed.json["data"])
    secret = key["key"].split("_", 2)[2].encode()
    assert secret not in listed.body
    async with house.daemon.store.read() as conn:
        rows = (await conn.execute(sa.select(api_key))).all()
    assert secret.decode() not in str(rows)


async def test_each_sees_its_own(house: House) -> None:
    listed = (await house.ask("GET", "/keys", key="admin")).json
    assert {each["tenant"] for each in listed["data"]} == {"one"}
    assert listed["total"] == sum(1 for tenant, _ in KEYS.values() if tenant == "one")
    every = (await house.ask("GET", "/keys", key="system")).json
    assert every["total"] == len(KEYS)
    assert {each["tenant"] for each in every["data"]} == {"one", "two", "gone", None}
    first = (await house.ask("GET", "/keys?limit=2", key="admin")).json
    rest = (await house.ask("GET", f"/keys?after={first['next']}", key="admin")).json
    assert [each["id"] for each in first["data"] + rest["data"]] == [each["id"] for each in listed["data"]]


async def test_a_deleted_key_dies_at_once(house: House) -> None:
    key = await made(house)
    headers = bearing(key["key"])
    assert (await house.ask("GET", "/agents", key=None, headers=headers)).status == 200
    gone = await house.ask("DELETE", f"/keys/{key['id']}", key="admin")
    assert (gone.status, gone.body) == (204, b"")
    assert (await house.ask("GET", "/agents", key=None, headers=headers)).problem() == (401, "unauthorized")
    assert (await house.ask("DELETE", f"/keys/{key['id']}", key="admin")).problem() == (404, "key_not_found")


async def test_a_key_that_is_deleted_while_it_is_checked_opens_nothing(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = await made(house)
    fits = keys.StoredKey.fits
    answers = []

    async def delete_then_ask() -> None:
        # The row is read and its digest computed; before the door takes it, the key is deleted.
        answers.append(await house.ask("DELETE", f"/keys/{key['id']}", key="admin"))

    loop = asyncio.get_running_loop()

    def slow(self: keys.StoredKey, secret: str) -> bool:
        found = fits(self, secret)
        asyncio.run_coroutine_threadsafe(delete_then_ask(), loop).result(timeout=30)
        return found

    assert (await house.ask("GET", "/keys", key="admin")).status == 200
    monkeypatch.setattr(keys.StoredKey, "fits", slow)
    late = await house.ask("GET", "/agents", key=None, headers=bearing(key["key"]))
    assert [each.status for each in answers] == [204]
    assert late.problem() == (401, "unauthorized")


async def test_digests_are_computed_two_at_a_time_at_most(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever makes keys and whoever shows one: each digest takes a processor for a while."""
    now, most, lock, never, digest = 0, 0, threading.Lock(), threading.Event(), keys._digest

    def counted(secret: str, salt: bytes) -> bytes:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        never.wait(timeout=0.01)  # as long as a real one, so that they meet
        try:
            return digest(secret, salt)
        finally:
            with lock:
                now -= 1

    assert (await house.ask("GET", "/keys", key="admin")).status == 200
    monkeypatch.setattr(keys, "_digest", counted)
    made_keys = [made(house) for _ in range(8)]
    shown = [house.ask("GET", "/agents", key=key) for key in ("viewer", "operator", "other")]
    wrong = [house.ask("GET", "/agents", key=None, headers=bearing(f"{house.keys['viewer']}{n}")) for n in range(4)]
    await asyncio.gather(*made_keys, *shown, *wrong)
    assert most == 2


@pytest.mark.parametrize(("waiting", "seconds"), [(2, 60.0), (100, 0.05)])
async def test_whoever_would_wait_for_long_is_told_to_come_again(
    house: House, monkeypatch: pytest.MonkeyPatch, waiting: int, seconds: float
) -> None:
    """Where too many wait before it, and where its turn does not come."""
    assert (await house.ask("GET", "/keys", key="admin")).status == 200
    go_on, digest = threading.Event(), keys._digest

    def held(secret: str, salt: bytes) -> bytes:
        assert go_on.wait(timeout=DEADLINE)
        return digest(secret, salt)

    monkeypatch.setattr(keys, "_digest", held)
    monkeypatch.setattr("dialerd.api.auth._WAITING", waiting)
    monkeypatch.setattr("dialerd.api.auth._WAIT_SECONDS", seconds)
    body, served = {"name": "crm", "role": "viewer"}, 4 if waiting == 2 else 2
    asked = {asyncio.create_task(house.ask("POST", "/keys", key="admin", json=body)) for _ in range(12)}
    refused: set[asyncio.Task[Answer]] = set()
    try:
        while len(refused) < len(asked) - served:
            done, _ = await asyncio.wait(asked - refused, return_when=asyncio.FIRST_COMPLETED, timeout=DEADLINE)
            assert {each.result().problem() for each in done} == {(429, "rate_limited")}
            refused |= done
    finally:
        go_on.set()
    assert [(await each).status for each in asked - refused] == [201] * served


async def test_a_tenant_has_so_many_keys_and_no_more(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    most = sum(1 for tenant, _ in KEYS.values() if tenant == "one") + 2
    monkeypatch.setattr("dialerd.api.keys.MOST_PER_TENANT", most)
    body = {"name": "crm", "role": "viewer"}
    answers = await asyncio.gather(*(house.ask("POST", "/keys", key="admin", json=body) for _ in range(5)))
    assert sorted(each.status for each in answers) == [201, 201, 409, 409, 409]
    full = await house.ask("POST", "/keys", key="system", json={**body, "tenant": "one"})
    assert full.problem() == (409, "too_many_keys")
    assert (await house.ask("POST", "/keys", key="other", json=body)).status == 201, "another tenant's do not count"
    gone = next(each.json["id"] for each in answers if each.status == 201)
    assert (await house.ask("DELETE", f"/keys/{gone}", key="admin")).status == 204
    await made(house)


async def test_a_system_key_manages_any(house: House) -> None:
    key = await made(house, "system", tenant="two", role="admin")
    assert key["tenant"] == "two"
    assert (await house.ask("GET", "/keys", key=None, headers=bearing(key["key"]))).status == 200
    assert (await house.ask("DELETE", f"/keys/{key['id']}", key="admin")).problem() == (404, "key_not_found")
    assert (await house.ask("DELETE", f"/keys/{key['id']}", key="system")).status == 204


UNFIT: tuple[tuple[str, dict[str, Any], str], ...] = (
    ("admin", {"role": "system"}, "role"),
    ("admin", {"role": "king"}, "role"),
    ("admin", {"name": ""}, "name"),
    ("admin", {"name": "a\nb"}, "name"),
    ("admin", {"tenant": "two"}, "tenant"),
    ("admin", {"tenant": "nobody"}, "tenant"),
    ("system", {}, "tenant"),
    ("system", {"tenant": "nobody"}, "tenant"),
    ("system", {"tenant": "one", "role": "system"}, "role"),
)


async def test_refuses_what_does_not_fit(house: House) -> None:
    bodies = []
    for key, change, field in UNFIT:
        answer = await house.ask("POST", "/keys", key=key, json={"name": "crm", "role": "viewer", **change})
        assert (answer.problem(), answer.fields()) == ((400, "invalid_request"), [field]), change
        bodies.append(answer.body)
    assert bodies[4] == bodies[5], "whether another tenant exists is not told"
    assert (await house.ask("GET", "/keys", key="system")).json["total"] == len(KEYS)
    for key in ("viewer", "operator"):
        assert (await house.ask("POST", "/keys", key=key, json={})).problem() == (403, "forbidden")


async def test_a_repeat_tells_the_key_again_and_writes_it_nowhere(house: House) -> None:
    body, headers = {"name": "crm", "role": "viewer"}, {"Idempotency-Key": "make the crm's key"}
    first = await house.ask("POST", "/keys", key="admin", json=body, headers=headers)
    again = await house.ask("POST", "/keys", key="admin", json=body, headers=headers)
    assert (first.status, again.status, again.body) == (201, 201, first.body)
    async with house.daemon.store.read() as conn:
        kept = (await conn.execute(sa.select(idempotency.c.status, idempotency.c.body))).all()
    assert [tuple(row) for row in kept] == [(201, None)]
