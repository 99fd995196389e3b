"""Idempotency-Key: what was answered once is answered again, and done once."""

from __future__ import annotations

import asyncio
import io
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import sqlalchemy as sa

from dialerd.clock import SystemClock
from dialerd.dispatch.control import Control
from dialerd.store import idempotency as kept
from dialerd.store.errors import StoreError
from dialerd.store.schema import idempotency
from dialerd.store.tx import Tx
from tests.contract.api.house import DEADLINE, Answer, House, Template, open_house

CSV = b"phone_number\n+12025550101\n+12025550102\n"


def once(key: str = "order-1") -> dict[str, Any]:
    """The header."""
    return {"headers": {"Idempotency-Key": key}}


def told(answer: Answer) -> tuple[int, str | None, str | None, bytes]:
    """What a repeat must be told alike."""
    return answer.status, answer.headers.get("Content-Type"), answer.headers.get("Location"), answer.body


def form(content: bytes = CSV, name: str = "c", agent_id: str = "") -> aiohttp.FormData:
    """A campaign as a form, with a boundary that differs each time."""
    data = aiohttp.FormData(default_to_multipart=True)
    data.add_field("name", name)
    data.add_field("agent_id", agent_id)
    data.add_field("contacts", io.BytesIO(content), filename="c.csv", content_type="text/csv")
    return data


async def count(house: House) -> int:
    """How many keys are kept."""
    async with house.daemon.store.read() as conn:
        return int(await conn.scalar(sa.select(sa.func.count()).select_from(idempotency)) or 0)


async def test_a_repeat_is_answered_as_the_first_and_does_nothing(house: House) -> None:
    body = {"name": "c", "agent_id": await house.agent()}
    first = await house.ask("POST", "/campaigns", json=body, **once())
    again = await house.ask("POST", "/campaigns", json=body, **once())
    assert first.status == 201
    assert told(again) == told(first)
    assert (await house.ask("POST", "/campaigns", json=body, **once("order-2"))).json["id"] != first.json["id"]
    assert (await house.ask("POST", "/campaigns", json=body)).json["id"] != first.json["id"]
    assert (await house.ask("GET", "/campaigns")).json["pagination"]["total"] == 3


async def test_a_refusal_is_repeated_too(house: House) -> None:
    campaign_id = await house.campaign()
    first = await house.ask("POST", f"/campaigns/{campaign_id}/start", **once())
    assert first.problem() == (409, "no_contacts")
    await house.ask("POST", f"/campaigns/{campaign_id}/contacts", json={"contacts": [{"phone": "+12025550101"}]})
    assert told(await house.ask("POST", f"/campaigns/{campaign_id}/start", **once())) == told(first)
    assert (await house.ask("POST", f"/campaigns/{campaign_id}/start", **once("order-2"))).status == 200


async def test_another_request_with_the_key_is_a_conflict(house: House) -> None:
    agent_id = await house.agent()
    campaign_id = await house.campaign("+12025550101", agent_id=agent_id)
    await house.ask("POST", "/campaigns", json={"name": "c", "agent_id": agent_id}, **once())
    others: list[tuple[str, dict[str, Any]]] = [
        ("/campaigns", {"json": {"name": "d", "agent_id": agent_id}}),
        ("/campaigns?colour=red", {"json": {"name": "c", "agent_id": agent_id}}),
        (f"/campaigns/{campaign_id}/start", {}),
    ]
    for path, how in others:
        assert (await house.ask("POST", path, **how, **once())).problem() == (409, "idempotency_conflict"), path
    assert (await house.ask("GET", f"/campaigns/{campaign_id}")).json["status"] == "draft"


@pytest.mark.parametrize("media", ["text/csv", "multipart/form-data"])
async def test_an_upload_is_known_by_its_content(house: House, media: str) -> None:
    agent_id = await house.agent()
    campaign_id = await house.campaign(agent_id=agent_id)

    async def send(content: bytes) -> Answer:
        if media == "text/csv":
            headers = {"Content-Type": media, **once()["headers"]}
            return await house.ask("POST", f"/campaigns/{campaign_id}/contacts", data=content, headers=headers)
        return await house.ask("POST", "/campaigns", data=form(content, agent_id=agent_id), **once())

    first, again = await send(CSV), await send(CSV)
    assert first.status in (200, 201)
    assert told(again) == told(first)
    assert (await send(CSV + b"+12025550103\n")).problem() == (409, "idempotency_conflict")
    assert (await house.ask("GET", "/campaigns")).json["pagination"]["total"] == (1 if media == "text/csv" else 2)


async def test_each_tenant_has_keys_of_its_own(house: House) -> None:
    mine, theirs = await house.agent(), await house.agent("other")
    first = await house.ask("POST", "/campaigns", json={"name": "c", "agent_id": mine}, **once())
    other = await house.ask("POST", "/campaigns", key="other", json={"name": "c", "agent_id": theirs}, **once())
    assert (first.status, other.status) == (201, 201)
    assert first.json["id"] != other.json["id"]
    system = [await house.ask("POST", "/trunks/a/pause", key="system", **once()) for _ in range(2)]
    assert [each.status for each in system] == [200, 200]


async def test_a_repeat_while_the_first_is_under_way_is_a_conflict(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    campaign_id = await house.campaign("+12025550101")
    begun, go_on = asyncio.Event(), asyncio.Event()
    start = Control.start

    async def slow(self: Control, tenant_id: str, which: int) -> Any:
        begun.set()
        await go_on.wait()
        return await start(self, tenant_id, which)

    monkeypatch.setattr(Control, "start", slow)
    async with asyncio.timeout(DEADLINE), asyncio.TaskGroup() as tasks:
        first = tasks.create_task(house.ask("POST", f"/campaigns/{campaign_id}/start", **once()))
        await begun.wait()
        second = await house.ask("POST", f"/campaigns/{campaign_id}/start", **once())
        go_on.set()
    assert second.problem() == (409, "idempotency_conflict")
    assert "still being answered" in second.json["detail"]
    assert first.result().status == 200
    assert told(await house.ask("POST", f"/campaigns/{campaign_id}/start", **once())) == told(first.result())


async def test_a_failure_is_not_kept(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    campaign_id = await house.campaign("+12025550101")

    async def fails(self: Control, tenant_id: str, which: int) -> Any:
        raise StoreError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(Control, "start", fails)
        failed = await house.ask("POST", f"/campaigns/{campaign_id}/start", **once())
    assert failed.problem() == (500, "database_error")
    assert await count(house) == 0
    assert (await house.ask("POST", f"/campaigns/{campaign_id}/start", **once())).status == 200


async def test_what_does_not_fit_is_not_kept(house: House) -> None:
    assert (await house.ask("POST", "/campaigns", json={"nome": "c"}, **once())).status == 400
    assert await count(house) == 0


async def test_keys_hold_over_a_restart(template: Template, tmp_path: Path) -> None:
    async def cut_short(tx: Tx) -> None:
        newest = sa.select(sa.func.max(idempotency.c.created_at)).scalar_subquery()
        await tx.conn.execute(
            sa.update(idempotency).where(idempotency.c.created_at == newest).values(status=None, body=None)
        )

    async with open_house(template, tmp_path) as house:
        body = {"name": "c", "agent_id": await house.agent()}
        first = await house.ask("POST", "/campaigns", json=body, **once())
        await house.ask("POST", "/campaigns", json=body, **once("cut short"))
        await house.daemon.store.write(cut_short)
    async with open_house(template, tmp_path, fresh=False) as house:
        assert told(await house.ask("POST", "/campaigns", json=body, **once())) == told(first)
        unknown = await house.ask("POST", "/campaigns", json=body, **once("cut short"))
        assert unknown.problem() == (409, "idempotency_conflict")
        assert "cut short" in unknown.json["detail"]
        assert (await house.ask("GET", "/campaigns")).json["pagination"]["total"] == 2


async def test_keys_are_forgotten_after_a_day_in_small_steps(house: House) -> None:
    agent_id = await house.agent()
    first = await house.ask("POST", "/campaigns", json={"name": "c", "agent_id": agent_id}, **once())
    long_ago = SystemClock().wall() - kept.KEEP - timedelta(seconds=1)

    async def age(tx: Tx) -> None:
        await tx.conn.execute(sa.update(idempotency).values(created_at=long_ago))
        old = [{"tenant": "one", "key": str(index), "fingerprint": "", "created_at": long_ago} for index in range(50)]
        await tx.conn.execute(sa.insert(idempotency), old)

    await house.daemon.store.write(age)
    left = [await count(house)]
    for index in range(3):
        await house.ask("POST", "/campaigns", json={"name": "d", "agent_id": agent_id}, **once(f"new {index}"))
        left.append(await count(house))
    assert left == [51, 32, 13, 3]
    again = await house.ask("POST", "/campaigns", json={"name": "c", "agent_id": agent_id}, **once())
    assert again.status == 201
    assert again.json["id"] != first.json["id"]


async def test_an_answer_too_large_is_not_kept_and_not_done_again(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dialerd.api.idempotency.MOST_BYTES", 100)
    body = {"name": "c", "agent_id": await house.agent()}
    assert (await house.ask("POST", "/campaigns", json=body, **once())).status == 201
    again = await house.ask("POST", "/campaigns", json=body, **once())
    assert again.problem() == (409, "idempotency_conflict")
    assert "201" in again.json["detail"]
    assert (await house.ask("GET", "/campaigns")).json["pagination"]["total"] == 1


async def test_any_text_is_a_key_and_none_is_none(house: House) -> None:
    body = {"name": "c", "agent_id": await house.agent()}
    long = await house.ask("POST", "/campaigns", json=body, **once("k" * 4000))
    assert told(await house.ask("POST", "/campaigns", json=body, **once("k" * 4000))) == told(long)
    empty = [await house.ask("POST", "/campaigns", json=body, **once("")) for _ in range(2)]
    assert empty[0].json["id"] != empty[1].json["id"]
