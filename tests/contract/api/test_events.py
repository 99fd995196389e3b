"""/campaigns/{id}/events: nothing missed, nothing told twice, and no client that holds up another."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from dialerd.api.context import Limits
from dialerd.clock import read_id, show_id
from dialerd.store import events, keys, retention
from dialerd.store.records import EventDraft, EventKind
from dialerd.store.tx import Tx
from tests.contract.api.house import DEADLINE, House, Template, open_house


@dataclass(frozen=True)
class Told:
    """One event as a client reads it."""

    id: int
    event: str
    data: dict[str, Any]


@contextlib.asynccontextmanager
async def stream(
    house: House, campaign_id: str, header: int | None = None, query: str | None = None, *, key: str = "viewer"
) -> AsyncIterator[AsyncIterator[Told]]:
    """Open an event stream, from a place that the header or the query names."""
    headers = house.headers(key)
    if header is not None:
        headers["Last-Event-ID"] = str(header)
    params = {} if query is None else {"after": query}
    url = f"{house.base}/api/v1/campaigns/{campaign_id}/events"
    async with house.session.get(url, headers=headers, params=params) as response:
        assert response.status == 200
        assert response.headers["Content-Type"] == "text/event-stream; charset=utf-8"
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        yield _read(response)


async def _read(response: aiohttp.ClientResponse) -> AsyncIterator[Told]:
    fields: dict[str, str] = {}
    async for raw in response.content:
        line = raw.decode().rstrip("\n")
        if line:
            name, _, value = line.partition(": ")
            assert name not in fields
            fields[name] = value
        else:
            if "data" in fields:
                assert set(fields) == {"event", "id", "data"}
                yield Told(int(fields["id"]), fields["event"], json.loads(fields["data"]))
            fields = {}


async def take(told: AsyncIterator[Told], count: int) -> list[Told]:
    """Read so many events."""
    found: list[Told] = []
    async with asyncio.timeout(DEADLINE):
        while len(found) < count:
            found.append(await anext(told))
    return found


async def emit(house: House, campaign_id: str, first: int, count: int) -> None:
    """Commit events that are told apart by their phone number."""
    number = read_id(campaign_id)
    assert number is not None

    async def write(tx: Tx) -> None:
        for index in range(first, first + count):
            tx.emit(
                EventDraft(
                    EventKind.RINGING, number, "originated", tx.clock.wall(), index, f"call {index}", None, f"+{index}"
                )
            )

    await house.daemon.store.write(write)


def phones(told: list[Told]) -> list[str]:
    """What the events are told apart by."""
    return [each.data["phone_number"] for each in told]


async def test_tells_a_campaigns_way_live(house: House) -> None:
    campaign_id = await house.campaign("+12025550100")
    other = await house.campaign("+12025550100")
    async with stream(house, campaign_id) as told:
        for each in (other, campaign_id):
            await house.ask("POST", f"/campaigns/{each}/start")
            await house.ask("POST", f"/campaigns/{each}/stop")
        started, *rest = await take(told, 3)
    assert started.event == "campaign"
    assert started.data.pop("at").endswith("Z")
    assert started.data == {
        "campaign_id": campaign_id,
        "contact_id": None,
        "call_id": None,
        "status": "active",
        "outcome": None,
        "phone_number": None,
    }
    assert [(each.event, each.data["status"]) for each in rest] == [
        ("campaign", "cancelled"),
        ("cancelled", "cancelled"),
    ]
    assert rest[1].data["phone_number"] == "+12025550100"
    ids = [started.id, *(each.id for each in rest)]
    assert ids == sorted(set(ids))


async def test_data_has_exactly_the_contracts_names(house: House) -> None:
    campaign_id = await house.campaign("+12025550100")
    await house.ask("POST", f"/campaigns/{campaign_id}/start")
    number = read_id(campaign_id)
    assert number is not None
    async with stream(house, campaign_id) as told:
        (call,) = await house.dial(number)
        (originated,) = await take(told, 1)
    assert originated.event == "originated"
    assert set(originated.data) == {
        *("campaign_id", "contact_id", "call_id", "status", "outcome", "phone_number", "at"),
    }
    assert originated.data["contact_id"] == show_id(call.contact_id)
    assert (originated.data["call_id"], originated.data["status"]) == (call.id, "originated")


@pytest.mark.parametrize("by_header", [True, False])
async def test_resumes_where_it_was(house: House, by_header: bool) -> None:
    campaign_id = await house.campaign()
    async with stream(house, campaign_id) as told:
        await emit(house, campaign_id, 0, 3)
        first = await take(told, 1)
    await emit(house, campaign_id, 3, 1200)  # more than a page of the store's
    place = first[0].id
    opened = stream(house, campaign_id, place) if by_header else stream(house, campaign_id, query=str(place))
    async with opened as told:
        missed = await take(told, 1202)
        await emit(house, campaign_id, 1203, 1)
        live = await take(told, 1)
    assert phones(first + missed + live) == [f"+{index}" for index in range(1204)]


async def test_no_gap_and_no_repeat_across_many_reconnects(template: Template, tmp_path: Path) -> None:
    async with open_house(template, tmp_path, Limits(stream_pause_seconds=0.001)) as house:
        campaign_id = await house.campaign()
        total, place = 3000, 0
        seen: list[Told] = []

        async def publish() -> None:
            for first in range(0, total, 7):
                await emit(house, campaign_id, first, min(7, total - first))

        async with asyncio.TaskGroup() as tasks:
            publishing = tasks.create_task(publish())
            turns = 0
            async with asyncio.timeout(2 * DEADLINE):
                while len(seen) < total:
                    turns += 1
                    async with stream(house, campaign_id, place) as told:
                        # A different number each time, so that reconnects fall anywhere in a page and in a batch.
                        seen += await take(told, min(1 + turns * 37 % 211, total - len(seen)))
                    place = seen[-1].id
            await publishing
    assert turns > 10
    assert phones(seen) == [f"+{index}" for index in range(total)]
    assert [each.id for each in seen] == sorted({each.id for each in seen})


async def test_a_reader_that_lags_behind_the_feed_catches_up(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(house.daemon.feed, "_ring", 5)
    campaign_id = await house.campaign()
    async with stream(house, campaign_id) as told:
        await emit(house, campaign_id, 0, 1)
        first = await take(told, 1)
        for start in range(1, 101, 20):
            await emit(house, campaign_id, start, 20)
        rest = await take(told, 100)
    assert phones(first + rest) == [f"+{index}" for index in range(101)]


async def test_without_a_place_it_begins_live(house: House) -> None:
    campaign_id = await house.campaign()
    await emit(house, campaign_id, 0, 5)
    async with stream(house, campaign_id) as told:
        await emit(house, campaign_id, 5, 1)
        assert phones(await take(told, 1)) == ["+5"]
    async with stream(house, campaign_id, 0) as told:
        assert phones(await take(told, 6)) == [f"+{index}" for index in range(6)]


@pytest.mark.parametrize("place", ["x", "-1", "1.5", "99999999999999999999", "²", " 1 2", "1e3"])
async def test_a_place_that_is_none(house: House, place: str) -> None:
    path = f"/campaigns/{await house.campaign()}/events"
    by_query = await house.ask("GET", path, params={"after": place})
    assert by_query.problem() == (400, "invalid_request")
    assert by_query.fields() == ["after"]
    if place.isascii():
        by_header = await house.ask("GET", path, headers={"Last-Event-ID": place})
        assert by_header.problem() == (400, "invalid_request")
        assert by_header.fields() == ["Last-Event-ID"]


async def test_a_place_in_the_future(house: House) -> None:
    campaign_id = await house.campaign()
    await emit(house, campaign_id, 0, 3)
    answer = await house.ask("GET", f"/campaigns/{campaign_id}/events?after={house.daemon.feed.last + 1}")
    assert answer.problem() == (400, "invalid_request")


async def test_comments_keep_an_idle_stream_alive_and_it_outlives_its_campaign(
    template: Template, tmp_path: Path
) -> None:
    async with open_house(template, tmp_path, Limits(heartbeat_seconds=0.05)) as house:
        campaign_id = await house.campaign("+12025550100")
        await house.ask("POST", f"/campaigns/{campaign_id}/stop")
        url = f"{house.base}/api/v1/campaigns/{campaign_id}/events"
        async with house.session.get(url, headers=house.headers()) as response, asyncio.timeout(DEADLINE):
            comments = 0
            async for line in response.content:
                comments += line == b":\n"
                if comments == 3:
                    break


async def test_a_client_that_does_not_read_is_dropped_and_others_go_on(template: Template, tmp_path: Path) -> None:
    limits = Limits(drain_seconds=1.5, stream_buffer_bytes=4096, stream_pause_seconds=0.001)
    async with open_house(template, tmp_path, limits) as house:
        campaign_id = await house.campaign()
        deaf = socket.socket()
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(deaf, ("127.0.0.1", house.server.port))
        request = f"GET /api/v1/campaigns/{campaign_id}/events HTTP/1.1\r\nHost: x\r\n"
        request += f"Authorization: Bearer {house.keys['viewer']}\r\n\r\n"
        await loop.sock_sendall(deaf, request.encode())
        assert (await loop.sock_recv(deaf, 15)).startswith(b"HTTP/1.1 200")
        count = 0
        async with stream(house, campaign_id) as told, asyncio.timeout(2 * DEADLINE):
            while b"dialerd_sse_dropped_total 1.0" not in (await house.ask("GET", "/~/metrics", key=None)).body:
                await emit(house, campaign_id, count, 500)
                heard = await take(told, 500)
                assert phones(heard) == [f"+{index}" for index in range(count, count + 500)]
                count += 500
            assert b"dialerd_sse_clients 1.0" in (await house.ask("GET", "/~/metrics", key=None)).body
        deaf.close()
        async with stream(house, campaign_id, 0) as told:
            assert len(await take(told, count)) == count, "and it can come back"


async def test_streams_are_bounded(template: Template, tmp_path: Path) -> None:
    async with open_house(template, tmp_path, Limits(streams=1)) as house:
        campaign_id = await house.campaign()
        async with stream(house, campaign_id):
            answer = await house.ask("GET", f"/campaigns/{campaign_id}/events")
            assert answer.problem() == (429, "rate_limited")
            assert answer.headers["Retry-After"]


async def test_shutdown_ends_the_streams(house: House) -> None:
    campaign_id = await house.campaign()
    async with stream(house, campaign_id) as told:
        async with asyncio.timeout(DEADLINE):
            await house.server.stop(5)
            assert [each async for each in told] == []
    with pytest.raises(aiohttp.ClientConnectionError):
        await house.ask("GET", "/campaigns")


def _key_id(house: House, name: str) -> int:
    parts = keys.split(house.keys[name])
    assert parts is not None
    return parts[0]


async def _delete_by_the_api(house: House) -> None:
    assert (await house.ask("DELETE", f"/keys/{show_id(_key_id(house, 'viewer'))}", key="admin")).status == 204


async def _delete_in_the_store(house: House) -> None:
    async def remove(tx: Tx) -> bool:
        return await keys.remove(tx, None, _key_id(house, "viewer"))

    assert await house.daemon.store.write(remove)


async def _take_the_tenant_away(house: House) -> None:
    tenants = house.daemon.api.tenants
    tenants.take_up([each for each in tenants.values() if each.id != "one"], [])


@pytest.mark.parametrize("revoke", [_delete_by_the_api, _delete_in_the_store, _take_the_tenant_away])
async def test_a_stream_ends_with_its_key(
    template: Template, tmp_path: Path, revoke: Callable[[House], Awaitable[None]]
) -> None:
    """Whoever deletes it; and what happens from then on is told to others."""
    prompt = revoke is _delete_by_the_api
    async with open_house(template, tmp_path, Limits(heartbeat_seconds=60 if prompt else 0.2)) as house:
        campaign_id = await house.campaign()
        theirs = await house.campaign(key="other")
        async with stream(house, campaign_id) as told, stream(house, theirs, key="other") as others:
            await revoke(house)
            async with asyncio.timeout(DEADLINE):
                assert [each async for each in told] == []
            await emit(house, theirs, 0, 1)
            assert phones(await take(others, 1)) == ["+0"]
        assert (await house.ask("GET", f"/campaigns/{campaign_id}/events", key="viewer")).status in (401, 403)


async def test_a_stream_that_catches_up_ends_with_its_key(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of what it has missed is told any more."""
    campaign_id = await house.campaign()
    await emit(house, campaign_id, 0, 3)
    monkeypatch.setattr("dialerd.api.streams.PAGE", 1)
    after = events.after

    async def delete_meanwhile(conn: Any, campaign: int, place: int, most: int) -> Any:
        found = await after(conn, campaign, place, most)
        if place == 1:
            await _delete_by_the_api(house)
        return found

    monkeypatch.setattr(events, "after", delete_meanwhile)
    async with stream(house, campaign_id, 0) as told, asyncio.timeout(DEADLINE):
        assert phones([each async for each in told]) == ["+0", "+1"]


async def test_a_stream_from_before_what_is_kept_says_so(house: House) -> None:
    old = await house.campaign("+12025550101")
    for action in ("start", "pause", "resume"):
        assert (await house.ask("POST", f"/campaigns/{old}/{action}")).status == 200
    store = house.daemon.store
    async with store.read() as conn:
        last = await events.last(conn)
    removed, upto = await store.write(lambda tx: retention.remove_events(tx, house.clock.wall(), 100))
    assert (removed, upto) == (last - 1, last - 1), "the newest stays"
    young = await house.campaign("+12025550102")
    await house.ask("POST", f"/campaigns/{young}/start")

    async def opening(campaign_id: str, after: int) -> list[str]:
        path = f"{house.base}/api/v1/campaigns/{campaign_id}/events?after={after}"
        async with asyncio.timeout(DEADLINE), house.session.get(path, headers=house.headers()) as response:
            blocks: list[str] = []
            while len(blocks) < 3:
                blocks.append((await response.content.readuntil(b"\n\n")).decode())
                if "event: campaign" in blocks[-1]:
                    break
            return blocks

    first, reset, kept = await opening(old, 0)
    assert "id: 0\n" in first
    assert reset == f'event: reset\nid: {upto}\ndata: {{"missed_up_to":"{upto}"}}\n\n'
    assert f"id: {last}\n" in kept
    # Whoever missed nothing is told nothing of the kind: from the last one removed on, and of a younger campaign.
    for campaign_id, after in ((old, upto), (young, 0)):
        assert not any("reset" in block for block in await opening(campaign_id, after))


async def test_what_a_daemon_wrote_last_and_told_nobody_is_told_by_the_next(template: Template, tmp_path: Path) -> None:
    async with open_house(template, tmp_path) as first:
        campaign_id = await first.campaign("+12025550100")
        await emit(first, campaign_id, 0, 10)
        async with stream(first, campaign_id, 0) as told:
            had = (await take(told, 4))[-1].id
    async with open_house(template, tmp_path, fresh=False) as second, stream(second, campaign_id, had) as told:
        # Not before: what happens next must not overtake what was missed.
        await emit(second, campaign_id, 10, 1)
        assert phones(await take(told, 7)) == [f"+{index}" for index in range(4, 11)]
