"""What every database behind the store must do: one writer, commits in groups, and nothing half done."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from dialerd.clock import SystemClock
from dialerd.core.model import CallStatus, CampaignStatus, Contact, ContactStatus, Tenant
from dialerd.core.outcome import Fault, Outcome
from dialerd.intake import runs
from dialerd.intake.rows import NewContact
from dialerd.intake.runs import Contacts, Numbers
from dialerd.pbx.phrase import phrase
from dialerd.store import (
    calls,
    campaigns,
    contact_due,
    contact_list,
    contacts,
    do_not_call,
    events,
    imports,
    removal,
    schema,
    staging,
    tenants,
)
from dialerd.store.db import GROUP_WEIGHT, Store
from dialerd.store.errors import StoreError, StoreNotReady
from dialerd.store.imports import Import
from dialerd.store.migrate import migrate, run
from dialerd.store.records import EventDraft, EventKind
from dialerd.store.staging import Place, Refused
from dialerd.store.tx import Committed, Tx
from dialerd.telemetry.metrics import Metrics
from tests.support.records import a_row, a_step, add_campaign, add_contacts, an_originating, due, originate

DEADLINE = 20.0


@dataclass
class Database:
    """A database of one kind, and what it takes to make it fail."""

    url: str
    clock: SystemClock = field(default_factory=lambda: SystemClock(seed=1))

    async def fill_up(self, store: Store) -> None:
        """No page more fits into the database."""

        async def limit(tx: Tx) -> None:
            pages = await tx.conn.scalar(sa.text("PRAGMA page_count"))
            await tx.conn.exec_driver_sql(f"PRAGMA max_page_count={pages}")

        await store.write(limit)

    async def make_room(self, store: Store) -> None:
        """There is room again; asked by a way that needs none."""
        async with store._write_engine.connect() as conn:  # the limit is the connection's own
            await conn.exec_driver_sql("PRAGMA max_page_count=1000000")

    def store(self) -> Store:
        """A store on this database, not yet open."""
        return Store(self.url, self.clock, Metrics())


@dataclass
class PostgresDatabase(Database):
    """A database of a real PostgreSQL. Its disk cannot be filled up, so it refuses to write in another way."""

    async def fill_up(self, store: Store) -> None:
        """The next table or index that grows finds no room."""

        async def limit(tx: Tx) -> None:
            for name in ("contact", "call", "event"):
                await tx.conn.exec_driver_sql(
                    "CREATE OR REPLACE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql AS "
                    "$$ BEGIN RAISE EXCEPTION 'could not extend file: disk full' USING ERRCODE = '53100'; END $$"
                )
                await tx.conn.exec_driver_sql(
                    f"CREATE TRIGGER no_room BEFORE INSERT ON {name} EXECUTE FUNCTION no_room()"
                )

        await store.write(limit)

    async def make_room(self, store: Store) -> None:
        async with store._write_engine.begin() as conn:
            await conn.exec_driver_sql("DROP FUNCTION no_room CASCADE")


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Database:
    """Every kind of database in turn."""
    if request.param == "sqlite":
        return Database(f"sqlite:///{tmp_path}/dialerd.db")
    return PostgresDatabase(request.getfixturevalue("postgres_url"))


@pytest.fixture
async def store(database: Database) -> AsyncIterator[Store]:
    """An open store."""
    migrate(database.url)
    opened = database.store()
    await opened.open()
    yield opened
    await opened.close()


def watch(store: Store) -> list[Committed]:
    """Every commit from now on."""
    seen: list[Committed] = []
    store.on_commit = seen.append
    return seen


def an_event(store: Store, status: str = "active") -> EventDraft:
    return EventDraft(EventKind.CAMPAIGN, 1, status, store.clock.wall())


def no_thread_is_left(before: set[threading.Thread]) -> None:
    """Every thread that is not among those of before has ended, or does so at once."""
    for thread in set(threading.enumerate()) - before:
        thread.join(DEADLINE)
        assert not thread.is_alive(), thread


async def big(tx: Tx) -> None:
    """Needs many pages more than there are."""
    await contacts.insert(tx, 1, 0, [a_row(each, attributes={"x": "y" * 500}) for each in range(1000, 1400)])


class TestWriting:
    async def test_writes_that_wait_together_are_committed_together_and_in_order(self, store: Store) -> None:
        seen = watch(store)

        async def emit(tx: Tx, number: int) -> int:
            tx.emit(an_event(store, str(number)))
            return number

        results = await asyncio.gather(*(store.write(lambda tx, n=n: emit(tx, n)) for n in range(200)))  # type: ignore[misc]
        assert results == list(range(200))
        assert len(seen) <= 10
        told_of = [event for committed in seen for event in committed.events]
        assert [event.draft.status for event in told_of] == [str(number) for number in range(200)]
        assert [event.seq for event in told_of] == list(range(1, 201))

    async def test_a_batch_is_bounded(self, store: Store) -> None:
        seen = watch(store)

        async def emit(tx: Tx) -> None:
            tx.emit(an_event(store))

        await asyncio.gather(*(store.write(emit, weight=100) for _ in range(20)))
        assert max(len(committed.events) for committed in seen) <= 5

    async def test_a_long_step_has_a_commit_of_its_own(self, store: Store) -> None:
        seen = watch(store)

        async def emit(tx: Tx) -> None:
            tx.emit(an_event(store))

        weights = (1, 1, GROUP_WEIGHT, 1, GROUP_WEIGHT, GROUP_WEIGHT, 1)
        await asyncio.gather(*(store.write(emit, weight=weight) for weight in weights))
        assert [len(committed.events) for committed in seen] == [2, 1, 1, 1, 1, 1]

    async def test_the_feed_hears_before_whoever_waited(self, store: Store) -> None:
        seen = watch(store)

        async def emit(tx: Tx) -> None:
            tx.emit(an_event(store))

        await store.write(emit)
        assert [len(committed.events) for committed in seen] == [1]

    async def test_what_follows_from_commits_follows_in_their_order_whoever_waits(self, store: Store) -> None:
        happened: list[str] = []
        store.on_commit = lambda _: happened.append("told")

        async def write(tx: Tx, number: int) -> None:
            tx.then(lambda: happened.append(f"followed {number}"))
            if number == 1:
                raise LookupError("not so")
            if number == 2:
                second.cancel()  # whoever asked for it is gone before it stands

        async def ask(number: int) -> None:
            await store.write(lambda tx: write(tx, number), weight=GROUP_WEIGHT)
            happened.append(f"answered {number}")

        first = asyncio.create_task(ask(1))
        second = asyncio.create_task(ask(2))
        await asyncio.gather(first, second, return_exceptions=True)
        await ask(3)
        await ask(4)
        assert isinstance(first.exception(), LookupError)
        assert second.cancelled()
        assert [each for each in happened if each != "told"] == [
            *("followed 2", "followed 3", "answered 3", "followed 4", "answered 4")
        ]
        assert happened[happened.index("followed 3") + 1] == "told", "others hear of it after that"

    async def test_what_follows_from_a_commit_and_fails_takes_nothing_with_it(self, store: Store) -> None:
        followed: list[str] = []

        def fails() -> None:
            raise LookupError("not so")

        async def write(tx: Tx) -> str:
            tx.then(fails)
            tx.then(lambda: followed.append("the other"))
            return "answered"

        seen = watch(store)
        assert await store.write(write) == "answered"
        assert followed == ["the other"]
        assert len(seen) == 1
        assert store._metrics.dropped.labels("commit")._value.get() == 1

    async def test_what_an_operation_raises_undoes_it_alone(self, store: Store) -> None:
        await add_campaign(store)
        seen = watch(store)

        async def fails(tx: Tx) -> None:
            await contacts.insert(tx, 1, 0, [a_row(1)])
            tx.emit(an_event(store, "never"))
            tx.stats(1).move(None, ContactStatus.PENDING)
            raise LookupError("not so")

        good, bad, other = await asyncio.gather(
            add_contacts(store, a_row(2)), store.write(fails), add_contacts(store, a_row(3)), return_exceptions=True
        )
        assert (good, other) == (None, None)
        assert isinstance(bad, LookupError)
        assert [contact.id for contact in await due(store)] == [2, 3]
        assert not [event for committed in seen for event in committed.events]
        async with store.read() as conn:
            assert (await campaigns.stats(conn, [1]))[1].total == 2
        assert store.trouble is None

    async def test_a_broken_constraint_is_the_operations_own(self, store: Store) -> None:
        await add_campaign(store)
        first, second = await asyncio.gather(add_campaign(store, 1), add_campaign(store, 2), return_exceptions=True)
        assert isinstance(first, StoreError)
        assert first.permanent
        assert not isinstance(second, BaseException)
        assert store.trouble is None

    async def test_an_error_says_nothing_of_what_was_written(self, store: Store) -> None:
        await add_campaign(store)
        await add_contacts(store, a_row(1, first_name="Zebulon"))

        async def again(tx: Tx) -> None:
            await tx.conn.execute(sa.insert(schema.contact).values(a_row(1, first_name="Zebulon")))

        with pytest.raises(StoreError) as raised:
            await store.write(again)
        assert "Zebulon" not in str(raised.value)
        assert "+1202" not in str(raised.value)

    async def test_an_operation_that_nobody_waits_for_any_more_is_not_begun(self, store: Store) -> None:
        begun: list[str] = []

        async def op(tx: Tx) -> None:
            begun.append("op")

        task = asyncio.ensure_future(store.write(op))
        gone = asyncio.ensure_future(store.write(op))
        asyncio.get_running_loop().call_soon(gone.cancel)
        await asyncio.gather(task, gone, return_exceptions=True)
        assert gone.cancelled()
        assert begun == ["op"]

    async def test_a_listener_that_fails_takes_nothing_with_it(self, store: Store) -> None:
        def fails(_: Committed) -> None:
            raise RuntimeError("a fault of the feed")

        store.on_commit = fails
        await add_campaign(store, 1)
        await add_campaign(store, 2)
        async with store.read() as conn:
            assert set(await campaigns.get_many(conn, [1, 2])) == {1, 2}


class TestFailure:
    async def test_a_full_disk_fails_the_whole_commit_and_is_healed(self, database: Database, store: Store) -> None:
        await add_campaign(store)
        healed = asyncio.Event()
        states: list[str | None] = []

        def on_health() -> None:
            states.append(store.trouble)
            if store.trouble is None:
                healed.set()

        store.on_health = on_health
        await database.fill_up(store)
        followed: list[str] = []

        async def hopeful(tx: Tx) -> None:
            tx.then(lambda: followed.append("it stands"))

        asked = (add_contacts(store, a_row(1)), store.write(hopeful), store.write(big))
        failures = await asyncio.gather(*asked, return_exceptions=True)
        assert all(isinstance(failure, StoreError) and not failure.permanent for failure in failures)
        assert store.trouble is not None
        assert "full" in store.trouble
        assert await due(store) == []  # nothing of that commit stands, and reading works
        assert not followed
        await database.make_room(store)
        # Nobody writes: the store itself finds out that it works again.
        async with asyncio.timeout(DEADLINE):
            await healed.wait()
        assert states[0] is not None
        assert states[-1] is None
        await store.write(big)

    async def test_a_commit_of_calls_fails_as_a_whole(self, database: Database, store: Store) -> None:
        await add_campaign(store)
        await add_contacts(store, *(a_row(each) for each in range(400)))
        waiting = await due(store, 400)
        await database.fill_up(store)
        with pytest.raises(StoreError, match="full"):
            await originate(store, [replace(each, phone_number="+1" + "2" * 500) for each in waiting])
        async with store.read() as conn:
            assert await calls.live(conn) == []
        assert len(await due(store, 400)) == 400
        await database.make_room(store)

    @pytest.mark.parametrize("text", ["half a \ud83d character"])
    async def test_what_can_never_be_written_is_told_so_and_stops_nobody(self, store: Store, text: str) -> None:
        await add_campaign(store)
        await add_contacts(store, a_row(1), a_row(2))
        [first, second] = await originate(store, await due(store))
        now = store.clock.wall()
        ended: dict[str, Any] = {
            "status": CallStatus.ENDED,
            "outcome": Outcome.ANSWERED,
            "fault": Fault.NONE,
            "ended_at": now,
        }
        bad = a_step(first, EventKind.COMPLETED, ContactStatus.COMPLETED, now, hangup_text=text, **ended)
        with pytest.raises(StoreError) as raised:
            await store.record([], [bad])
        assert raised.value.permanent
        assert store.trouble is None
        good = a_step(second, EventKind.COMPLETED, ContactStatus.COMPLETED, now, **ended)
        async with asyncio.timeout(DEADLINE):
            await store.record([], [good])
        async with store.read() as conn:
            assert [call.id for call in await calls.live(conn)] == [first.call.id]


class TestLife:
    async def test_event_numbers_grow_over_a_restart(self, database: Database, store: Store) -> None:
        async def emit(tx: Tx) -> None:
            tx.emit(an_event(store))

        for _ in range(3):
            await store.write(emit)
        await store.close()
        again = database.store()
        await again.open()
        seen = watch(again)
        await again.write(emit)
        async with again.read() as conn:
            assert [event.seq for event in await events.after(conn, 1, 0, 10)] == [1, 2, 3, 4]
        assert seen[0].events[0].seq == 4
        await again.close()

    async def test_closing_writes_what_is_queued(self, database: Database, store: Store) -> None:
        writes = [asyncio.ensure_future(add_campaign(store, each)) for each in range(1, 30)]
        asyncio.get_running_loop().call_soon(lambda: None)
        first = await writes[0]
        assert first.id == 1
        await store.close()
        await asyncio.gather(*writes)
        again = database.store()
        await again.open()
        async with again.read() as conn:
            assert len(await campaigns.get_many(conn, range(1, 30))) == 29
        await again.close()

    async def test_a_closed_store_takes_nothing_and_closes_again(self, store: Store) -> None:
        await store.close()
        with pytest.raises(StoreError, match="closed"):
            await add_campaign(store)
        await store.close()

    async def test_a_store_without_tables_is_not_opened_and_leaves_no_thread(self, database: Database) -> None:
        before = set(threading.enumerate())
        store = database.store()
        with pytest.raises(StoreNotReady, match="dialerd migrate"):
            await store.open()
        no_thread_is_left(before)

    async def test_a_closed_store_leaves_no_thread(self, database: Database) -> None:
        before = set(threading.enumerate())
        migrate(database.url)
        store = database.store()
        await store.open()
        await asyncio.gather(*(due(store) for _ in range(10)))
        await store.close()
        no_thread_is_left(before)

    async def test_a_reader_sees_one_state_while_others_write(self, store: Store) -> None:
        await add_campaign(store)
        async with store.read() as conn:
            before = (await campaigns.stats(conn, [1]))[1].total
            await add_contacts(store, a_row(1))
            assert (await campaigns.stats(conn, [1]))[1].total == before == 0
        async with store.read() as conn:
            assert (await campaigns.stats(conn, [1]))[1].total == 1


class TestClaim:
    async def test_the_order_is_priority_then_due_then_age(self, store: Store) -> None:
        await add_campaign(store)
        await add_contacts(store, a_row(1), a_row(2, priority=5), a_row(3), a_row(4, priority=5), a_row(5, priority=9))
        now = store.clock.wall()
        later = [(3, now - timedelta(hours=2), "x"), (1, now - timedelta(hours=1), "x"), (2, now, "x")]
        await store.write(lambda tx: contacts.put_off(tx, later))
        assert [contact.id for contact in await due(store)] == [5, 4, 2, 3, 1]
        assert [contact.id for contact in await due(store, 2)] == [5, 4]
        assert [contact.id for contact in await due(store, 2, without=frozenset({5, 2}))] == [4, 3]

    async def test_whoever_is_due_later_is_told_as_a_moment(self, store: Store) -> None:
        await add_campaign(store)
        await add_contacts(store, a_row(1), a_row(2, priority=3), a_row(3))
        now = store.clock.wall()
        put_off = [(2, now + timedelta(hours=2), "x"), (3, now + timedelta(hours=1), "x")]
        await store.write(lambda tx: contacts.put_off(tx, put_off))
        async with store.read() as conn:
            found, upcoming = await contact_due.claim(conn, 1, now, 10, frozenset())
        assert [contact.id for contact in found] == [1]
        assert upcoming == now + timedelta(hours=1)

    async def test_those_who_fell_due_since_a_moment_are_fetched_alone(self, store: Store) -> None:
        await add_campaign(store)
        await add_contacts(store, *(a_row(each, priority=each // 10) for each in (1, 2, 3, 11, 12, 13, 21)))
        now = store.clock.wall()
        minute = timedelta(minutes=1)
        later = [
            (2, now - minute, "x"),
            (3, now, "x"),
            (12, now - minute, "x"),
            (13, now, "x"),
            (21, now + minute, "x"),
        ]
        await store.write(lambda tx: contacts.put_off(tx, later))

        async def fetched(since: timedelta, above: int | None, without: frozenset[int] = frozenset()) -> list[int]:
            async with store.read() as conn:
                found, upcoming = await contact_due.fetch(conn, 1, now, 10, without, since=now - since, above=above)
            assert upcoming == {2: now + minute}
            return [contact.id for contact in found]

        assert await fetched(2 * minute, None) == [12, 13, 2, 3]
        assert await fetched(minute, None) == [13, 3]
        assert await fetched(minute, 0) == [13]
        assert await fetched(2 * minute, 0, frozenset({12})) == [13]
        assert await fetched(minute, 1) == []
        assert await fetched(timedelta(0), None) == []

    async def test_a_staged_upload_is_seen_once_it_is_published(self, store: Store) -> None:
        await add_campaign(store)
        await add_contacts(store, a_row(1))
        upload = Import(77, 1, staged=True)
        await store.write(lambda tx: imports.begin(tx, upload))
        await store.write(lambda tx: contacts.insert(tx, 1, 77, [a_row(82, priority=9), a_row(83)]))
        assert [contact.id for contact in await due(store)] == [1]
        assert [contact.id for contact in await self.listed(store)] == [1]
        async with store.read() as conn:
            assert (await campaigns.stats(conn, [1]))[1].total == 1
        await store.write(lambda tx: imports.publish(tx, replace(upload, added=2)))
        assert [contact.id for contact in await due(store)] == [82, 1, 83]
        assert [contact.id for contact in await self.listed(store)] == [1, 82, 83]
        async with store.read() as conn:
            assert (await campaigns.stats(conn, [1]))[1].total == 3

    async def test_what_was_never_published_is_removed_alone(self, store: Store) -> None:
        await add_campaign(store)
        await add_contacts(store, a_row(1))
        await store.write(lambda tx: imports.begin(tx, Import(77, 1, staged=True)))
        await store.write(lambda tx: contacts.insert(tx, 1, 77, [a_row(each) for each in range(80, 90)]))
        async with store.read() as conn:
            assert await imports.unpublished(conn) == [(77, 1)]
        assert await store.write(lambda tx: removal.staged_contacts(tx, 1, 77, 6)) == 6
        assert await store.write(lambda tx: removal.staged_contacts(tx, 1, 77, 6)) == 4
        await store.write(lambda tx: imports.remove(tx, 77))
        async with store.read() as conn:
            assert await imports.unpublished(conn) == []
            assert list((await conn.execute(sa.select(schema.contact.c.id))).scalars()) == [1]

    @staticmethod
    async def listed(store: Store) -> list[Contact]:
        async with store.read() as conn:
            return await contact_list.page(conn, 1, contact_list.Filter(), limit=10)


def the_parts(*rows: NewContact) -> tuple[Numbers, Contacts]:
    """A run of so few rows as its two parts."""
    _, numbers, listed = runs.runs(rows)
    assert isinstance(numbers, Numbers)
    assert isinstance(listed, Contacts)
    return numbers, listed


def a_new(number: int, **values: Any) -> NewContact:
    return NewContact(number, f"+1202{5_000_000 + number}", **values)


class TestStaging:
    """Parts of an upload, as their parser told them."""

    PLACE = Place("one", 1, 77, range(100, 200, 10))

    async def take(self, store: Store, *rows: NewContact) -> tuple[Refused, int]:
        await store.write(lambda tx: imports.begin(tx, Import(77, 1, staged=True)))
        numbers, listed = the_parts(*rows)
        refused = await store.write(lambda tx: staging.take_numbers(tx, self.PLACE, numbers.count, numbers.text))
        without = sorted({*refused.duplicates, *refused.unwanted})
        return refused, await store.write(lambda tx: staging.insert(tx, self.PLACE, listed.text, without))

    async def test_every_column_arrives_as_it_was_read(self, store: Store) -> None:
        await add_campaign(store)
        full: dict[str, Any] = {
            "first_name": 'Zoë, the "first"',
            "last_name": "O'Brien\\ [x],[y]\n\tnext",
            "email": "a@example.com",
            "company": "株式会社 👍",
            "timezone": "America/New_York",
            "priority": 7,
            "external_id": "",
            "attributes": {"line": "one\ntwo\x01\x02\x1f", "deep": "],\n["},
        }
        refused, stored = await self.take(store, a_new(1, **full), a_new(2))
        assert (refused, stored) == (Refused(), 2)
        async with store.read() as conn:
            found = await contacts.get_many(conn, [100, 110])
        assert {name: getattr(found[100], name) for name in full} == full
        assert (found[110].first_name, found[110].attributes, found[110].priority) == (None, {}, 0)
        assert [contact.id for contact in await due(store)] == []  # staged, and not published yet

    async def test_numbers_that_are_not_free(self, store: Store) -> None:
        await add_campaign(store)
        await add_contacts(store, a_row(1))
        await store.write(lambda tx: do_not_call.add(tx, "one", {"+12025000002": None}))
        await store.write(lambda tx: do_not_call.add(tx, "two", {"+12025000003": None}))
        refused, stored = await self.take(store, a_new(3), a_new(1), a_new(2), a_new(4), a_new(3))
        assert sorted(refused.duplicates) == [1, 4]
        assert refused.unwanted == (2,)
        assert stored == 2
        async with store.read() as conn:
            assert set(await contacts.get_many(conn, range(100, 160))) == {100, 130}
            for number, contact_id in ((1, 1), (3, 100), (4, 130)):
                found = sa.select(schema.contact_number.c.contact_id).where(
                    schema.contact_number.c.phone_number == f"+1202{5_000_000 + number}"
                )
                assert await conn.scalar(found) == contact_id

    async def test_several_parts_in_one_transaction(self, store: Store) -> None:
        await add_campaign(store)
        await store.write(lambda tx: imports.begin(tx, Import(77, 1, staged=True)))
        first, second = the_parts(a_new(1)), the_parts(a_new(2))
        later = Place("one", 1, 77, range(500, 600, 10))

        async def both(tx: Tx) -> int:
            assert await staging.take_numbers(tx, self.PLACE, 1, first[0].text) == Refused()
            assert await staging.take_numbers(tx, later, 1, second[0].text) == Refused()
            stored = await staging.insert(tx, self.PLACE, first[1].text, [])
            return stored + await staging.insert(tx, later, second[1].text, [])

        assert await store.write(both) == 2
        async with store.read() as conn:
            assert set(await contacts.get_many(conn, [100, 500])) == {100, 500}

    async def test_a_part_that_cannot_be_stored_leaves_the_rest_of_the_commit(self, store: Store) -> None:
        await add_campaign(store)
        numbers, _ = the_parts(a_new(1))
        broken = numbers.text.replace("[0,", '["no place",')
        bad, good = await asyncio.gather(
            store.write(lambda tx: staging.take_numbers(tx, self.PLACE, 1, broken)),
            store.write(lambda tx: campaigns.set_visible(tx, 1, visible=False)),
            return_exceptions=True,
        )
        # SQLite counts what is no number as none; PostgreSQL refuses it, and says nothing of it.
        assert not isinstance(bad, BaseException) or (isinstance(bad, StoreError) and bad.permanent)
        assert "no place" not in str(bad)
        assert good is None
        assert store.trouble is None


class TestOriginating:
    async def test_a_committed_call_has_its_contact_its_event_and_its_count(self, store: Store) -> None:
        await add_campaign(store)
        await add_contacts(store, a_row(1))
        seen = watch(store)
        [made] = await originate(store, await due(store))
        assert await due(store) == []
        async with store.read() as conn:
            assert await calls.live(conn) == [made.call]
            contact = (await contacts.get_many(conn, [1]))[1]
            stats = (await campaigns.stats(conn, [1]))[1]
        assert (contact.status, contact.attempts) == (ContactStatus.ORIGINATED, 1)
        assert (stats.calls_placed, stats.in_flight) == (1, 1)
        assert [event.draft.call_id for event in seen[0].events] == [made.call.id]

    @pytest.mark.parametrize("meanwhile", ["cancelled", "paused", "deleted", "dialled", "put off"])
    async def test_what_came_between_yields_no_call(self, store: Store, meanwhile: str) -> None:
        await add_campaign(store)
        await add_contacts(store, a_row(1), a_row(2))
        waiting = await due(store)
        if meanwhile == "cancelled":
            await store.write(lambda tx: contacts.cancel_one(tx, 1, "by hand"))
        elif meanwhile == "paused":
            await store.write(lambda tx: campaigns.set_status(tx, 1, CampaignStatus.PAUSED))
        elif meanwhile == "deleted":
            await store.write(lambda tx: campaigns.set_visible(tx, 1, visible=False))
        elif meanwhile == "dialled":
            await store.record([an_originating(waiting[0], "another", store.clock.wall())], [])
        else:
            later = store.clock.wall() + timedelta(hours=1)
            await store.write(lambda tx: contacts.put_off(tx, [(1, later, "x")]))
        made = await originate(store, waiting)
        assert [each.contact.id for each in made] == ([] if meanwhile in ("paused", "deleted") else [2])
        async with store.read() as conn:
            assert (await campaigns.stats(conn, [1]))[1].calls_placed == len(await calls.live(conn))

    async def test_a_contact_that_is_asked_for_twice_has_one_call(self, store: Store) -> None:
        await add_campaign(store)
        await add_contacts(store, a_row(1))
        [waiting] = await due(store)
        now = store.clock.wall()
        twice = [an_originating(waiting, "first", now), an_originating(waiting, "second", now)]
        assert await store.record(twice, []) == {"first"}
        async with store.read() as conn:
            assert [call.id for call in await calls.live(conn)] == ["first"]
            assert (await campaigns.stats(conn, [1]))[1].in_flight == 1

    async def test_the_counters_equal_a_count(self, store: Store) -> None:
        await add_campaign(store)
        await add_contacts(store, *(a_row(each) for each in range(1, 7)))
        made = await originate(store, (await due(store))[:4])
        now = store.clock.wall()
        ends = [
            (EventKind.COMPLETED, ContactStatus.COMPLETED, Outcome.ANSWERED, 2.5),
            (EventKind.FAILED, ContactStatus.FAILED, Outcome.INVALID_NUMBER, None),
            (EventKind.RETRY_SCHEDULED, ContactStatus.PENDING, Outcome.BUSY, None),
        ]
        steps = [
            a_step(
                each,
                kind,
                status,
                now,
                status=CallStatus.ENDED,
                outcome=outcome,
                ended_at=now,
                answered_at=now if talked else None,
                talk_seconds=talked,
            )
            for each, (kind, status, outcome, talked) in zip(made, ends, strict=False)
        ]
        await store.record([], steps)
        async with store.read() as conn:
            stats = (await campaigns.stats(conn, [1]))[1]
            listed = await contact_list.page(conn, 1, contact_list.Filter(), limit=10)
        counted = Counter(contact.status for contact in listed)
        assert {status: count for status, count in stats.contacts.items() if count} == counted
        assert {outcome: count for outcome, count in stats.outcomes.items() if count} == {
            Outcome.ANSWERED: 1,
            Outcome.INVALID_NUMBER: 1,
            Outcome.BUSY: 1,
        }
        assert (stats.calls_placed, stats.calls_answered, stats.talk_seconds) == (4, 1, 2.5)

    async def test_an_end_is_written_whatever_the_pbx_called_it(self, store: Store) -> None:
        """A step that a store refuses for good is an end that nobody learns of; PostgreSQL takes no NUL in a text."""
        await add_campaign(store)
        await add_contacts(store, a_row(1))
        [made] = await originate(store, await due(store))
        now = store.clock.wall()
        called = phrase("".join(map(chr, range(0xA0))) + "\u2028\ud800\uffff\U0010ffff")
        end = a_step(
            made,
            EventKind.COMPLETED,
            ContactStatus.COMPLETED,
            now,
            status=CallStatus.ENDED,
            ended_at=now,
            hangup_text=called,
        )
        await store.record([], [end])
        async with store.read() as conn:
            kept = (await calls.last_of(conn, [made.contact.id]))[made.contact.id]
        assert kept.hangup_text == called

    async def test_the_last_of_several_steps_in_one_batch_stays(self, store: Store) -> None:
        await add_campaign(store)
        await add_contacts(store, a_row(1))
        [made] = await originate(store, await due(store))
        now = store.clock.wall()
        answered = a_step(made, EventKind.CONNECTED, ContactStatus.CONNECTED, now, status=CallStatus.CONNECTED)
        ended = a_step(
            replace(made, contact=answered.contact or made.contact),
            EventKind.COMPLETED,
            ContactStatus.COMPLETED,
            now,
            status=CallStatus.ENDED,
            outcome=Outcome.ANSWERED,
            ended_at=now,
        )
        seen = watch(store)
        await store.record([], [answered, ended])
        assert [event.draft.kind for event in seen[0].events[:2]] == [EventKind.CONNECTED, EventKind.COMPLETED]
        async with store.read() as conn:
            assert await calls.live(conn) == []
            assert (await contacts.get_many(conn, [1]))[1].status is ContactStatus.COMPLETED


class TestFinish:
    """A campaign is completed by the commit that leaves nothing to do, and by no other."""

    async def end_all(self, store: Store, count: int = 1) -> list[Committed]:
        made = await originate(store, (await due(store))[:count])
        now = store.clock.wall()
        seen = watch(store)
        over: dict[str, Any] = {"status": CallStatus.ENDED, "outcome": Outcome.ANSWERED, "ended_at": now}
        await store.record(
            [], [a_step(each, EventKind.COMPLETED, ContactStatus.COMPLETED, now, **over) for each in made]
        )
        return seen

    async def status(self, store: Store) -> CampaignStatus:
        async with store.read() as conn:
            return (await campaigns.get_many(conn, [1]))[1][0].status

    async def test_nothing_left(self, store: Store) -> None:
        await add_campaign(store)
        await add_contacts(store, a_row(1))
        [committed] = await self.end_all(store)
        assert await self.status(store) is CampaignStatus.COMPLETED
        assert [end.campaign_id for end in committed.ends] == [1]
        assert [event.draft.kind for event in committed.events] == [EventKind.COMPLETED, EventKind.CAMPAIGN]

    @pytest.mark.parametrize("left", ["a pending contact", "a call in flight", "an upload", "keep_open", "paused"])
    async def test_something_left(self, store: Store, left: str) -> None:
        await add_campaign(store, keep_open=left == "keep_open")
        await add_contacts(store, a_row(1))
        if left == "a pending contact":
            await add_contacts(store, a_row(2))
        elif left == "a call in flight":
            await add_contacts(store, a_row(2))
            await originate(store, [contact for contact in await due(store) if contact.id == 2])
        elif left == "an upload":
            await store.write(lambda tx: imports.begin(tx, Import(77, 1, staged=True)))
        waiting = await due(store)
        made = await originate(store, [contact for contact in waiting if contact.id == 1])
        if left == "paused":
            await store.write(lambda tx: campaigns.set_status(tx, 1, CampaignStatus.PAUSED))
        now = store.clock.wall()
        over: dict[str, Any] = {"status": CallStatus.ENDED, "outcome": Outcome.ANSWERED, "ended_at": now}
        seen = watch(store)
        await store.record([], [a_step(made[0], EventKind.COMPLETED, ContactStatus.COMPLETED, now, **over)])
        assert not seen[0].ends
        expected = CampaignStatus.PAUSED if left == "paused" else CampaignStatus.ACTIVE
        assert await self.status(store) is expected

    async def test_cancelling_the_last_completes_too(self, store: Store) -> None:
        await add_campaign(store)
        await add_contacts(store, a_row(1))
        await store.write(lambda tx: contacts.cancel_one(tx, 1, "by hand"))
        assert await self.status(store) is CampaignStatus.COMPLETED


class TestMigrations:
    def test_they_make_the_schema_and_nothing_else(self, database: Database) -> None:
        from alembic.autogenerate import compare_metadata
        from alembic.migration import MigrationContext

        migrate(database.url)

        def differences(conn: sa.Connection) -> Any:
            return compare_metadata(MigrationContext.configure(conn), schema.metadata)

        assert run(database.url, differences) == []

    def test_the_code_needs_the_newest(self) -> None:
        from alembic.config import Config
        from alembic.script import ScriptDirectory

        config = Config()
        config.set_main_option("script_location", str(Path(schema.__file__).parent / "migrations"))
        assert ScriptDirectory.from_config(config).get_current_head() == schema.REVISION

    def test_texts_are_compared_by_their_bytes(self, database: Database) -> None:
        """Whatever language the database was made for (the tests' PostgreSQL: American English)."""
        migrate(database.url)

        def text_columns(conn: sa.Connection) -> set[str | None]:
            found = sa.inspect(conn)
            return {
                getattr(column["type"], "collation", None)
                for table in schema.metadata.tables
                for column in found.get_columns(table)
                if isinstance(column["type"], sa.String)
            }

        assert run(database.url, text_columns) == ({"C"} if "postgresql" in database.url else {None})

    def test_migrating_again_changes_nothing(self, database: Database) -> None:
        assert migrate(database.url) == migrate(database.url) == schema.REVISION

    def test_a_newer_store_is_left_alone(self, database: Database) -> None:
        migrate(database.url)
        run(database.url, lambda conn: conn.execute(sa.text("UPDATE alembic_version SET version_num = '9999'")))
        with pytest.raises(StoreError, match="9999"):
            migrate(database.url)


class TestListsOfAnEarlierVersion:
    async def test_a_campaign_with_more_than_is_taken_today_is_read_all_the_same(self, store: Store) -> None:
        made = await add_campaign(store, concurrent_calls=7)
        long = {"trunks": ("b",) * 100_000 + ("a",), "variables": {"small": "x", "large": "x" * 100_000}}
        old = replace(made, settings=made.settings.model_copy(update=long))
        await store.write(lambda tx: campaigns.revise(tx, old))
        async with store.read() as conn:
            [read] = await campaigns.of_status(conn, CampaignStatus.ACTIVE)
        assert (read.settings.concurrent_calls, read.settings.trunks) == (7, ("b", "a"))
        assert read.settings.variables == {"small": "x", "large": "x" * 1000}

    async def test_a_tenant_with_more_than_is_taken_today_is_read_all_the_same(self, store: Store) -> None:
        prefixes = tuple(f"+1{number}" for number in range(3000))
        long = Tenant("one", 1, 1, ("a",) * 5000, allowed_prefixes=prefixes, settings={"trunks": ["a"] * 5000})

        async def insert(tx: Tx) -> None:
            await tenants.insert(tx, long)

        await store.write(insert)
        async with store.read() as conn:
            [read] = await tenants.everyone(conn)
        assert (read.trunks, read.allowed_prefixes) == (("a",), prefixes[:1000])
        assert read.settings == {"trunks": ["a"]}
