"""dialerd tail: no event missed and none told twice, whatever happens to the connection."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator

import pytest

from dialerd.client.access import Access
from dialerd.client.api import Api
from dialerd.client.errors import Problem, Unreachable
from dialerd.client.sse import EventStream, ServerEvent
from dialerd.client.tail import follow
from dialerd.clock import SystemClock
from tests.contract.api.house import DEADLINE, House
from tests.contract.client.conftest import Terminal
from tests.fakes.proxy import Proxy

PATIENCE = 60.0


class Waits(SystemClock):
    """A clock whose waits end when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[float] = []
        self._more = asyncio.Event()
        self._go = asyncio.Semaphore(0)
        self.ahead = 0.0

    def mono(self) -> float:
        return super().mono() + self.ahead

    async def sleep(self, seconds: float) -> None:
        self.asked.append(seconds)
        self._more.set()
        await self._go.acquire()

    def end_wait(self) -> None:
        """Let one wait be over."""
        self._go.release()

    async def waits(self, count: int) -> None:
        """Wait until so many waits were begun."""
        async with asyncio.timeout(DEADLINE):
            while len(self.asked) < count:
                self._more.clear()
                await self._more.wait()


@contextlib.asynccontextmanager
async def client(house: House) -> AsyncIterator[tuple[Api, Proxy]]:
    """A client whose connections a test can cut."""
    async with Proxy("127.0.0.1", house.server.port) as proxy:
        access = Access(f"http://127.0.0.1:{proxy.port}", house.keys["viewer"])
        async with Api(access) as api:
            yield api, proxy


async def journal(house: House, campaign: str) -> list[str]:
    """Every event's id, as a fresh stream tells them up to the campaign's end."""
    found = []
    async with Api(Access(house.base, house.keys["viewer"])) as api:
        events = follow(api, campaign, "0", SystemClock(), PATIENCE, print)
        async with contextlib.aclosing(events):
            async for event in events:
                found.append(event.id or "")
                if event.kind == "campaign" and json.loads(event.data)["status"] == "completed":
                    break
    return found


async def always_open(house: House, *phones: str) -> str:
    """A campaign that may call at any hour."""
    hours = {"calling_hours_start": "00:00", "calling_hours_end": "00:00", "concurrent_calls": 5}
    return await house.campaign(*phones, settings=hours)


async def test_a_connection_cut_again_and_again_leaves_no_gap_and_no_repeat(dialing: Terminal) -> None:
    house = dialing.house
    campaign = await always_open(house, *(f"+1202555{index:02}51" for index in range(60)))
    clock = Waits()
    lost: list[str] = []
    found: list[str] = []
    repairs: list[asyncio.Future[None]] = []
    async with client(house) as (api, proxy), asyncio.timeout(DEADLINE):
        events = follow(api, campaign, "0", clock, PATIENCE, lost.append)
        async with contextlib.aclosing(events):
            assert (await house.ask("POST", f"/campaigns/{campaign}/start")).status == 200
            async for event in events:
                found.append(event.id or "")
                if len(found) == 5 or len(found) == 60:
                    (proxy.cut if len(found) == 60 else proxy.cut_inside_message)()
                    repairs.append(asyncio.ensure_future(repair(clock, proxy, len(clock.asked) + 1)))
                if event.kind == "campaign" and json.loads(event.data)["status"] == "completed":
                    break
    await asyncio.gather(*repairs)
    assert (proxy.connections, len(lost)) == (3, 2)
    assert found == await journal(house, campaign)
    assert len(found) > 180


async def repair(clock: Waits, proxy: Proxy, waits: int) -> None:
    """Let connections pass again as soon as the client waits to try."""
    await clock.waits(waits)
    proxy.restore()
    clock.end_wait()


async def test_what_happens_before_the_first_event_is_not_lost_either(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = asyncio.Event()

    class Watched(EventStream):
        """Says when the stream's opening has been read."""

        def feed(self, data: bytes) -> list[ServerEvent]:
            found = super().feed(data)
            if self.last_id is not None:
                opened.set()
            return found

    monkeypatch.setattr("dialerd.client.tail.EventStream", Watched)
    house = terminal.house
    campaign = await house.campaign("+12025550101")
    assert (await house.ask("POST", f"/campaigns/{campaign}/start")).status == 200
    clock = Waits()
    async with client(house) as (api, proxy), asyncio.timeout(DEADLINE):
        events = follow(api, campaign, None, clock, PATIENCE, print)
        async with contextlib.aclosing(events):
            first = asyncio.ensure_future(anext(events))
            await opened.wait()
            proxy.cut()
            await clock.waits(1)
            await house.ask("POST", f"/campaigns/{campaign}/pause")
            proxy.restore()
            clock.end_wait()
            event = await first
    assert (event.kind, json.loads(event.data)["status"]) == ("campaign", "paused")


async def test_patience_ends(terminal: Terminal) -> None:
    house = terminal.house
    campaign = await house.campaign("+12025550101")
    clock = Waits()
    lost: list[str] = []
    async with client(house) as (api, proxy), asyncio.timeout(DEADLINE):
        events = follow(api, campaign, "0", clock, PATIENCE, lost.append)
        assert (await house.ask("POST", f"/campaigns/{campaign}/start")).status == 200
        assert (await anext(events)).kind == "campaign"
        following = asyncio.ensure_future(anext(events))
        proxy.cut()
        await clock.waits(1)
        clock.end_wait()
        await clock.waits(2)
        clock.ahead += PATIENCE
        clock.end_wait()
        with pytest.raises(Unreachable, match="no connection for 60 s"):
            await following
    assert len(lost) == 1
    assert clock.asked == [2.0, 4.0]


async def test_a_campaign_that_is_not_there_is_told_at_once(terminal: Terminal) -> None:
    async with client(terminal.house) as (api, _):
        with pytest.raises(Problem, match="there is no such campaign"):
            await anext(follow(api, "nobody", None, Waits(), PATIENCE, print))


async def test_a_daemon_that_was_never_there_is_told_at_once(terminal: Terminal) -> None:
    async with client(terminal.house) as (api, proxy):
        proxy.cut()
        with pytest.raises(Unreachable):
            await anext(follow(api, "any", None, Waits(), PATIENCE, print))


async def test_the_command_filters_and_ends_with_the_campaign(dialing: Terminal) -> None:
    house = dialing.house
    campaign = await always_open(house, "+12025550151", "+12025550251")
    tailing = asyncio.ensure_future(
        dialing.json_lines(
            "tail", campaign, "--after", "0", "--until-end", "--event", "completed", "--event", "campaign"
        )
    )
    assert (await house.ask("POST", f"/campaigns/{campaign}/start")).status == 200
    told = await tailing
    assert [each["event"] for each in told].count("completed") == 2
    assert {each["event"] for each in told} == {"completed", "campaign"}
    assert told[-1]["status"] == "completed"
    shown = await dialing.says("tail", campaign, "--after", "0", "--until-end", "--outcome", "answered")
    lines = shown.splitlines()
    assert len(lines) == 2
    assert all("  completed           +12025550" in line and line.endswith("  answered") for line in lines)
