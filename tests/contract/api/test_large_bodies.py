"""Large bodies: whatever one holds, and however many come at once, the others are served and the calls go on."""

from __future__ import annotations

import asyncio
import json
import socket
import time  # noqa: TID251
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from dialerd.api.context import Limits
from dialerd.core.settings import MOST_BYTES
from tests.contract.api.house import DEADLINE, Answer, House, Template, open_house

JSON = {"Content-Type": "application/json"}
_STALL_SECONDS = 0.25
_BEAT_SECONDS = 0.005


def _many(item: bytes, bytes_: int) -> bytes:
    return (item + b",") * (bytes_ // (len(item) + 1)) + item


def _keys(bytes_: int) -> bytes:
    return b",".join(b'"%07x":0' % number for number in range(bytes_ // 12))


_LIST, _OTHER = Limits().list_bytes - 100, Limits().json_bytes - 100
BODIES = {
    "contacts, good ones": ("contacts", b'{"contacts":[%b]}' % _many(b'{"phone":"+12025550100"}', _LIST)),
    "contacts, numbers": ("contacts", b'{"contacts":[%b]}' % _many(b"0", _LIST)),
    "contacts, lists in lists": ("contacts", b'{"contacts":[%b]}' % _many(b"[[[[]]]]", 1_000_000)),
    "contacts, objects in objects": ("contacts", b'{"contacts":[%b]}' % _many(b'{"a":{"b":{"c":{}}}}', 2_500_000)),
    "contacts, one of all": ("contacts", b'{"contacts":[[%b]]}' % _many(b"0", _LIST)),
    "contacts, unknown fields": ("contacts", b"{%b}" % _keys(_LIST)),
    "numbers, none of them": ("/dnc", b'{"numbers":[%b]}' % _many(b"0", 990_000)),
    "a campaign, unknown fields": ("/campaigns", b"{%b}" % _keys(_OTHER)),
    "a campaign, as many unknown fields as are read": ("/campaigns", b"{%b}" % _keys(118_000)),
    "a campaign, bad names": ("/campaigns", b'{"settings":{"variables":{%b}}}' % _keys(118_000)),
    "a campaign, a list": ("/campaigns", b'{"settings":{"trunks":[%b]}}' % _many(b"0", _OTHER)),
    "a campaign, as long a list as is read": ("/campaigns", b'{"settings":{"trunks":[%b]}}' % _many(b"0", 19_000)),
    "a campaign, control characters": ("/campaigns", b'{"name":[%b]}' % _many(b'"\\u0001"', 80_000)),
}


async def _longest_stall(work: Callable[[], Awaitable[object]]) -> float:
    """Seconds of work that this process did at most between two beats of the event loop while something was awaited.

    By its own clock of work, threads included: what other processes take from it meanwhile is not its doing.
    """
    loop, worst, working = asyncio.get_running_loop(), 0.0, True

    def beat(before: float) -> None:
        nonlocal worst
        now = time.process_time()
        worst = max(worst, now - before)
        if working:
            loop.call_later(_BEAT_SECONDS, beat, now)

    beat(time.process_time())
    await work()
    working = False
    return worst


def _post(house: House, path: str, body: bytes) -> bytes:
    """Send a body, in a thread: the sender's own work is none of the loop's. Returns the answer's first line."""
    head = f"POST /api/v1{path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {house.keys['admin']}\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    with socket.create_connection(("127.0.0.1", house.server.port), timeout=DEADLINE) as client:
        client.sendall(head.encode() + body)
        return client.makefile("rb").readline()


@pytest.mark.parametrize("body", BODIES)
async def test_no_body_holds_up_the_event_loop(house: House, body: str) -> None:
    path, data = BODIES[body]
    if path == "contacts":
        path = f"/campaigns/{await house.campaign()}/contacts"
    answers: list[bytes] = []

    async def send() -> None:
        answers.append(await asyncio.to_thread(_post, house, path, data))

    assert await _longest_stall(send) < _STALL_SECONDS
    assert answers[0].split()[1] in ((b"200",) if "good" in body else (b"200", b"400", b"413"))


async def test_a_list_of_contacts_may_be_larger_than_any_other_body(template: Template, tmp_path: Path) -> None:
    async with open_house(template, tmp_path, Limits(json_bytes=100_000, list_bytes=300_000)) as house:
        path = f"/campaigns/{await house.campaign()}/contacts"
        contacts = [{"phone": f"+1202{5_000_000 + number}"} for number in range(9_000)]
        added = await house.ask("POST", path, json={"contacts": contacts})
        assert (added.status, added.json["added"]) == (200, len(contacts))
        listed = await house.ask("POST", "/dnc", key="admin", json={"numbers": [each["phone"] for each in contacts]})
        assert (listed.status, listed.json["added"]) == (200, len(contacts))
        for where, body in (("/campaigns", {"name": "x" * 100_000}), (path, {"contacts": ["x" * 300_000]})):
            assert (await house.ask("POST", where, json=body)).problem() == (413, "payload_too_large")


async def test_a_hundred_mistakes_are_told_and_no_more(house: House) -> None:
    body = {f"x{number}\n": "\n" for number in range(4000)}
    for sent in (body, {"name": "c", "settings": {"variables": {f"-{number}": "x" for number in range(4000)}}}):
        answer = await house.ask("POST", "/campaigns", json=sent)
        assert answer.problem() == (400, "invalid_request")
        assert 0 < len(answer.json["errors"]) <= 100
    answer = await house.ask("POST", "/campaigns", json={"x" * 10_000: 1, "settings": {"y" * 10_000: 1}})
    assert all(len(field) < 300 for field in answer.fields())


async def test_the_largest_page_of_campaigns_is_a_few_megabytes_and_holds_nothing_up(house: House) -> None:
    agent_id = await house.agent()
    dates = [f"20{number // 12:02}-{number % 12 + 1:02}-01" for number in range(1000)]
    fitting, answer = [], None
    for number in range(100):
        variables = {f"v{each}": "x" * 880 for each in range(number)}
        settings = {"variables": variables, "blackouts": dates}
        answer = await house.ask("POST", "/campaigns", json={"name": "c", "agent_id": agent_id, "settings": settings})
        if answer.status != 201:
            break
        fitting.append(settings)
    assert answer is not None
    assert answer.problem() == (400, "invalid_request")
    largest = {"name": "c", "agent_id": agent_id, "settings": fitting[-1]}
    for _ in range(200):
        assert (await house.ask("POST", "/campaigns", json=largest)).status == 201
    pages: list[Answer] = []

    async def show() -> None:
        pages.append(await house.ask("GET", "/campaigns?per_page=200"))

    assert await _longest_stall(show) < _STALL_SECONDS
    assert len(pages[0].json["data"]) == 200
    assert len(pages[0].body) < 200 * (MOST_BYTES + 4096)


@asynccontextmanager
async def _unfinished(house: House, path: str, media: str, sizes: list[int], key: str) -> AsyncIterator[list[bytes]]:
    """Bodies of these sizes whose last byte does not come; gives the first lines of the answers that came at once."""
    head = f"POST /api/v1{path} HTTP/1.1\r\nHost: x\r\nContent-Type: {media}\r\nAuthorization: Bearer {house.keys[key]}"
    answers, writers = [], []
    try:
        for size in sizes:
            reader, writer = await asyncio.open_connection("127.0.0.1", house.server.port)
            writers.append(writer)
            writer.write(f"{head}\r\nContent-Length: {size + 1}\r\n\r\n".encode() + b"\n" * size)
            try:
                async with asyncio.timeout(1.0):
                    answers.append(await reader.readline())
            except TimeoutError:
                answers.append(b"")
        yield answers
    finally:
        for writer in writers:
            writer.close()


async def _turned_away(house: House, reason: str) -> float:
    metrics = (await house.ask("GET", "/~/metrics", key=None)).body.decode()
    line = f'dialerd_bodies_turned_away_total{{reason="{reason}"}} '
    return float(next(each for each in metrics.splitlines() if each.startswith(line)).removeprefix(line))


async def test_bodies_on_their_way_are_bounded_together_and_for_each_tenant(template: Template, tmp_path: Path) -> None:
    limits = Limits(list_bytes=400_000, bodies_bytes=1_500_000, tenant_bodies_bytes=1_000_000)
    async with open_house(template, tmp_path, limits) as house:
        mine = f"/campaigns/{await house.campaign()}/contacts"
        theirs = f"/campaigns/{await house.campaign(key='other')}/contacts"
        body = {"contacts": [{"phone": "+12025550100"}], "on_invalid": "skip"}
        large = json.dumps(body).ljust(300_000).encode()
        async with _unfinished(house, mine, "application/json", [300_000] * 4, "operator") as answers:
            assert [answer.split()[1:2] for answer in answers] == [[], [], [], [b"429"]]
            assert await _turned_away(house, "memory") == 1
            refused = await house.ask("POST", mine, data=large, headers=JSON)
            assert refused.problem() == (429, "rate_limited")
            assert int(refused.headers["Retry-After"]) > 0
            assert (await house.ask("POST", theirs, key="other", data=large, headers=JSON)).status == 200
            async with _unfinished(house, theirs, "application/json", [300_000] * 3, "other") as others:
                assert [answer.split()[1:2] for answer in others] == [[], [], [b"429"]]
                assert (await house.ask("GET", "/campaigns")).status == 200
        async with asyncio.timeout(DEADLINE):
            while (await house.ask("POST", mine, data=large, headers=JSON)).status != 200:
                await house.ask("GET", "/agents")


async def test_values_of_forms_on_their_way_are_bounded_too(template: Template, tmp_path: Path) -> None:
    limits = Limits(bodies_bytes=100_000, tenant_bodies_bytes=100_000)
    async with open_house(template, tmp_path, limits) as house:
        parts = "".join(
            f'--x\r\nContent-Disposition: form-data; name="n{number}"\r\n\r\n{"y" * 30_000}\r\n' for number in range(5)
        )
        media = {"Content-Type": "multipart/form-data; boundary=x"}
        answer = await house.ask("POST", "/campaigns", data=f"{parts}--x--\r\n".encode(), headers=media)
        assert answer.problem() == (429, "rate_limited")
