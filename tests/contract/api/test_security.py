"""What docs/threat-model.md claims of the API's door and of every answer; the page names these tests."""

from __future__ import annotations

import asyncio
import hmac
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from dialerd.api.context import Limits
from dialerd.api.wrapper import SECURITY_HEADERS
from dialerd.store import keys
from dialerd.store.schema import api_key
from tests.contract.api.house import DEADLINE, House, Template, open_house

PAGES = ("/", "/docs", "/metrics", "/readyz", "/openapi.json", "/nothing")
ALWAYS = {"X-Content-Type-Options", "X-Frame-Options", "Referrer-Policy", "Content-Security-Policy", "Cache-Control"}


async def test_no_key_is_kept_that_could_be_shown(house: House) -> None:
    """The store holds a salted digest of each, of a salt of its own, and of nothing else that a key is made of."""
    async with house.daemon.store.read() as conn:
        rows = [dict(row) for row in (await conn.execute(sa.select(api_key))).mappings()]
    secrets = [parts[1] for each in house.keys.values() if (parts := keys.split(each)) is not None]
    assert len(rows) == len(secrets) == len(house.keys)
    for secret in secrets:
        assert len(secret) >= 32
        assert not any(secret in str(value) for row in rows for value in row.values())
    assert len({row["salt"] for row in rows}) == len({row["digest"] for row in rows}) == len(rows)


async def test_digests_are_compared_in_constant_time(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """By hmac.compare_digest, and whole: nothing of the secret is looked at before."""
    compared: list[tuple[Any, Any]] = []
    compare = hmac.compare_digest

    def noted(one: Any, other: Any) -> bool:
        compared.append((one, other))
        return compare(one, other)

    monkeypatch.setattr(hmac, "compare_digest", noted)
    good = house.keys["viewer"]
    for shown, status in ((good, 200), (good[:-1], 401), (good[: good.rindex("_") + 1] + "x", 401)):
        headers = {"Authorization": f"Bearer {shown}"}
        assert (await house.ask("GET", "/agents", key=None, headers=headers)).status == status
    assert len(compared) == 3
    assert all(len(one) == len(other) == 64 for one, other in compared)


@pytest.mark.parametrize("path", ["/campaigns", "/nothing", "/~/healthz", "/~/nothing", "/~/metrics"])
async def test_a_key_in_a_url_opens_nothing(house: House, path: str) -> None:
    """URLs are logged by proxies and kept by browsers."""
    asked = [f"{path}?{name}={house.keys['admin']}" for name in ("key", "token", "access_token", "api_key")]
    for each in asked:
        answer = await house.ask("GET", each, key=None)
        assert answer.status in (401, 404) or path in ("/~/healthz", "/~/metrics")
        assert house.keys["admin"].encode() not in answer.body


async def test_failed_logins_are_counted_by_the_address_and_not_by_what_it_shows(
    template: Template, tmp_path: Path
) -> None:
    """Another key each time does not help, nor does what a client says of where it comes from."""
    async with open_house(template, tmp_path, Limits(failed_logins_per_minute=3)) as house:
        statuses = []
        for guess in range(5):
            headers = {"Authorization": f"Bearer dk_guess{guess}", "X-Forwarded-For": f"192.0.2.{guess}"}
            statuses.append((await house.ask("GET", "/agents", key=None, headers=headers)).status)
        assert statuses == [401, 401, 401, 429, 429]


async def test_security_headers_are_on_every_answer(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """On errors, event streams, pages and files too."""

    async def broken(*_: Any, **__: Any) -> Any:
        raise ValueError("a fault of ours")

    monkeypatch.setattr(house.daemon.control, "pause", broken)
    campaign = await house.campaign("+12025550100")
    answers = [
        await house.ask("GET", "/campaigns"),
        await house.ask("HEAD", "/campaigns"),
        await house.ask("GET", "/campaigns", key=None),
        await house.ask("GET", "/campaigns", key="system"),
        await house.ask("GET", "/nothing"),
        await house.ask("PUT", "/campaigns"),
        await house.ask("POST", "/campaigns", data=b"{", headers={"Content-Type": "application/json"}),
        await house.ask("POST", f"/campaigns/{campaign}/pause"),
        await house.ask("GET", f"/campaigns/{campaign}/results"),
        *[await house.ask("GET", f"/~{page}", key=None) for page in PAGES],
    ]
    assert {answer.status for answer in answers} >= {200, 400, 401, 403, 404, 405, 500, 503}
    for answer in answers:
        assert answer.headers.keys() >= ALWAYS, answer
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "'unsafe-inline'" not in answer.headers["Content-Security-Policy"]
        assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]


async def test_security_headers_are_on_event_streams(house: House) -> None:
    campaign = await house.campaign("+12025550100")
    url = f"{house.base}/api/v1/campaigns/{campaign}/events"
    async with asyncio.timeout(DEADLINE), house.session.get(url, headers=house.headers()) as stream:
        assert stream.status == 200
        assert stream.content_type == "text/event-stream"
        assert stream.headers.keys() >= ALWAYS


@pytest.mark.parametrize(
    "request_line",
    [b"GET / HTTP/9.9\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\r\n\r\n", b": x\r\n\r\n", b"GET / HTTP/1.1\r\nx\r\n\r\n"],
)
async def test_what_is_no_request_is_told_no_more_than_that(house: House, request_line: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", house.server.port)
    writer.write(request_line)
    async with asyncio.timeout(DEADLINE):
        answer = await reader.read(100_000)
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.split()[1] == b"400"
    assert b"python" not in head.lower()
    assert b"aiohttp" not in answer.lower()
    assert b"traceback" not in answer.lower()
    names = {line.partition(b":")[0].decode() for line in head.split(b"\r\n")[1:]}
    assert names >= ALWAYS
    assert len(body) < 500


def test_the_headers_are_those_that_the_page_names() -> None:
    assert SECURITY_HEADERS.keys() == ALWAYS


def test_no_cookie_is_ever_set() -> None:
    """A key is sent by whoever has it: no browser sends one by itself, so no other site can use it."""
    sources = list(Path("dialerd").rglob("*.py"))
    assert len(sources) > 100
    assert not [path for path in sources if "set_cookie" in path.read_text("utf-8")]


async def test_no_other_site_may_read_an_answer(house: House) -> None:
    for method in ("GET", "OPTIONS"):
        headers = {"Origin": "https://elsewhere.example", "Access-Control-Request-Method": "GET"}
        answer = await house.ask(method, "/campaigns", headers=headers)
        assert not [name for name in answer.headers if name.lower().startswith("access-control-")]
