"""What a request may look like at all: media types, sizes, JSON, failures of our own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from dialerd.api.context import Limits
from dialerd.dispatch.control import Health
from dialerd.store.errors import StoreError
from tests.contract.api.house import DEADLINE, Answer, House, Template, open_house
from tests.contract.api.test_campaigns import form

JSON = {"Content-Type": "application/json"}


NO_OBJECTS = (
    b"",
    b"[]",
    b'"text"',
    b"null",
    b"{",
    b'{"name": NaN}',
    b'{"name": Infinity}',
    b'{"name": 1e999}',
    b'{"name": "a", "name": "b"}',
    b'{"name": "\xff"}',
    '{"name": "ü"}'.encode("utf-16"),
    b'{"name": "\\ud800"}',
    b'{"name": "a", "\\ud800": 1}',
    b'{"name": "a\nb"}',
    b"[" * 100_000,
    b'{"name": ' + b"9" * 5000 + b"}",
    b'{"name": "a"} {}',
)


@pytest.mark.parametrize("path", ["/campaigns", "/agents"])
async def test_json_that_is_none(house: House, path: str) -> None:
    for body in NO_OBJECTS:
        answer = await house.ask("POST", path, key="admin", data=body, headers=JSON)
        assert answer.problem() == (400, "invalid_request"), body[:100]
        assert b"Traceback" not in answer.body


async def test_half_a_character_is_told_before_any_contact_is_read(house: House) -> None:
    body = b'{"contacts": [{"phone": "+12025550100", "first_name": "\\ud800"}]}'
    answer = await house.ask("POST", f"/campaigns/{await house.campaign()}/contacts", data=body, headers=JSON)
    assert answer.problem() == (400, "invalid_request")
    assert "surrogate" in answer.json["detail"]


async def test_other_media_types(house: House) -> None:
    campaign_id = await house.campaign()
    for path in ("/campaigns", f"/campaigns/{campaign_id}/contacts", "/agents", f"/campaigns/{campaign_id}/stop"):
        for media in ("text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin-1", ""):
            answer = await house.ask("POST", path, key="admin", data=b"{}", headers={"Content-Type": media})
            assert answer.problem() == (415, "unsupported_media_type"), (path, media)


async def test_bodies_are_bounded(template: Template, tmp_path: Path) -> None:
    limits = Limits(json_bytes=1000, upload_bytes=5000, form_parts=5)
    async with open_house(template, tmp_path, limits) as house:
        campaign_id = await house.campaign()

        async def chunks(size: int) -> AsyncIterator[bytes]:
            yield b'{"name": "'
            for _ in range(size // 100):
                yield b"x" * 100

        path = f"/campaigns/{campaign_id}/contacts"
        csv = {"Content-Type": "text/csv"}
        for answer in (
            await house.ask("POST", "/campaigns", data=b"x" * 2000, headers=JSON),
            await house.ask("POST", "/campaigns", data=chunks(2000), headers=JSON),
            await house.ask("POST", path, data=b"x" * 6000, headers=csv),
            await house.ask("POST", path, data=chunks(6000), headers=csv),
            await house.ask("POST", path, data=form(("contacts", b"x" * 6000))),
        ):
            assert answer.problem() == (413, "payload_too_large")
        many = await house.ask("POST", "/campaigns", data=form(*((f"part{n}", "x") for n in range(9))))
        assert many.problem() == (400, "invalid_request")
        assert (await house.ask("GET", "/campaigns")).json["pagination"]["total"] == 1


async def test_a_body_that_stops_coming_is_given_up(template: Template, tmp_path: Path) -> None:
    async with open_house(template, tmp_path, Limits(body_seconds=1.0)) as house:
        campaign_id = await house.campaign()
        never = asyncio.Event()

        async def stuck() -> AsyncIterator[bytes]:
            yield b"phone_number\n"
            await never.wait()

        async def ask(path: str, media: str) -> Answer:
            return await house.ask("POST", path, data=stuck(), headers={"Content-Type": media})

        contacts = f"/campaigns/{campaign_id}/contacts"
        for answer in await asyncio.gather(
            ask("/campaigns", "application/json"),
            ask(contacts, "text/csv"),
            ask(contacts, "multipart/form-data; boundary=x"),
        ):
            assert answer.problem() == (400, "invalid_request")
            assert "in time" in answer.json["detail"]
        assert _spooled(tmp_path) == set()


def _spooled(folder: Path) -> set[str]:
    """The uploads on disk: they lie beside the store."""
    return {each.name for each in (folder / "dialerd.db-uploads").glob("*")}


NO_FORMS = (
    b"",
    b"--x",
    b"no boundary at all",
    b"--x\r\n\r\nvalue\r\n--x--\r\n",
    b'--x\r\nContent-Disposition: form-data; name="name"\r\n\r\nunended',
    b'--x\r\nContent-Disposition: form-data; name="name"\r\n\r\na\r\n--x\r\n',
    b'--x\r\nContent-Disposition: form-data; name="a"\r\nContent-Transfer-Encoding: base64\r\n\r\nYQ==\r\n--x--\r\n',
    b"--x\r\nContent-Type: multipart/mixed; boundary=y\r\n\r\n--y\r\n\r\n--y--\r\n--x--\r\n",
)


async def test_forms_that_are_none(house: House) -> None:
    for body in NO_FORMS:
        for media in ("multipart/form-data; boundary=x", "multipart/form-data", 'multipart/form-data; boundary=""'):
            answer = await house.ask("POST", "/campaigns", data=body, headers={"Content-Type": media})
            assert answer.problem() == (400, "invalid_request"), (media, body)


async def test_no_file_outlives_its_upload(house: House, tmp_path: Path) -> None:
    campaign_id = await house.campaign()
    before = _spooled(tmp_path)
    path = f"/campaigns/{campaign_id}/contacts"
    for data in (b"phone_number\n+12025550100\n", b"nothing\n"):
        await house.ask("POST", path, data=data, headers={"Content-Type": "text/csv"})
        await house.ask("POST", path, data=form(("contacts", data)))
    assert _spooled(tmp_path) == before


async def test_a_client_that_leaves_in_the_middle_leaves_nothing(house: House, tmp_path: Path) -> None:
    campaign_id = await house.campaign()
    before = _spooled(tmp_path)
    head = f"POST /api/v1/campaigns/{campaign_id}/contacts HTTP/1.1\r\nHost: x\r\nContent-Type: text/csv\r\n"
    head += f"Authorization: Bearer {house.keys['operator']}\r\nContent-Length: 1000000\r\n\r\nphone_number\n+120"
    _, writer = await asyncio.open_connection("127.0.0.1", house.server.port)
    writer.write(head.encode())
    async with asyncio.timeout(2 * DEADLINE):
        while _spooled(tmp_path) == before:
            await house.ask("GET", "/agents")
        writer.close()
        while _spooled(tmp_path) != before:
            await house.ask("GET", "/agents")
    assert (await house.ask("GET", f"/campaigns/{campaign_id}/contacts")).json["total"] == 0


async def test_a_failing_store_is_told_as_such(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    await house.ask("GET", "/agents", key="admin")

    def broken(*_: Any, **__: Any) -> Any:
        raise StoreError("disk I/O error of 202-555-0100")

    monkeypatch.setattr(house.daemon.store, "read", broken)
    monkeypatch.setattr(house.daemon.store, "write", broken)
    body = {"name": "a", "kind": "queue", "queue": "q"}
    for answer in (
        await house.ask("GET", "/agents", key="admin"),
        await house.ask("POST", "/agents", key="admin", json=body),
    ):
        assert answer.problem() == (500, "database_error")
        assert b"disk" not in answer.body


@pytest.mark.parametrize("failure", [StoreError("it is away"), ValueError("a fault of ours")])
async def test_a_request_that_fails_is_logged_by_its_route_and_not_its_path(
    house: House, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    """A path may hold somebody's number, in whatever spelling."""
    await house.ask("GET", "/agents", key="admin")

    def broken(*_: Any, **__: Any) -> Any:
        raise failure

    monkeypatch.setattr(house.daemon.store, "write", broken)
    with structlog.testing.capture_logs() as logged:
        assert (await house.ask("DELETE", "/dnc/202-555-0100", key="admin")).status == 500
    (told,) = [each for each in logged if each["event"] == "request_failed"]
    assert told["route"] == "/api/v1/dnc/{number}"
    assert "0100" not in str(logged)


@pytest.mark.parametrize("failure", [ValueError("a secret"), KeyError("a secret")])
async def test_a_fault_of_ours_leaks_nothing(house: House, monkeypatch: pytest.MonkeyPatch, failure: Exception) -> None:
    async def broken(*_: Any, **__: Any) -> Any:
        raise failure

    monkeypatch.setattr(house.daemon.control, "pause", broken)
    answer = await house.ask("POST", f"/campaigns/{house.nobody()}/pause")
    assert answer.problem() == (500, "internal_error")
    assert b"secret" not in answer.body
    assert (await house.ask("GET", "/campaigns")).status == 200


async def test_the_pages_of_the_operators(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    health = await house.ask("GET", "/~/healthz", key=None)
    assert (health.status, health.body) == (200, b"ok")
    unready = await house.ask("GET", "/~/readyz", key=None)
    assert unready.status == 503
    assert unready.json["ready"] is False
    assert unready.json["problems"]
    monkeypatch.setattr(house.daemon.control, "health", lambda: Health(True, ()))
    ready = await house.ask("GET", "/~/readyz", key=None)
    assert (ready.status, ready.json) == (200, {"ready": True, "problems": []})
    await house.ask("GET", f"/campaigns/{house.nobody()}")
    metrics = await house.ask("GET", "/~/metrics", key=None)
    assert metrics.headers["Content-Type"].startswith("text/plain")
    line = b'dialerd_api_request_seconds_count{method="GET",route="/api/v1/campaigns/{campaign_id}",status="404"} 1.0'
    assert line in metrics.body


async def test_huge_headers_are_refused(house: House) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", house.server.port)
    writer.write(b"GET /api/v1/campaigns HTTP/1.1\r\nHost: x\r\nX-Big: " + b"x" * 100_000 + b"\r\n\r\n")
    async with asyncio.timeout(DEADLINE):
        status = await reader.readline()
        writer.close()
    assert status.split()[1] == b"400"
