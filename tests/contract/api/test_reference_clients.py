"""Two clients, each written for one published campaign API and knowing nothing else, run a whole campaign.

Client A speaks JSON alone: agents, settings, callbacks, error codes. Client B is a dialer's: a form with a CSV file,
the list of contacts, the event stream, stop. Neither uses a field or a route that its reference does not have.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.contract.api.house import DEADLINE, House, Template, open_house

ALL_DAY = {"calling_hours_start": "00:00", "calling_hours_end": "00:00", "timezone": "UTC"}
ANSWERS = [f"+120255501{index}" for index in range(50, 58)]
BUSY = "+12025550110"
"""The simulated far end goes by the last two digits: 10 is busy, and those it does not know answer."""


@pytest.fixture
async def dialing(template: Template, tmp_path: Path) -> AsyncIterator[House]:
    """The daemon with a PBX that dials."""
    async with open_house(template, tmp_path, dials=True) as house:
        yield house


@dataclass
class ClientA:
    """JSON in, JSON out; goes by ``code`` where something is refused, and asks again to see how it goes."""

    house: House
    key: str

    async def call(self, method: str, path: str, body: Any = None, *, expect: int = 200) -> Any:
        answer = await self.house.ask(method, path, key=self.key, json=body)
        assert answer.status == expect, answer
        return answer.json

    async def refused(self, method: str, path: str, body: Any = None) -> str:
        answer = await self.house.ask(method, path, key=self.key, json=body)
        assert answer.status >= 400
        return str(answer.json["code"])

    async def wait_for(self, campaign_id: str, status: str) -> Any:
        async with asyncio.timeout(DEADLINE):
            while (campaign := await self.call("GET", f"/campaigns/{campaign_id}"))["status"] != status:
                await self.house.clock.sleep(0.02)
        return campaign


async def test_client_a_runs_a_campaign(dialing: House) -> None:
    client, agent_id = ClientA(dialing, "operator"), await dialing.agent()
    assert await client.refused("POST", "/campaigns", {"name": "Spring", "agent_id": "nobody"}) == "agent_not_found"
    assert await client.refused("POST", "/campaigns", {"name": "", "agent_id": agent_id}) == "invalid_request"
    settings = {**ALL_DAY, "concurrent_calls": 3, "max_retries": 0}
    made = await client.call(
        "POST", "/campaigns", {"name": "Spring", "agent_id": agent_id, "settings": settings}, expect=201
    )
    path = f"/campaigns/{made['id']}"
    assert (made["status"], made["settings"]["concurrent_calls"]) == ("draft", 3)
    assert await client.refused("POST", f"{path}/start") == "no_contacts"
    contacts = [{"phone": phone, "first_name": "Ann", "company": "Example"} for phone in (*ANSWERS, BUSY)]
    assert (await client.call("POST", f"{path}/contacts", {"contacts": contacts}))["added"] == len(contacts)
    assert await client.refused("POST", f"{path}/pause") == "campaign_not_active"

    assert (await client.call("POST", f"{path}/start"))["status"] == "active"
    assert await client.refused("POST", f"{path}/start") in ("campaign_already_active", "campaign_finished")
    assert (await client.call("POST", f"{path}/pause"))["status"] == "paused"
    page = await client.call("GET", f"/campaigns?status=paused&agent_id={agent_id}&page=1&per_page=5")
    assert [each["id"] for each in page["data"]] == [made["id"]]
    assert page["pagination"] == {"page": 1, "per_page": 5, "total": 1, "total_pages": 1}
    assert (await client.call("POST", f"{path}/resume"))["status"] == "active"

    stats = (await client.wait_for(made["id"], "completed"))["stats"]
    assert (stats["total"], stats["completed"], stats["failed"], stats["pending"]) == (9, 8, 1, 0)
    # The pause may have called back a call or two before they were sent; those were placed again.
    assert (stats["calls_placed"] >= 9, stats["calls_in_flight"]) == (True, 0)
    assert 0 < stats["answer_rate"] <= round(8 / 9, 4)
    assert (stats["outcomes"]["answered"], stats["outcomes"]["busy"]) == (8, 1)
    assert await client.refused("POST", f"{path}/start") == "campaign_finished"
    assert await client.refused("GET", "/campaigns/nobody") == "campaign_not_found"
    await client.call("DELETE", path, expect=204)
    trunk = (await client.call("GET", "/trunks"))["data"][0]
    assert (trunk["state"], trunk["channels_in_use"]) == ("up", 0)
    assert trunk["answer_seizure_ratio"] == round(8 / 9, 4)


@dataclass
class ClientB:
    """Forms and CSV in; reads contacts and events; goes by the status where something is refused."""

    house: House
    key: str

    async def create(self, csv: str, **values: str) -> Any:
        form = aiohttp.FormData(default_to_multipart=True)
        form.add_field("contacts", csv.encode(), filename="contacts.csv", content_type="text/csv")
        for name, value in values.items():
            form.add_field(name, value)
        answer = await self.house.ask("POST", "/campaigns", key=self.key, data=form)
        assert answer.status == 201, answer
        return answer.json

    async def act(self, campaign_id: str, verb: str) -> tuple[int, Any]:
        answer = await self.house.ask("POST", f"/campaigns/{campaign_id}/{verb}", key=self.key)
        return answer.status, answer.json

    async def contacts(self, campaign_id: str, **query: str) -> list[Any]:
        path = f"/campaigns/{campaign_id}/contacts"
        answer = await self.house.ask("GET", path, key=self.key, params=query)
        assert answer.status == 200, answer
        found: list[Any] = answer.json["data"]
        return found

    async def events(self, campaign_id: str, opened: asyncio.Event) -> AsyncIterator[tuple[str, Any]]:
        """Each event's kind and data, as they come."""
        url = f"{self.house.base}/api/v1/campaigns/{campaign_id}/events"
        async with self.house.session.get(url, headers=self.house.headers(self.key)) as response:
            assert response.status == 200
            kind = ""
            async for line in response.content:
                opened.set()
                name, _, value = line.decode().rstrip("\n").partition(": ")
                if name == "event":
                    kind = value
                elif name == "data":
                    yield kind, json.loads(value)


async def follow(client: ClientB, campaign_id: str, opened: asyncio.Event, until: str) -> list[tuple[str, Any]]:
    """The events of a campaign up to its own of a status."""
    found = []
    async with asyncio.timeout(DEADLINE):
        async for kind, data in client.events(campaign_id, opened):
            found.append((kind, data))
            if kind == "campaign" and data["status"] == until:
                break
    return found


async def test_client_b_runs_a_campaign(dialing: House) -> None:
    # What B knows no word for is the operator's: an agent that its tenant's campaigns go to.
    await dialing.agent("other", name="the default")
    client = ClientB(dialing, "other")
    csv = "phone_number,first_name,city\n" + "".join(f"{phone},Ann,Oslo\n" for phone in (*ANSWERS, BUSY))
    made = await client.create(csv, name="Autumn", concurrent_calls="4", max_retries="0", **ALL_DAY)
    opened = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        following = tasks.create_task(follow(client, made["id"], opened, "completed"))
        await opened.wait()
        status, started = await client.act(made["id"], "start")
        assert (status, started["status"]) == (200, "active")
    told = Counter(kind for kind, _ in following.result())
    assert (told["originated"], told["connected"], told["completed"], told["failed"]) == (9, 8, 8, 1)
    assert {data["campaign_id"] for _, data in following.result()} == {made["id"]}
    assert {data["phone_number"] for kind, data in following.result() if kind == "failed"} == {BUSY}
    done = await client.contacts(made["id"], status="completed", limit="5", offset="0")
    rest = await client.contacts(made["id"], status="completed", limit="5", offset="5")
    assert {each["phone_number"] for each in done + rest} == set(ANSWERS)
    assert {each["attributes"]["city"] for each in done} == {"Oslo"}
    assert [each["phone_number"] for each in await client.contacts(made["id"], status="failed")] == [BUSY]
    assert (await client.act(made["id"], "start"))[0] == 409


async def test_client_b_stops_a_campaign(dialing: House) -> None:
    await dialing.agent("other", name="the default")
    client = ClientB(dialing, "other")
    csv = "phone_number\n" + "".join(f"+1202555{line:02}51\n" for line in range(1, 100))
    made = await client.create(csv, name="Winter", concurrent_calls="1", **ALL_DAY)
    path = f"/campaigns/{made['id']}"
    opened = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        following = tasks.create_task(follow(client, made["id"], opened, "cancelled"))
        await opened.wait()
        await client.act(made["id"], "start")
        assert (await dialing.ask("DELETE", path, key="other")).status == 409, "refused while active"
        status, stopped = await client.act(made["id"], "stop")
        assert (status, stopped["status"]) == (200, "cancelled")
    told = Counter(kind for kind, _ in following.result())
    listed = await client.contacts(made["id"], limit="1000")
    statuses = Counter(each["status"] for each in listed)
    assert len(listed) == 99
    assert statuses["pending"] == 0
    assert statuses["cancelled"] >= 99 - told["originated"] > 0
    assert (await client.act(made["id"], "stop"))[0] == 409
    assert (await dialing.ask("DELETE", path, key="other")).status == 204
    assert (await dialing.ask("GET", path, key="other")).status == 404
