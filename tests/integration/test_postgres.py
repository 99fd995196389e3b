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
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.integration.client import Api
from tests.integration.daemon import TENANT, Daemon, Stock, _command, _environment, toml
from tests.support.postgres import PASSWORD, Cluster, free_port

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


async def readiness(api: Api) -> list[str]:
    """The problems that /readyz names."""
    async with api.session.get(f"{api.daemon.url}/readyz") as answer:
        told: dict[str, Any] = await answer.json()
        assert told["ready"] is (not told["problems"])
        assert answer.status == (200 if told["ready"] else 503)
        return list(told["problems"])


async def test_a_list_is_dialled_to_its_end_whatever_dies(daemon: Daemon, mortal: Cluster, api: Api) -> None:
    campaign = await api.campaign(await api.agent("s"), rows(CONTACTS), concurrent_calls=30, retry=RETRY)
    async with api.follow(campaign) as follower:
        await api.step(campaign, "start")
        await follower.settled(20, SECONDS)

        await daemon.kill()
        await daemon.start()
        await follower.settled(45, SECONDS)

        mark = len(daemon.log)
        await asyncio.to_thread(mortal.stop, "immediate")
        await daemon.logged("store_failed", after=mark)
        problems = await readiness(api)
        assert any(problem.startswith("store: ") for problem in problems), problems
        assert PASSWORD not in "".join(problems)
        await asyncio.to_thread(mortal.start)
        await daemon.logged("store_recovered", after=mark)
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


async def test_a_standby_shows_all_and_takes_over(
    daemon: Daemon, api: Api, url: str, mortal: Cluster, tmp_path: Path
) -> None:
    """Two daemons take turns: stopped in order, killed, frozen. Whoever follows either hears everything, once."""
    (tmp_path / "second").mkdir()
    second = Daemon(tmp_path / "second", Stock(tmp_path / "stock", daemon.key), functools.partial(configuration, url))
    second.port = free_port()
    other = Api(second)
    try:
        await stand_by(second)
        campaign = await api.campaign(await api.agent("s"), rows(CONTACTS), concurrent_calls=30, retry=RETRY)
        async with api.follow(campaign) as here, other.follow(campaign) as there:
            await api.step(campaign, "start")
            await there.settled(15, SECONDS)
            await is_standby(other)

            # Stopped in order, the first wakes the second.
            mark, began = len(second.log), len(daemon.log)
            assert await daemon.stop() == 0
            taken = await second.logged("lease_taken", after=mark)
            stopped = await daemon.logged("stopped", after=began)
            assert moment(taken) - moment(stopped) < timedelta(seconds=0.9), "not at its next try, a second later"
            await second.logged("ready", after=mark)
            await stand_by(daemon)
            await here.settled(35, SECONDS)

            # Killed, it is followed as soon as its process is seen to be gone.
            mark = len(daemon.log)
            await second.kill()
            await daemon.logged("ready", after=mark)
            await stand_by(second)
            await there.settled(55, SECONDS)

            # Frozen and cut off, it is followed after a while, and does nothing more.
            mark, frozen = len(second.log), len(daemon.log)
            daemon.up.clear()
            os.kill(daemon.pid, signal.SIGSTOP)
            try:
                mortal.sql(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'dialerd lease' "
                    "AND pid IN (SELECT pid FROM pg_locks WHERE locktype = 'advisory')"
                )
                await second.logged("ready", after=mark)
            finally:
                os.kill(daemon.pid, signal.SIGCONT)
            await daemon.logged("lease_lost", after=frozen)
            assert await daemon.stop() == 1
            await stand_by(daemon)
            await asyncio.gather(here.finished(SECONDS), there.finished(SECONDS))
        contacts, calls = await other.contacts(campaign), await other.calls(campaign)
        assert (await api.contacts(campaign), await api.calls(campaign)) == (contacts, calls)
        assert mortal.sql("SELECT epoch, holder IS NULL FROM lease", database="dialerd") == "4|f"
    finally:
        await other.close()
        await second.stop()
    assert here.told == there.told
    assert [each.id for each in here.told] == sorted({each.id for each in here.told})
    assert {each["status"] for each in contacts} <= {"completed", "failed"}
    assert {each["id"]: each["attempts"] for each in contacts} == dict(Counter(each["contact_id"] for each in calls))
    events = mortal.sql("SELECT seq FROM event ORDER BY seq", database="dialerd").split()
    assert [str(each.id) for each in here.told] == events


async def stand_by(daemon: Daemon) -> None:
    """Start a daemon whose turn it is not, and wait until it serves."""
    mark = len(daemon.log)
    await daemon.launch()
    await daemon.logged("standby_serves", after=mark)
    daemon.up.set()


async def is_standby(api: Api) -> None:
    """It says that it is not ready, and refuses to change anything."""
    async with api.session.get(f"{api.daemon.url}/readyz") as answer:
        assert await answer.json() == {"ready": False, "problems": ["standby: another daemon holds the lease"]}
        assert answer.status == 503
    async with api.session.post(f"{api.daemon.url}/api/v1/campaigns", json={}) as answer:
        assert (answer.status, (await answer.json())["code"]) == (503, "standby")
        assert answer.headers["Dialerd-Standby"] == "true"
    async with api.session.get(f"{api.daemon.url}/healthz") as answer:
        assert answer.status == 200


def moment(line: dict[str, Any]) -> datetime:
    """When a line was logged."""
    return datetime.fromisoformat(line["timestamp"])
