"""What goes wrong on the way to a PostgreSQL: answers that are lost, silence, refusals. Nothing is written twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from dialerd.clock import SystemClock
from dialerd.store import campaigns, contacts, events, postgres_link, schema
from dialerd.store.db import Store
from dialerd.store.errors import StoreError
from dialerd.store.migrate import is_new, migrate
from dialerd.store.records import EventDraft, EventKind
from dialerd.store.tx import Tx
from dialerd.telemetry.metrics import Metrics
from tests.fakes.proxy import Proxy
from tests.support.postgres import PASSWORD, Cluster
from tests.support.records import a_row, add_campaign, add_contacts, due, originate

pytestmark = pytest.mark.postgres

DEADLINE = 40.0


class Cutter(Proxy):
    """A way to the server on which the next commit, or only its answer, is lost."""

    def __init__(self, port: int) -> None:
        super().__init__("127.0.0.1", port)
        self.lose: str | None = None
        """``answer``: the next commit arrives, and its answer does not. ``commit``: it does not arrive."""
        self.lost = asyncio.Event()

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, from_pbx: bool = False) -> None:
        losing = False
        while data := await source.read(65_536):
            await self._flowing.wait()
            if not from_pbx and self.lose is not None and b"COMMIT" in data:
                if self.lose == "commit":
                    self._lose()
                    return
                losing = True
            if from_pbx and self.lose == "answer" and b"COMMIT" in data:
                self._lose()
                return
            sink.write(data)
            await sink.drain()
        assert not losing or self.lost.is_set()
        if not sink.is_closing():
            sink.write_eof()  # who says goodbye waits for the other's end

    def _lose(self) -> None:
        self.lose = None
        self.cut()
        self.lost.set()


@pytest.fixture
async def way(postgres: Cluster) -> AsyncIterator[Cutter]:
    proxy = Cutter(postgres.port)
    async with proxy:
        yield proxy


@pytest.fixture
async def store(postgres_url: str, postgres: Cluster, way: Cutter) -> AsyncIterator[Store]:
    migrate(postgres_url)
    opened = Store(postgres_url.replace(f":{postgres.port}/", f":{way.port}/"), SystemClock(), Metrics())
    await opened.open()
    yield opened
    await opened.close()


async def told(store: Store) -> list[tuple[int, str]]:
    async with store.read() as conn:
        return [(event.seq, event.draft.status) for event in await events.after(conn, 1, 0, 100)]


async def emit(tx: Tx, status: str) -> str:
    tx.emit(EventDraft(EventKind.CAMPAIGN, 1, status, tx.clock.wall()))
    return status


@pytest.mark.parametrize("lost", ["answer", "commit"])
async def test_a_commit_that_is_not_answered_is_settled_and_never_told_twice(
    store: Store, way: Cutter, lost: str
) -> None:
    await add_campaign(store)
    await add_contacts(store, a_row(1))
    heard: list[int] = []
    store.on_commit = lambda committed: heard.extend(event.seq for event in committed.events)
    waiting = await due(store)
    way.lose = lost
    async with asyncio.timeout(DEADLINE):
        commit = asyncio.ensure_future(originate(store, waiting))
        await way.lost.wait()
        while store.trouble is None:
            await store.clock.sleep(0.01)
        assert not commit.done()  # nobody is told what nobody knows
        with pytest.raises(StoreError):
            await told(store)
        way.restore()
        if lost == "answer":
            assert len(await commit) == 1
        else:
            with pytest.raises(StoreError):
                await commit
        await store.write(lambda tx: emit(tx, "after"))
    assert store.trouble is None
    async with store.read() as conn:
        stats = (await campaigns.stats(conn, [1]))[1]
        found = (await contacts.get_many(conn, [1]))[1]
    assert stats.calls_placed == found.attempts == (1 if lost == "answer" else 0)
    assert [seq for seq, _ in await told(store)] == heard


async def test_a_store_that_is_closed_in_doubt_does_not_wait_for_ever(
    store: Store, way: Cutter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dialerd.store.db._DOUBT_SECONDS", 0.1)
    way.lose = "answer"
    async with asyncio.timeout(DEADLINE):
        write = asyncio.ensure_future(store.write(lambda tx: emit(tx, "x")))
        await way.lost.wait()
        await store.close()
    with pytest.raises(StoreError):
        await write


async def test_whoever_comes_behind_a_commit_in_doubt_is_told_that_the_store_fails(store: Store, way: Cutter) -> None:
    way.lose = "answer"
    async with asyncio.timeout(DEADLINE):
        doubtful = asyncio.ensure_future(store.write(lambda tx: emit(tx, "doubtful")))
        await way.lost.wait()
        with pytest.raises(StoreError):
            await store.write(lambda tx: emit(tx, "behind"))
        assert not doubtful.done()
        with pytest.raises(StoreError):
            await told(store)
        way.restore()
        await doubtful
    assert [status for _, status in await told(store)] == ["doubtful"]


@pytest.mark.parametrize("spent", [False, True], ids=["not reached", "somebody else's"])
@pytest.mark.parametrize("events", [True, False])
async def test_a_commit_in_doubt_on_a_server_that_never_had_it_does_not_stand(
    store: Store, way: Cutter, postgres: Cluster, monkeypatch: pytest.MonkeyPatch, spent: bool, events: bool
) -> None:
    """The primary died in it, and the replica that took over had not heard of it: its number is free, or spent."""
    begin = store._backend.begin

    async def on_the_primary(conn: AsyncConnection, epoch: int | None) -> str | None:
        ticket = await begin(conn, epoch)
        if way.lose is None:
            return ticket
        # The other server's transactions, as far as it has come.
        number = int(postgres.sql("SELECT pg_current_xact_id()").strip()) if spent else 10**9
        return f"{number} another start"

    monkeypatch.setattr(store._backend, "begin", on_the_primary)

    async def change(tx: Tx) -> None:
        if events:
            await emit(tx, "lost")

    way.lose = "commit"
    async with asyncio.timeout(DEADLINE):
        doubtful = asyncio.ensure_future(store.write(change))
        await way.lost.wait()
        with pytest.raises(StoreError):
            await told(store)
        way.restore()
        with pytest.raises(StoreError):
            await doubtful
        await store.write(lambda tx: emit(tx, "after"))
    assert [status for _, status in await told(store)] == ["after"]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Deadlines of a test's length."""
    for name, seconds in {
        "WRITE_SECONDS": 0.5,
        "READ_SECONDS": 0.5,
        "_GRACE_SECONDS": 0.5,
        "CONNECT_SECONDS": 1,
    }.items():
        monkeypatch.setattr(postgres_link, name, seconds)


async def test_a_server_that_says_nothing_any_more_is_given_up_and_found_again(
    impatient: None, store: Store, way: Cutter
) -> None:
    await store.write(lambda tx: emit(tx, "before"))
    await told(store)
    way.hold()
    async with asyncio.timeout(DEADLINE):
        with pytest.raises(StoreError, match="no answer in time"):
            await store.write(lambda tx: emit(tx, "never"))
        assert store.trouble is not None
        with pytest.raises(StoreError, match="no answer in time"):
            await told(store)
        way.resume()
        # Nobody writes: the store itself finds out that it works again.
        while store.trouble is not None:
            await store.clock.sleep(0.05)
        await store.write(lambda tx: emit(tx, "after"))
    assert [status for _, status in await told(store)] == ["before", "after"]


async def test_a_statement_that_takes_too_long_is_given_up_by_the_server_and_the_store_goes_on(
    impatient: None, store: Store
) -> None:
    async def slow(tx: Tx) -> None:
        await tx.conn.execute(sa.text("SELECT pg_sleep(30)"))

    async with asyncio.timeout(DEADLINE):
        with pytest.raises(StoreError, match="statement timeout"):
            await store.write(slow)
        while store.trouble is not None:
            await store.clock.sleep(0.05)
        assert await store.write(lambda tx: emit(tx, "after")) == "after"


async def test_a_row_that_somebody_holds_is_passed_over_and_not_waited_for(store: Store, postgres_url: str) -> None:
    await add_campaign(store)
    await add_contacts(store, a_row(1), a_row(2))
    waiting = await due(store)
    person = await postgres_link.connector(postgres_url, writing=True)()
    async with person.transaction():
        await person.execute("SELECT 1 FROM contact WHERE id = 1 FOR UPDATE")
        made = await originate(store, waiting)
    await person.close()
    assert [each.contact.id for each in made] == [2]
    assert store.trouble is None
    assert [contact.id for contact in await due(store)] == [1]


async def test_a_role_whose_commits_are_not_flushed_has_them_flushed(
    postgres: Cluster, postgres_url: str, store: Store
) -> None:
    postgres.sql(f"ALTER DATABASE {postgres_url.rpartition('/')[2]} SET synchronous_commit = off")
    other = Store(postgres_url, SystemClock(), Metrics())
    await other.open()

    async def ask(tx: Tx) -> str:
        return str(await tx.conn.scalar(sa.text("SHOW synchronous_commit")))

    assert await other.write(ask) == "on"
    await other.close()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ((":{port}/", ":1/"), "refused|Connect call failed"),
        ((PASSWORD, "an0ther"), "password authentication failed"),
        (("/{name}", "/nowhere"), "does not exist"),
    ],
)
async def test_a_store_that_cannot_be_reached_says_why_and_shows_no_password(
    postgres: Cluster, postgres_url: str, wrong: tuple[str, str], words: str
) -> None:
    name = postgres_url.rpartition("/")[2]
    bad = postgres_url.replace(wrong[0].format(port=postgres.port, name=name), wrong[1])
    assert bad != postgres_url
    for ask in (is_new, migrate):
        with pytest.raises(StoreError, match=words) as raised:
            ask(bad)
        assert PASSWORD not in str(raised.value)
        assert "an0ther" not in str(raised.value)
    store = Store(bad, SystemClock(), Metrics())
    with pytest.raises(StoreError, match=words):
        await store.open()


def test_a_database_without_tables_is_new(postgres: Cluster, postgres_url: str) -> None:
    name = postgres_url.rpartition("/")[2]
    # As PostGIS does, an extension brings a table with it.
    postgres.sql("CREATE TABLE of_it (a int)", "ALTER EXTENSION plpgsql ADD TABLE of_it", database=name)
    assert is_new(postgres_url)
    assert migrate(postgres_url) == schema.REVISION
    assert not is_new(postgres_url)


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (["CREATE TABLE campaign (id int)"], r"another program's: it has tables \(campaign\).*a schema, of its own"),
        ([f"CREATE TABLE t{each} (id int)" for each in range(7)], r"tables \(t0, t1, t2, t3, t4, …\)"),
        (["CREATE TABLE alembic_version (version_num text)", "INSERT INTO alembic_version VALUES ('9f3c')"], "9f3c"),
        (
            [
                "CREATE TABLE alembic_version (version_num text)",
                "INSERT INTO alembic_version VALUES ('0001')",
                "CREATE TABLE theirs (id int)",
            ],
            r"another program's: it has tables \(theirs\)",
        ),
    ],
    ids=["tables", "many", "alembic", "alembic_alike"],
)
def test_another_programs_schema_is_left_alone(
    postgres: Cluster, postgres_url: str, made: list[str], words: str
) -> None:
    name = postgres_url.rpartition("/")[2]
    postgres.sql(*made, database=name)
    query = "SELECT string_agg(tablename, ',' ORDER BY tablename) FROM pg_tables WHERE schemaname = 'public'"
    before = postgres.sql(query, database=name)
    assert not is_new(postgres_url)
    with pytest.raises(StoreError, match=words):
        migrate(postgres_url)
    assert postgres.sql(query, database=name) == before
    # A schema of its own in the same database will do.
    postgres.sql('CREATE SCHEMA "Dialer"', database=name)
    own = f"{postgres_url}?options=-csearch_path%3D%22Dialer%22"
    assert is_new(own)
    assert migrate(own) == schema.REVISION
