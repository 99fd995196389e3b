"""One of several daemons on a database dials, and one that lost its turn without a word commits nothing more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from dialerd.clock import SystemClock
from dialerd.store import contacts, lease, schema
from dialerd.store.db import Store
from dialerd.store.errors import StoreError, StoreNotReady
from dialerd.store.lease import Lease
from dialerd.store.migrate import migrate
from dialerd.telemetry.metrics import Metrics
from tests.support.postgres import Cluster
from tests.support.records import a_row, add_campaign, add_contacts, due, originate

pytestmark = pytest.mark.postgres

DEADLINE = 60.0
TTL = 0.6


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "TTL_SECONDS", TTL)
    monkeypatch.setattr(lease, "_BEAT_SECONDS", 0.1)


Take = Callable[[], Lease]


@pytest.fixture
async def new(postgres_url: str) -> AsyncIterator[Take]:
    """Makes leases on one store, each of a daemon of its own."""
    migrate(postgres_url)
    made: list[Lease] = []

    def make() -> Lease:
        made.append(Lease(postgres_url, SystemClock()))
        return made[-1]

    yield make
    for each in made:
        await each.give_back()


async def opened(url: str, held: Lease) -> Store:
    store = Store(url, SystemClock(), Metrics())
    store.lease = held
    await store.open()
    return store


def cut(postgres: Cluster, url: str) -> None:
    """End the connections that leases are held by, as a server or a network does."""
    name = url.rpartition("/")[2]
    postgres.sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        f"WHERE datname = '{name}' AND application_name = 'dialerd lease'"
    )


def stop_beating(held: Lease) -> None:
    """The daemon is frozen: it neither confirms its lease nor hears that it is gone."""
    assert held._task is not None
    held._task.cancel()


async def test_the_second_waits_and_begins_at_once_when_it_is_given_back(new: Take) -> None:
    first, second = new(), new()
    async with asyncio.timeout(DEADLINE):
        await first.take()
        waiting = asyncio.ensure_future(second.take())
        while second.waits_for != "another daemon holds the lease":
            await second._clock.sleep(0.01)
        assert (first.doubt(), waiting.done()) == (None, False)
        await first.give_back()
        began = second._clock.mono()
        await waiting
    assert second._clock.mono() - began < TTL
    assert (first.epoch, second.epoch) == (1, 2)
    assert second.doubt() is None


async def test_a_lease_that_is_given_back_is_heard_of(new: Take, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next try would be long after."""
    first, second, third = new(), new(), new()
    async with asyncio.timeout(DEADLINE):
        await first.take()
        monkeypatch.setattr(lease, "_BEAT_SECONDS", 10 * DEADLINE)
        waiting = {asyncio.ensure_future(each.take()): each for each in (second, third)}
        while not all(each._listening for each in (second, third)):
            await second._clock.sleep(0.01)
        await first.give_back()
        done, rest = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        (taken,) = done
        await waiting[taken].give_back()
        await rest.pop()
    assert {second.epoch, third.epoch} == {2, 3}


@pytest.mark.parametrize("killed", [False, True])
async def test_whoever_ends_while_it_waits_for_a_silent_holder_hands_no_shorter_wait_on(
    new: Take, postgres: Cluster, postgres_url: str, monkeypatch: pytest.MonkeyPatch, killed: bool
) -> None:
    """The first is cut off, and may still send; the second is stopped, or killed, in the wait for that."""
    monkeypatch.setattr(lease, "TTL_SECONDS", 3.0)
    first, second, third = new(), new(), new()
    async with asyncio.timeout(DEADLINE):
        await first.take()
        stop_beating(first)
        cut(postgres, postgres_url)
        dead = await asyncio.create_subprocess_exec("true")
        await dead.wait()
        monkeypatch.setattr(lease, "_myself", lambda: f"{lease._boot()} {dead.pid}")
        taking = asyncio.ensure_future(second.take())
        while second.waits_for != "the daemon that held the lease may still be sending":
            await second._clock.sleep(0.01)
        taking.cancel()
        await asyncio.gather(taking, return_exceptions=True)
        await (second._drop() if killed else second.give_back())
        assert first.doubt() is None
        await third.take()
        assert first.doubt() is not None, "both might send at once"
        assert third.doubt() is None


async def test_a_holder_that_does_not_know_that_it_lost_commits_nothing(
    new: Take, postgres: Cluster, postgres_url: str
) -> None:
    first, second = new(), new()
    async with asyncio.timeout(DEADLINE):
        await first.take()
        old = await opened(postgres_url, first)
        await add_campaign(old)
        await add_contacts(old, a_row(1), a_row(2))
        waiting = await due(old)
        assert len(await originate(old, waiting[:1])) == 1
        confirmed = first._confirmed
        stop_beating(first)
        cut(postgres, postgres_url)
        taking = asyncio.ensure_future(second.take())
        while second.epoch == 0:
            await second._clock.sleep(0.01)
        # The old one may still send what it has committed; the new one has not begun.
        with pytest.raises(StoreError, match="another daemon has taken the store over"):
            await originate(old, waiting[1:])
        assert old.trouble is not None
        await taking
        assert second._clock.mono() > confirmed + TTL
        doubt = first.doubt()
        assert doubt is not None
        assert "not confirmed" in doubt
        new_store = await opened(postgres_url, second)
        assert [each.contact.id for each in await originate(new_store, await due(new_store))] == [2]
        async with new_store.read() as conn:
            assert {each.attempts for each in (await contacts.get_many(conn, [1, 2])).values()} == {1}
        # Thawed, it finds out by itself.
        first._task = asyncio.create_task(first._keep())
        await first.lost.wait()
        assert first.doubt() == "another daemon has taken the store over"
        for store in (old, new_store):
            await store.close()


async def test_a_takeover_waits_for_the_commit_that_is_under_way(
    new: Take, postgres: Cluster, postgres_url: str
) -> None:
    first, second = new(), new()
    async with asyncio.timeout(DEADLINE):
        await first.take()
        old = await opened(postgres_url, first)
        begun, may_end = asyncio.Event(), asyncio.Event()

        async def slow(tx: object) -> None:
            begun.set()
            await may_end.wait()

        commit = asyncio.ensure_future(old.write(slow))
        await begun.wait()
        stop_beating(first)
        cut(postgres, postgres_url)
        taking = asyncio.ensure_future(second.take())
        await second._clock.sleep(0.5)  # it could have, by now
        assert (second.epoch, taking.done()) == (0, False)
        may_end.set()
        await commit
        await taking
        await old.close()
    assert second.epoch == 2


async def test_a_connection_that_is_lost_and_found_again_is_the_same_turn(
    new: Take, postgres: Cluster, postgres_url: str
) -> None:
    first = new()
    async with asyncio.timeout(DEADLINE):
        await first.take()
        store = await opened(postgres_url, first)
        for _ in range(3):
            held = first._connection
            cut(postgres, postgres_url)
            while first._connection is held or first._connection is None:
                await first._clock.sleep(0.01)
            while first.doubt() is not None:
                await first._clock.sleep(0.01)
            await add_campaign(store, first._clock.number())
        await store.close()
    assert first.epoch == 1
    assert not first.lost.is_set()


async def test_a_server_that_is_away_is_waited_for(new: Take, postgres_url: str) -> None:
    lost = Lease(postgres_url.replace("@127.0.0.1:", "@127.0.0.2:"), SystemClock())
    taking = asyncio.ensure_future(lost.take())
    async with asyncio.timeout(DEADLINE):
        while "cannot be reached" not in lost.waits_for:
            await lost._clock.sleep(0.01)
    taking.cancel()
    await lost.give_back()


async def test_a_store_that_is_dialled_from_is_not_migrated(new: Take, postgres: Cluster, postgres_url: str) -> None:
    first = new()
    await first.take()
    assert migrate(postgres_url) == schema.REVISION  # nothing to do
    postgres.sql("UPDATE alembic_version SET version_num = '0001'", database=postgres_url.rpartition("/")[2])
    with pytest.raises(StoreError, match="stop it first"):
        migrate(postgres_url)


async def test_a_store_of_another_schema_is_not_taken(postgres_url: str) -> None:
    with pytest.raises(StoreNotReady, match="dialerd migrate"):
        await Lease(postgres_url, SystemClock()).take()


def test_a_holder_that_is_surely_dead_is_not_waited_for() -> None:
    assert not lease._is_dead(lease._myself())
    assert lease._is_dead(f"{lease._boot()} {2**22 + 1}")
    assert not lease._is_dead("another-machine pid:[1] 4194305")
    assert not lease._is_dead("nonsense")


async def test_a_machine_that_was_suspended_does_not_believe_in_its_lease(new: Take) -> None:
    """Its monotonic clock stood still meanwhile, and nobody else's did."""
    held = new()

    class Suspended(SystemClock):
        asleep = 0.0

        def since_boot(self) -> float:
            return super().since_boot() + self.asleep

    held._clock = clock = Suspended()
    async with asyncio.timeout(DEADLINE):
        await held.take()
        stop_beating(held)
        assert held.doubt() is None
        clock.asleep = 3600.0
        assert "not confirmed" in (held.doubt() or "")
