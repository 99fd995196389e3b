"""SIGTERM in every corner: calls finish, results are kept, streams end, the exit status is 0."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from dialerd.clock import SystemClock
from tests.integration.client import Api, Follower, Told
from tests.integration.daemon import TENANT, Daemon, Stock, toml
from tests.integration.simulated import dialing, simulated

pytestmark = pytest.mark.slow

DEADLINE = 60.0
LONGER_THAN_ANY_TEST = 600.0
_clock = SystemClock()


def _tell(daemon: Daemon, number: signal.Signals) -> int:
    """Send a signal; returns the place in the log from which to look for what comes of it."""
    mark = len(daemon.log)
    os.kill(daemon.pid, number)
    return mark


async def _read_to_its_end(api: Api, campaign_id: str, opened: asyncio.Event) -> list[Told]:
    """Read an event stream from the campaign's first event on, until the daemon ends it."""
    told = []
    async with asyncio.timeout(2 * DEADLINE), api.stream(campaign_id, 0) as events:
        async for each in events:
            opened.set()
            told.append(each)
    return told


async def test_calls_finish_and_their_streams_go_on_where_they_ended(tmp_path: Path, stock: Stock) -> None:
    drain = LONGER_THAN_ANY_TEST
    async with simulated(tmp_path, stock, rate=20.0, talk=3.0, drain=drain) as (daemon, api):
        campaign_id = await dialing(api, 200)
        async with api.follow(campaign_id) as follower:
            await follower.until(lambda: follower.count("connected") >= 20, DEADLINE, "it dials")
            opened = asyncio.Event()
            stream = asyncio.create_task(_read_to_its_end(api, campaign_id, opened))
            async with asyncio.timeout(DEADLINE):
                await opened.wait()
            mark = _tell(daemon, signal.SIGTERM)
            assert (await daemon.logged("draining", after=mark))["calls"] >= 10
            assert await daemon.ended(DEADLINE) == 0, "it waits for its calls, not for the whole of drain_seconds"
            told = await stream
            assert not any(line.get("event") == "calls_left_to_the_pbx" for line in daemon.log)
            begun = {each.data["call_id"] for each in told if each.kind == "connected"}
            assert len(begun) >= 20
            await daemon.start()
            kept = {call["id"]: call["outcome"] for call in await api.calls(campaign_id)}
            assert {kept[call_id] for call_id in begun} == {"answered"}
            # The last of a stream may be told only to the client that comes back: it misses nothing then.
            await follower.until(lambda: begun <= _completed(follower), DEADLINE, "every call's end is told")


def _completed(follower: Follower) -> set[str]:
    return {each.data["call_id"] for each in follower.told if each.kind == "completed"}


async def test_a_second_signal_leaves_the_calls_to_the_pbx(tmp_path: Path, stock: Stock) -> None:
    long = LONGER_THAN_ANY_TEST
    async with simulated(tmp_path, stock, rate=20.0, talk=long, drain=long) as (daemon, api):
        campaign_id = await dialing(api, 40)
        async with api.follow(campaign_id) as follower:
            await follower.until(lambda: follower.count("connected") >= 5, DEADLINE, "it dials")
        await daemon.logged("draining", after=_tell(daemon, signal.SIGTERM))
        mark = _tell(daemon, signal.SIGTERM)
        assert (await daemon.logged("calls_left_to_the_pbx", after=mark))["calls"] >= 5
        assert await daemon.ended(DEADLINE) == 0


def uploads(folder: Path, files: str = "") -> list[Path]:
    """The folder beside the store where uploads are kept while they are read, or the files in it."""
    return list(folder.glob(f"*-uploads{files}"))


async def test_an_upload_under_way_is_refused_and_leaves_nothing_behind(tmp_path: Path, stock: Stock) -> None:
    async with simulated(tmp_path, stock) as (daemon, api):
        campaign_id = await api.campaign(await api.agent("answered"), [{"phone_number": "+12022000000"}])

        async def half_a_list() -> AsyncIterator[bytes]:
            yield b"phone_number\n+12025550101\n"
            await asyncio.Event().wait()

        async def upload() -> tuple[int, str]:
            headers, patient = {"Content-Type": "text/csv"}, aiohttp.ClientTimeout(total=2 * DEADLINE)
            url = f"{daemon.url}/api/v1/campaigns/{campaign_id}/contacts"
            async with api.session.post(url, data=half_a_list(), headers=headers, timeout=patient) as answer:
                return answer.status, (await answer.json())["detail"]

        uploading = asyncio.create_task(upload())
        async with asyncio.timeout(DEADLINE):
            while not uploads(tmp_path, "/*"):
                await _clock.sleep(0.05)
        assert await daemon.stop() == 0
        # It was answered, not cut off when the grace was over.
        assert await uploading == (500, "the daemon is stopping; the request changed nothing")
        assert uploads(tmp_path) == []
        await daemon.start()
        assert len(await api.contacts(campaign_id)) == 1


async def test_a_stop_in_the_middle_of_a_reload_is_a_stop(tmp_path: Path, stock: Stock) -> None:
    async with simulated(tmp_path, stock) as (daemon, _):
        for _ in range(3):
            os.kill(daemon.pid, signal.SIGHUP)
        assert await daemon.stop() == 0
        errors = [line for line in daemon.log if line.get("level") in ("error", "critical")]
        assert errors == []


async def test_a_stop_while_the_start_or_a_login_is_under_way(tmp_path: Path, stock: Stock) -> None:
    called = asyncio.Event()

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        called.set()
        try:
            await reader.read()
        finally:
            writer.close()

    mute = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    deaf = socket.socket()
    deaf.bind(("127.0.0.1", 0))  # nobody else gets the port, and it refuses
    ports = {"mute": mute.sockets[0].getsockname()[1], "deaf": deaf.getsockname()[1]}
    limits = {"max_calls_per_second": 5.0, "max_channels": 5}
    dispatch: dict[str, object] = {"drain_seconds": LONGER_THAN_ANY_TEST}

    def write(store: Path, port: int) -> str:
        tables: dict[str, dict[str, object]] = {
            "server": {"listen": f"127.0.0.1:{port}"},
            "store": {"url": f"sqlite:///{store}"},
            "dispatch": dispatch,
        }
        for name, number in ports.items():
            link = {"driver": "asterisk", "host": "127.0.0.1", "port": number, "username": "u", "secret": "s"}
            tables[f"pbx.{name}"] = {**link, **limits}
            tables[f"trunk.{name}"] = {"pbx": name, "dial": "PJSIP/{number}@t", **limits}
        tables[f"tenant.{TENANT}"] = {
            "max_calls_per_second": 5.0,
            "max_concurrent_calls": 5,
            "trunks": list(ports),
        }
        return toml(tables)

    daemon = Daemon(tmp_path, stock, write)
    async with mute:
        try:
            await daemon.launch()
            await daemon.logged("api_listening")  # and "ready" is yet to come, or has just come
            assert await daemon.stop() == 0
            called.clear()
            mark = len(daemon.log)
            await daemon.launch()
            await daemon.logged("ready", after=mark)
            async with asyncio.timeout(DEADLINE):
                await called.wait()
            await daemon.logged("pbx_down", after=mark, pbx="deaf")
            assert await daemon.stop() == 0
        except BaseException as error:
            error.add_note(daemon.show())
            raise
        finally:
            await daemon.stop()
            deaf.close()
    assert daemon.log[-1]["event"] == "stopped"
    assert not [line for line in daemon.log if "exception" in line]
