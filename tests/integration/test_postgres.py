"""``dialerd serve`` on a real PostgreSQL: it dials a list to its end, whatever dies, and takes large ones."""

from __future__ import annotations

import asyncio
import functools
import io
import os
import signal
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.integration.client import Api
from tests.integration.daemon import TENANT, Daemon, Stock, _command, _environment, toml
from tests.support.postgres import PASSWORD, Cluster

pytestmark = [pytest.mark.postgres, pytest.mark.slow]

SECONDS = 120.0
CONTACTS = 150
RETRY = {"interrupted": {"delay_seconds": 1}, "busy": {"delay_seconds": 1}}


def configuration(url: str, _file: Path, port: int) -> str:
    """A simulated PBX in a hurry, and calls enough to be caught in the middle of."""
    return toml(
        {
            "server": {"listen": f"127.0.0.1:{port}"},
            "store": {"url": url},
            "dispatch": {"drain_seconds": 0.0},
            "pbx.main": {"driver": "simulated", "max_calls_per_second": 100.0, "max_channels": 500},
            "pbx.main.simulated": {
                "post_dial_seconds": [0.05, 0.2],
                "ring_seconds": [0.1, 0.5],
                "talk_seconds": [0.5, 2.0],
            },
            "pbx.main.simulated.shares": {"answer": 0.7, "busy": 0.3},
            "trunk.any": {
                "pbx": "main",
                "dial": "PJSIP/{number}@any",
                "max_calls_per_second": 20.0,
                "max_channels": 30,
            },
            f"tenant.{TENANT}": {"max_calls_per_second": 100.0, "max_concurrent_calls": 500, "trunks": ["any"]},
            f"tenant.{TENANT}.settings": {"calling_hours_start": "00:00", "calling_hours_end": "00:00"},
        }
    )


@pytest.fixture
def mortal() -> Iterator[Cluster]:
    """A server of the test's own, which flushes to disk."""
    made = Cluster.make(fsync=True)
    yield made
    made.remove()


@pytest.fixture
def url(mortal: Cluster) -> str:
    """An empty database."""
    return mortal.create("dialerd")


@pytest.fixture
async def daemon(url: str, tmp_path: Path) -> AsyncIterator[Daemon]:
    """A daemon on an empty database, which ``keys create`` has made its tables in."""
    config, file = tmp_path / "keys.toml", tmp_path / "stock"
    config.write_text(configuration(url, file, 0))
    file.touch()
    made = await asyncio.to_thread(
        subprocess.run,
        [_command(), "keys", "create", "--config", str(config), "--tenant", TENANT, "--role", "admin"],
        env=_environment(),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=True,
    )
    house = Daemon(tmp_path, Stock(file, made.stdout.strip()), functools.partial(configuration, url))
    await house.start()
    yield house
    await house.stop()
    print(house.show())  # told where the test fails
    assert PASSWORD not in house.show()


@pytest.fixture
async def api(daemon: Daemon) -> AsyncIterator[Api]:
    client = Api(daemon)
    yield client
    await client.close()


def rows(count: int, first: int = 0) -> list[dict[str, str]]:
    return [{"phone": f"+1202{5_000_000 + first + each}", "first_name": f"No {each}"} for each in range(count)]


async def readiness(api: Api, ready: bool) -> list[str]:
    """Wait until /readyz says so; returns the problems that it names."""
    async with asyncio.timeout(SECONDS):
        while True:
            try:
                async with api.session.get(f"{api.daemon.url}/readyz") as answer:
                    told: dict[str, Any] = await answer.json()
                    assert answer.status == (200 if told["ready"] else 503)
                    if told["ready"] is ready:
                        return list(told["problems"])
            except aiohttp.ClientConnectionError:
                pass
            await asyncio.sleep(0.05)  # noqa: TID251 - a page has no event to wait for


async def test_a_list_is_dialled_to_its_end_whatever_dies(daemon: Daemon, mortal: Cluster, api: Api) -> None:
    campaign = await api.campaign(await api.agent("s"), rows(CONTACTS), concurrent_calls=30, retry=RETRY)
    async with api.follow(campaign) as follower:
        await api.step(campaign, "start")
        await follower.settled(20, SECONDS)

        await daemon.kill()
        await daemon.start()
        await follower.settled(45, SECONDS)

        await asyncio.to_thread(mortal.stop, "immediate")
        problems = await readiness(api, False)
        assert any(problem.startswith("store: ") for problem in problems), problems
        assert PASSWORD not in "".join(problems)
        await asyncio.to_thread(mortal.start)
        await readiness(api, True)
        await follower.finished(SECONDS)
        told = list(follower.told)

    contacts, calls = await api.contacts(campaign), await api.calls(campaign)
    assert {each["status"] for each in contacts} <= {"completed", "failed"}
    assert len(contacts) == CONTACTS
    attempts = Counter(each["contact_id"] for each in calls)
    assert {each["id"]: each["attempts"] for each in contacts} == dict(attempts)
    # Every event that a client heard is in the store, once, and tells the way to where its contact is.
    assert [each.id for each in told] == sorted({each.id for each in told})
    assert {each["id"]: each["status"] for each in contacts} == {
        each.contact_id: each.data["status"] for each in told if each.contact_id is not None
    }
    shown = await api.show(campaign)
    await daemon.stop()
    await daemon.start()
    assert await api.show(campaign) == shown
    assert (await api.contacts(campaign), await api.calls(campaign)) == (contacts, calls)


async def test_a_large_list_is_imported_while_another_is_dialled(daemon: Daemon, api: Api) -> None:
    agent = await api.agent("s")
    small = await api.campaign(agent, rows(40), concurrent_calls=10, retry=RETRY)
    large = await api.campaign(agent, rows(1), concurrent_calls=10)
    await api.step(small, "start")
    # Of 60,000 rows one in six is a number that was there before, or is none.
    numbers = [f"+1303{5_000_000 + each - (each % 12 == 11)}" if each % 12 else "12" for each in range(60_000)]
    body = "phone,first_name,age\n" + "".join(f"{number},Ann,{each % 90}\n" for each, number in enumerate(numbers))
    async with api.session.post(
        f"{daemon.url}/api/v1/campaigns/{large}/contacts",
        data=io.BytesIO(body.encode()),
        headers={"Content-Type": "text/csv"},
        timeout=aiohttp.ClientTimeout(total=SECONDS),
    ) as answer:
        report = await answer.json()
    assert (report["added"], report["duplicates"], report["invalid"]) == (50_000, 5_000, 5_000), report
    page = await api.ask("GET", f"/campaigns/{large}/contacts", params={"q": "+13035", "limit": "3"})
    assert page["total"] == 50_000
    assert [each["attributes"] for each in page["data"]] == [{"age": "1"}, {"age": "2"}, {"age": "3"}]
    async with api.follow(small) as follower:
        await follower.finished(SECONDS)
    assert not daemon.faults()


async def test_a_standby_takes_over(daemon: Daemon, api: Api, url: str, mortal: Cluster, tmp_path: Path) -> None:
    """Killed, the first is followed at once; frozen and cut off, in some seconds, and it does nothing more."""
    (tmp_path / "second").mkdir()
    file = tmp_path / "stock"
    second = Daemon(tmp_path / "second", Stock(file, daemon.key), functools.partial(configuration, url))
    try:
        await second.launch()
        standing = await second.logged("standby_serves")
        second.port = standing["port"]
        campaign = await api.campaign(await api.agent("s"), rows(CONTACTS), concurrent_calls=30, retry=RETRY)
        await api.step(campaign, "start")
        async with api.follow(campaign) as follower:
            await follower.settled(20, SECONDS)

        other = Api(second)
        assert await readiness(other, False) == ["standby: another daemon holds the lease"]
        async with other.session.post(f"{second.url}/api/v1/campaigns", json={}) as answer:
            assert (answer.status, (await answer.json())["code"]) == (503, "standby")
        async with other.session.get(f"{second.url}/healthz") as answer:
            assert answer.status == 200

        mark = len(second.log)
        await daemon.kill()
        second.port = (await second.logged("ready", after=mark))["port"]
        second.up.set()
        async with other.follow(campaign) as follower:
            await follower.settled(20, SECONDS)

        # The first is back, as a standby; the second is frozen, and the server ends the connection of its lease.
        mark, frozen_mark = len(daemon.log), len(second.log)
        await daemon.launch()
        await daemon.logged("standby_serves", after=mark)
        os.kill(second.pid, signal.SIGSTOP)
        try:
            mortal.sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'dialerd lease' "
                "AND pid IN (SELECT pid FROM pg_locks WHERE locktype = 'advisory')"
            )
            daemon.port = (await daemon.logged("ready", after=mark))["port"]
            daemon.up.set()
        finally:
            os.kill(second.pid, signal.SIGCONT)
        await second.logged("lease_lost", after=frozen_mark)
        assert await second.stop() == 1
        async with api.follow(campaign) as follower:
            await follower.finished(SECONDS)
        await other.close()
    finally:
        await second.stop()
    contacts, calls = await api.contacts(campaign), await api.calls(campaign)
    assert {each["status"] for each in contacts} <= {"completed", "failed"}
    assert {each["id"]: each["attempts"] for each in contacts} == dict(Counter(each["contact_id"] for each in calls))
    assert mortal.sql("SELECT epoch, holder IS NULL FROM lease", database="dialerd") == "3|f"
