"""A store that fails under the running daemon: dialing stops and says why, nothing is lost, and it goes on."""

from __future__ import annotations

import asyncio
import contextlib
import re
import resource
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from dialerd.clock import SystemClock
from tests.integration.client import Api, Follower
from tests.integration.daemon import Daemon, Stock
from tests.integration.simulated import dialing, simulated

pytestmark = pytest.mark.slow

DEADLINE = 60.0
CONTACTS = 120
RATE = 20.0
_clock = SystemClock()

Fault = Callable[[Daemon, Path], AbstractContextManager[None]]


@contextlib.contextmanager
def full(daemon: Daemon, _folder: Path) -> Iterator[None]:
    """No file of the process may grow any more: what a full disk does, to this process alone (setrlimit(2))."""
    before = resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, (1, before[1]))
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):  # it was stopped meanwhile
            resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, before)


@contextlib.contextmanager
def locked(_daemon: Daemon, folder: Path) -> Iterator[None]:
    """Another process writes, and does not end."""
    with contextlib.closing(sqlite3.connect(folder / "dialerd.db", timeout=DEADLINE, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


async def _ready(api: Api) -> tuple[bool, list[str]]:
    async with api.session.get(f"{api.daemon.url}/readyz") as answer:
        told = await answer.json()
        assert (answer.status == 200) is told["ready"]
        return told["ready"], told["problems"]


async def _until_ready(api: Api, *, ready: bool) -> list[str]:
    async with asyncio.timeout(DEADLINE):
        while True:
            is_ready, problems = await _ready(api)
            if is_ready is ready:
                return problems
            await _clock.sleep(0.1)


async def _metric(api: Api, pattern: str) -> float:
    """The sum of the samples whose name and labels match."""
    async with api.session.get(f"{api.daemon.url}/metrics") as answer:
        found = re.findall(rf"^{pattern} (\S+)$", await answer.text(), re.MULTILINE)
    assert found, pattern
    return sum(map(float, found))


async def _placed(api: Api) -> float:
    """Orders that the PBX has accepted in this life of the daemon."""
    return await _metric(api, r"dialerd_originates_total\{.*\"accepted\".*\}")


async def _silent(api: Api) -> None:
    """Wait until the last call has ended: a daemon that dialled on would always have some."""
    async with asyncio.timeout(DEADLINE):
        while await _metric(api, r"dialerd_slots_used\{.*level=\"trunk\".*\}"):
            await _clock.sleep(0.1)


def _times(follower: Follower, kind: str) -> int:
    return sum(each.kind == kind for each in follower.told)


@contextlib.asynccontextmanager
async def _struck(api: Api, folder: Path, campaign_id: str, fault: Fault) -> AsyncIterator[None]:
    """Let the fault strike, and wait until the daemon has noticed and is silent."""
    with fault(api.daemon, folder):
        problems = await _until_ready(api, ready=False)
        assert any(each.startswith("store: ") for each in problems), problems
        written = len(await api.calls(campaign_id))
        assert written < CONTACTS, "the fault came too late to stop anything"
        await _silent(api)
        assert len(await api.calls(campaign_id)) == written, "nothing can be written"
        assert await _placed(api) <= written, "nothing is dialled that could not be written down"
        assert (await _ready(api))[0] is False
        yield


@pytest.mark.parametrize("fault", [full, locked])
async def test_dialing_stops_while_the_store_fails_and_goes_on_when_it_is_back(
    tmp_path: Path, stock: Stock, fault: Fault
) -> None:
    async with simulated(tmp_path, stock, rate=RATE, talk=1.0) as (daemon, api):
        campaign_id = await dialing(api, CONTACTS)
        async with api.follow(campaign_id) as follower:
            await follower.until(lambda: _times(follower, "connected") >= 10, DEADLINE, "it dials")
            mark = len(daemon.log)
            async with _struck(api, tmp_path, campaign_id, fault):
                pass
            await daemon.logged("store_recovered", after=mark)
            assert await _until_ready(api, ready=True) == []
            await follower.finished(DEADLINE)
        calls, contacts = await api.calls(campaign_id), await api.contacts(campaign_id)
        assert {each["status"] for each in contacts} == {"completed"}
        # What ended while nothing could be written is written now; whoever was taken back before he was sent was
        # called later.
        assert sum(call["outcome"] == "answered" for call in calls) == CONTACTS
        assert {call["outcome"] for call in calls} <= {"answered", "cancelled"}
        assert await _placed(api) == CONTACTS


async def test_a_daemon_whose_store_fails_stops_in_order_and_loses_nothing_that_was_confirmed(
    tmp_path: Path, stock: Stock
) -> None:
    async with simulated(tmp_path, stock, rate=RATE, talk=1.0) as (daemon, api):
        campaign_id = await dialing(api, CONTACTS)
        async with api.follow(campaign_id) as follower:
            await follower.until(lambda: _times(follower, "completed") >= 10, DEADLINE, "it dials")
            async with _struck(api, tmp_path, campaign_id, full):
                written = {each["id"]: each for each in await api.calls(campaign_id)}
                assert await daemon.stop() == 0
            told = {each.data["call_id"] for each in follower.told if each.kind == "completed"}
        assert any(line.get("event") == "journal_closed_with_steps_unwritten" for line in daemon.log)
        confirmed = {call_id: call for call_id, call in written.items() if call["outcome"] is not None}
        assert len(told) >= 10
        assert told <= set(confirmed), "the stream told only what was written"
        await daemon.start()
        # This PBX died with the daemon, so what was in flight is gone, and nobody knows how it ended.
        async with asyncio.timeout(DEADLINE):
            kept = await _kept(api, campaign_id, written)
            while any(call["outcome"] is None for call in kept.values()):
                await _clock.sleep(0.1)
                kept = await _kept(api, campaign_id, written)
            while await _placed(api) < 5:
                await _clock.sleep(0.1)
        assert {call_id: kept[call_id] for call_id in confirmed} == confirmed
        assert {kept[call_id]["outcome"] for call_id in set(written) - set(confirmed)} <= {"interrupted", "cancelled"}


async def _kept(api: Api, campaign_id: str, written: Mapping[str, object]) -> dict[str, dict[str, object]]:
    """What the store holds now of the calls that were written before."""
    return {each["id"]: each for each in await api.calls(campaign_id) if each["id"] in written}
