"""/webhooks: every row, every code; and a whole daemon that tells a real receiver over HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from standardwebhooks.webhooks import Webhook as Receiver

from dialerd.dispatch.webhooks import MOST_PER_TENANT
from dialerd.webhooks.addresses import Rules, networks
from dialerd.webhooks.transport import Answer, HttpTransport
from tests.contract.api.house import DEADLINE, House, Template, open_house
from tests.support.endpoint import REFUSED, TAKEN, Endpoint, Received

HOOK = {"url": "https://crm.example.com/hook?key=s3cret", "description": "the CRM", "events": ["completed", "failed"]}


async def made(house: House, **given: Any) -> dict[str, Any]:
    """Make a webhook and return what was answered."""
    answer = await house.ask("POST", "/webhooks", key="admin", json={**HOOK, **given})
    assert answer.status == 201, answer
    found: dict[str, Any] = answer.json
    return found


async def told(house: House, webhook_id: str, count: int = 1, **query: str) -> list[dict[str, Any]]:
    """Wait until so many deliveries are listed, newest first."""
    async with asyncio.timeout(DEADLINE):
        while True:
            answer = await house.ask("GET", f"/webhooks/{webhook_id}/deliveries", key="viewer", params=query)
            assert answer.status == 200, answer
            if len(answer.json["data"]) >= count:
                listed: list[dict[str, Any]] = answer.json["data"]
                return listed
            await house.clock.sleep(0.05)  # nothing tells a client of a commit of deliveries


async def happen(house: House) -> str:
    """Let an event happen: a campaign starts. Returns the campaign's id."""
    campaign_id = await house.campaign("+12025550101")
    assert (await house.ask("POST", f"/campaigns/{campaign_id}/start")).status == 200
    return campaign_id


async def test_a_webhook_is_made_shown_changed_and_deleted(house: House) -> None:
    first = await made(house)
    assert first["secret"].startswith("whsec_")
    shown = {**HOOK, "campaign_id": None, "status": "enabled", "disabled_reason": None, "failing_since": None}
    assert {name: first[name] for name in shown} == shown
    one = f"/webhooks/{first['id']}"
    for key in ("viewer", "operator", "admin"):
        assert (await house.ask("GET", one, key=key)).json == {**first, "secret": None}
        assert (await house.ask("GET", "/webhooks", key=key)).json["data"] == [{**first, "secret": None}]
    change = {"url": "https://other.example.com/", "description": "x", "events": []}
    changed = await house.ask("PATCH", one, key="admin", json=change)
    assert changed.json == {**first, **change, "secret": None}
    assert (await house.ask("DELETE", one, key="admin")).status == 204
    assert (await house.ask("GET", one)).problem() == (404, "webhook_not_found")
    assert (await house.ask("DELETE", one, key="admin")).problem() == (404, "webhook_not_found")


@pytest.mark.parametrize("key", ["viewer", "operator"])
async def test_only_an_admin_changes_webhooks(house: House, key: str) -> None:
    one = f"/webhooks/{(await made(house))['id']}"
    for method, path, body in (
        ("POST", "/webhooks", HOOK),
        ("PATCH", one, {"status": "disabled"}),
        ("DELETE", one, None),
        ("POST", f"{one}/test", None),
        ("POST", f"{one}/deliveries/evt_1/redeliver", None),
    ):
        assert (await house.ask(method, path, key=key, json=body)).problem() == (403, "forbidden")


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, ["url"]),
        ({"url": "http://crm.example.com/"}, ["url"]),
        ({"url": "https://169.254.169.254/"}, ["url"]),
        ({"url": "https://[::ffff:127.0.0.1]/"}, ["url"]),
        ({"url": "https://u:p@crm.example.com/"}, ["url"]),
        ({**HOOK, "events": ["answered"]}, ["events.0"]),
        ({**HOOK, "campaign_id": "nonsense"}, ["campaign_id"]),
        ({**HOOK, "secret": "whsec_mine"}, ["secret"]),
        ({**HOOK, "url": "https://crm.example.com/\n"}, ["url"]),
    ],
)
async def test_what_does_not_fit_is_named_and_makes_nothing(house: House, body: Any, fields: list[str]) -> None:
    answer = await house.ask("POST", "/webhooks", key="admin", json=body)
    assert answer.problem() == (400, "invalid_request")
    assert answer.fields() == fields
    assert (await house.ask("GET", "/webhooks")).json["total"] == 0


async def test_a_campaign_of_another_tenant_is_none(house: House) -> None:
    agent_id = await house.agent("other")
    theirs = await house.campaign(key="other", agent_id=agent_id)
    answers = [
        await house.ask("POST", "/webhooks", key="admin", json={**HOOK, "campaign_id": each})
        for each in (theirs, house.nobody())
    ]
    assert answers[0].problem() == (400, "invalid_request")
    assert answers[0].body == answers[1].body


async def test_a_tenant_has_so_many_and_no_more(house: House) -> None:
    for _ in range(MOST_PER_TENANT):
        await made(house)
    answer = await house.ask("POST", "/webhooks", key="admin", json=HOOK)
    assert answer.problem() == (409, "too_many_webhooks")
    assert (await house.ask("POST", "/webhooks", key="other", json=HOOK)).status == 201


async def test_webhooks_are_listed_in_parts(house: House) -> None:
    ids = [(await made(house))["id"] for _ in range(3)]
    first = (await house.ask("GET", "/webhooks", params={"limit": "2"})).json
    assert [each["id"] for each in first["data"]] == ids[:2]
    rest = (await house.ask("GET", "/webhooks", params={"limit": "2", "after": first["next"]})).json
    assert ([each["id"] for each in rest["data"]], rest["total"], rest["next"]) == (ids[2:], 3, None)


async def test_a_secret_is_told_again_to_a_repeat_and_never_stored(house: House) -> None:
    headers = {"Idempotency-Key": "once"}
    first = await house.ask("POST", "/webhooks", key="admin", json=HOOK, headers=headers)
    again = await house.ask("POST", "/webhooks", key="admin", json=HOOK, headers=headers)
    assert (again.status, again.json) == (201, first.json)
    assert (await house.ask("GET", "/webhooks")).json["total"] == 1


async def test_a_new_secret_signs_beside_the_old_one(house: House) -> None:
    first = await made(house, events=[])
    changed = await house.ask("PATCH", f"/webhooks/{first['id']}", key="admin", json={"rotate_secret": True})
    secrets = {first["secret"], changed.json["secret"]}
    assert len(secrets) == 2
    await happen(house)
    await house.endpoint.until(lambda: bool(house.endpoint.taken))
    received = house.endpoint.taken[0]
    for secret in secrets:
        assert Receiver(secret).verify(received.body.decode(), dict(received.headers)) == received.json


async def test_deliveries_are_listed_and_repeated(house: House) -> None:
    hook = await made(house, events=[])
    house.endpoint.answers = lambda _: REFUSED
    campaign_id = await happen(house)
    (delivery,) = await told(house, hook["id"])
    assert delivery["next_attempt_at"] > delivery["last_attempt_at"]
    shown = ("event", "campaign_id", "contact_id", "status", "attempts", "status_code", "error")
    assert [delivery[name] for name in shown] == [
        *("campaign", campaign_id, None),
        *("retrying", 1, 503, "the answer was 503"),
    ]
    again = f"/webhooks/{hook['id']}/deliveries/{delivery['id']}/redeliver"
    refused = await house.ask("POST", again, key="admin")
    assert (refused.status, refused.json["status"], refused.json["attempts"]) == (200, "retrying", 2)
    house.endpoint.answers = lambda _: TAKEN
    taken = await house.ask("POST", again, key="admin")
    assert (taken.status, taken.json["status"], taken.json["error"]) == (200, "delivered", None)
    assert {each.id for each in house.endpoint.attempts} == {delivery["id"]}
    assert len({each.body for each in house.endpoint.attempts}) == 1
    (listed,) = await told(house, hook["id"], status="delivered")
    assert listed == taken.json
    for status in ("retrying", "waiting", "failed"):
        path = f"/webhooks/{hook['id']}/deliveries"
        assert (await house.ask("GET", path, params={"status": status})).json["total"] == 0


async def test_deliveries_are_listed_in_parts_newest_first(house: House) -> None:
    hook = await made(house, events=[])
    for _ in range(3):
        await happen(house)
    ids = [each["id"] for each in await told(house, hook["id"], 3)]
    assert ids == sorted(ids, key=lambda each: int(each.removeprefix("evt_")), reverse=True)
    path = f"/webhooks/{hook['id']}/deliveries"
    first = (await house.ask("GET", path, params={"limit": "2"})).json
    rest = (await house.ask("GET", path, params={"limit": "2", "after": first["next"]})).json
    assert [each["id"] for each in (*first["data"], *rest["data"])] == ids
    assert (rest["next"], rest["total"]) == (None, 3)


@pytest.mark.parametrize("delivery", ["evt_999999", "evt_x", "nonsense", "evt_99999999999999999999"])
async def test_no_such_delivery(house: House, delivery: str) -> None:
    hook = await made(house)
    answer = await house.ask("POST", f"/webhooks/{hook['id']}/deliveries/{delivery}/redeliver", key="admin")
    assert answer.problem() == (404, "delivery_not_found")


async def test_a_test_tells_what_the_endpoint_made_of_it(house: House) -> None:
    hook = await made(house)
    one = f"/webhooks/{hook['id']}"
    assert (await house.ask("PATCH", one, key="admin", json={"status": "disabled"})).json["status"] == "disabled"
    good = await house.ask("POST", f"{one}/test", key="admin")
    assert (good.status, good.json["delivered"], good.json["status_code"], good.json["error"]) == (200, True, 204, None)
    received = house.endpoint.taken[0]
    assert Receiver(hook["secret"]).verify(received.body.decode(), dict(received.headers)) == received.json
    assert (received.json["type"], received.json["data"]) == ("test", {"webhook_id": hook["id"]})
    house.endpoint.answers = lambda _: Answer(None, "no answer within 10 s")
    bad = await house.ask("POST", f"{one}/test", key="admin")
    assert (bad.json["delivered"], bad.json["status_code"], bad.json["error"]) == (False, None, "no answer within 10 s")


async def test_a_webhook_has_two_tries_at_once_and_another_tenants_do_not_wait(
    template: Template, tmp_path: Path
) -> None:
    """An endpoint that hangs takes ten seconds for each: nobody else's deliveries stand behind them."""
    go_on, hanging = asyncio.Event(), asyncio.Event()

    async def answers(received: Received) -> Answer:
        if "hangs" in received.url:
            hanging.set()
            await go_on.wait()
        return TAKEN

    async with open_house(template, tmp_path, transport=Endpoint(answers)) as house:
        theirs = [
            (await house.ask("POST", "/webhooks", key="other", json={"url": f"https://hangs.example/{n}"})).json
            for n in range(2)
        ]
        mine = (await made(house))["id"]
        tries = [f"/webhooks/{each['id']}/test" for each in theirs for _ in range(60)]
        asked = {asyncio.create_task(house.ask("POST", path, key="other")) for path in tries}
        try:
            async with asyncio.timeout(DEADLINE):
                refused: set[asyncio.Task[Any]] = set()
                while len(refused) < len(asked) - 4:
                    done, _ = await asyncio.wait(asked - refused, return_when=asyncio.FIRST_COMPLETED)
                    assert {each.result().problem() for each in done} == {(429, "rate_limited")}
                    refused |= done
                assert hanging.is_set()
                assert (await house.ask("POST", f"/webhooks/{mine}/test", key="admin")).json["delivered"]
        finally:
            go_on.set()
        for each in asked - refused:
            assert (await each).json["delivered"]
        again = await house.ask("POST", tries[0], key="other")
        assert again.json["delivered"], "and there is room again"


async def test_one_that_was_disabled_goes_on_where_it_is_told_to(house: House) -> None:
    hook = await made(house, events=[])
    one = f"/webhooks/{hook['id']}"
    await happen(house)
    (first,) = await told(house, hook["id"])
    off = await house.ask("PATCH", one, key="admin", json={"status": "disabled"})
    assert off.json["disabled_reason"] == "disabled by hand"
    await happen(house)
    seq = first["id"].removeprefix("evt_")
    for body, field in (({"after": seq}, "after"), ({"status": "enabled", "after": "999999999"}, "after")):
        refused = await house.ask("PATCH", one, key="admin", json=body)
        assert (refused.problem(), refused.fields()) == ((400, "invalid_request"), [field])
    on = await house.ask("PATCH", one, key="admin", json={"status": "enabled", "after": seq})
    assert (on.json["status"], on.json["disabled_reason"]) == ("enabled", None)
    assert len(await told(house, hook["id"], 2)) == 2
    assert [each.id for each in house.endpoint.taken].count(first["id"]) == 1


@contextlib.asynccontextmanager
async def receiver() -> AsyncIterator[tuple[str, list[tuple[dict[str, str], str]]]]:
    """A server as a customer would run it: its URL, and what it was sent."""
    received: list[tuple[dict[str, str], str]] = []

    async def take(request: web.Request) -> web.Response:
        text = await request.text()
        received.append(({name.lower(): value for name, value in request.headers.items()}, text))
        # The first attempt of every other message fails.
        seen = [headers["webhook-id"] for headers, _ in received].count(received[-1][0]["webhook-id"])
        return web.Response(status=500 if len(received) % 2 and seen == 1 else 200, text="thanks")

    app = web.Application()
    app.router.add_post("/hook", take)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/hook", received
    finally:
        await runner.cleanup()


async def test_a_whole_campaign_reaches_a_real_receiver(
    template: Template, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dialerd.core.webhooks._FIRST", 0.05)
    rules = Rules(networks(["127.0.0.1/32"]), http=True)
    real = HttpTransport(rules, 10.0, "dialerd/test")
    async with receiver() as (url, received), open_house(template, tmp_path, dials=True, transport=real) as house:
        refused = await house.ask("POST", "/webhooks", key="admin", json={"url": url})
        assert refused.fields() == ["url"], "plain HTTP to the loopback is not what the configuration allows"
        monkeypatch.setattr(house.daemon.webhooks, "_rules", rules)
        made = await house.ask("POST", "/webhooks", key="admin", json={"url": url})
        phones = [f"+12025550{index}{behaviour}" for index in range(5) for behaviour in ("01", "10")]
        campaign_id = await house.campaign(
            *phones, settings={"concurrent_calls": 5, "calling_hours_end": "09:00", "max_retries": 0}
        )
        assert (await house.ask("POST", f"/campaigns/{campaign_id}/start")).status == 200
        async with asyncio.timeout(DEADLINE):
            while (await house.ask("GET", f"/campaigns/{campaign_id}")).json["status"] != "completed":
                await house.clock.sleep(0.05)
        stream = await followed(house, campaign_id)
        taken = await told(house, made.json["id"], len(stream), status="delivered", limit="1000")
        assert {each["id"] for each in taken} == {f"evt_{seq}" for seq in stream}
        verifier = Receiver(made.json["secret"])
        for headers, text in received:
            message = verifier.verify(text, headers)
            kind, data = stream[headers["webhook-id"].removeprefix("evt_")]
            assert (message["type"], message["data"]) == (kind, data)
        attempts = [headers["webhook-id"] for headers, _ in received]
        assert len(attempts) > len(stream), "what failed was tried again"
        assert set(attempts) == {f"evt_{seq}" for seq in stream}


async def followed(house: House, campaign_id: str) -> dict[str, tuple[str, Any]]:
    """All events of a campaign that has ended, as the event stream tells them: by their id, kind and data."""
    found: dict[str, tuple[str, Any]] = {}
    url = f"{house.base}/api/v1/campaigns/{campaign_id}/events?after=0"
    async with asyncio.timeout(DEADLINE), house.session.get(url, headers=house.headers()) as response:
        fields: dict[str, str] = {}
        async for line in response.content:
            name, _, value = line.decode().rstrip("\n").partition(": ")
            if name:
                fields[name] = value
                continue
            if "data" in fields:
                found[fields["id"]] = fields["event"], json.loads(fields["data"])
                if fields["event"] == "campaign" and json.loads(fields["data"])["status"] == "completed":
                    return found
            fields = {}
    raise AssertionError("the stream ended before the campaign")
