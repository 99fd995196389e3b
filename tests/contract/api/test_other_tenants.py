"""Every route, asked for what another tenant has: the answer is that of an id that never existed, byte for byte."""

from __future__ import annotations

import itertools
import re
from collections.abc import Awaitable, Callable
from typing import Any

from dialerd.api.bodies import JSON
from dialerd.api.examples import REF, example
from dialerd.api.openapi import document
from dialerd.api.routes import AnyRoute
from dialerd.clock import SystemClock, read_id
from dialerd.core.webhooks import Delivery, DeliveryStatus
from dialerd.store import webhooks
from dialerd.store.keys import Role
from tests.contract.api.house import House

NUMBER = "+12025550199"
EXCLUDED = "+12025550188"
AT = SystemClock().wall()
FAR = itertools.count(10**9)
"""Numbers of events that are not there yet."""
LATER = "2030-01-01T12:00:00Z"


class Owner:
    """A tenant that has one of everything."""

    def __init__(self, house: House, key: str) -> None:
        self._house = house
        self._key = key
        self._ids: dict[str, str] = {}

    async def id(self, name: str) -> str:
        """The tenant's thing of a name in paths."""
        if name not in self._ids:
            self._ids[name] = await MAKERS[name](self)
        return self._ids[name]

    async def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Ask as the tenant; what is asked must be granted."""
        answer = await self._house.ask(method, path, key=self._key, json=body)
        assert answer.status < 300, answer
        return answer.json

    async def campaign(self) -> str:
        return await self._house.campaign(NUMBER, key=self._key, agent_id=await self.id("agent_id"))

    async def agent(self) -> str:
        return await self._house.agent(self._key)

    async def key(self) -> str:
        return str((await self.ask("POST", "/keys", {"name": "k", "role": "viewer"}))["id"])

    async def contact(self) -> str:
        listed = await self.ask("GET", f"/campaigns/{await self.id('campaign_id')}/contacts")
        return str(listed["data"][0]["id"])

    async def upload(self) -> str:
        body = {"contacts": [{"phone": "no number"}]}
        return str((await self.ask("POST", f"/campaigns/{await self.id('campaign_id')}/contacts", body))["import_id"])

    async def callback(self) -> str:
        body = {"phone_number": NUMBER, "due_at": LATER}
        return str((await self.ask("POST", f"/campaigns/{await self.id('campaign_id')}/callbacks", body))["id"])

    async def webhook(self) -> str:
        return str((await self.ask("POST", "/webhooks", {"url": "https://hooks.example.com/dialer"}))["id"])

    async def delivery(self) -> str:
        """Written past the API, which would have to dial for one."""
        webhook_id = read_id(await self.id("webhook_id"))
        assert webhook_id is not None
        seq = next(FAR)
        told = Delivery(webhook_id, seq, 1, 1, "completed", DeliveryStatus.FAILED, 1, 500, "refused", AT, AT, None)
        await self._house.daemon.store.write(lambda tx: webhooks.put(tx, [told]))
        return f"evt_{seq}"

    async def number(self) -> str:
        await self.ask("POST", "/dnc", {"phone_number": EXCLUDED})
        return EXCLUDED


MAKERS: dict[str, Callable[[Owner], Awaitable[str]]] = {
    "campaign_id": Owner.campaign,
    "agent_id": Owner.agent,
    "key_id": Owner.key,
    "contact_id": Owner.contact,
    "import_id": Owner.upload,
    "callback_id": Owner.callback,
    "webhook_id": Owner.webhook,
    "delivery_id": Owner.delivery,
    "number": Owner.number,
}


async def test_another_tenants_id_answers_like_none(house: House) -> None:
    routes = [route for route in house.routes() if "{" in route.path and route.role is not Role.SYSTEM]
    schemas = document(routes)["components"]["schemas"]
    mine, theirs = Owner(house, "admin"), Owner(house, "other")
    for route in routes:
        model = route.body.media.get(JSON)
        body = None if model is None else example({"$ref": REF + model.__name__}, schemas)
        for name in re.findall(r"\{(\w+)\}", route.path):
            answers = {
                await asked(house, route, mine, body, name, each)
                for each in (await theirs.id(name), nobodys(house, name), nobodys(house, name))
            }
            assert len(answers) == 1, (route.method, route.path, answers)
            ((status, _, _),) = answers
            assert status == 404, route.path
    await all_is_as_it_was(house, theirs)


async def asked(
    house: House, route: AnyRoute, mine: Owner, body: Any, name: str, value: str
) -> tuple[int, tuple[tuple[str, str], ...], bytes]:
    """What a tenant is answered for one foreign id, all other ids in the path being its own."""
    names = re.findall(r"\{(\w+)\}", route.path)
    values = {each: value if each == name else await mine.id(each) for each in names}
    answer = await house.ask(route.method, route.path.format(**values), key="admin", json=body)
    headers = tuple((key, each) for key, each in answer.headers.items() if key != "Date")
    return answer.status, headers, answer.body


def nobodys(house: House, name: str) -> str:
    """What no tenant has, and none ever had."""
    return "+12025550100" if name == "number" else house.nobody()


async def all_is_as_it_was(house: House, theirs: Owner) -> None:
    """Whatever was asked, nothing of the other tenant's was touched."""
    campaign = await theirs.ask("GET", f"/campaigns/{await theirs.id('campaign_id')}")
    assert (campaign["status"], campaign["name"], campaign["stats"]["pending"]) == ("draft", "c", 1)
    agent = await theirs.ask("GET", f"/agents/{await theirs.id('agent_id')}")
    assert agent["name"].startswith("agent ")
    keys = await theirs.ask("GET", "/keys")
    assert await theirs.id("key_id") in {each["id"] for each in keys["data"]}
    hook = await theirs.ask("GET", f"/webhooks/{await theirs.id('webhook_id')}")
    assert (hook["status"], hook["url"]) == ("enabled", "https://hooks.example.com/dialer")
    listed = await theirs.ask("GET", "/dnc")
    assert [each["phone_number"] for each in listed["data"]] == [EXCLUDED]
