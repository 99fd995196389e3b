"""No list, claim or step of a large campaign scans its contacts on PostgreSQL either: its plans say what is read."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from dialerd.clock import SystemClock
from dialerd.core.model import ContactStatus
from dialerd.core.outcome import Outcome
from dialerd.store import contact_due, contact_list, contact_search, contacts, do_not_call, imports, last_look, removal
from dialerd.store.contact_list import Filter
from dialerd.store.db import Store
from dialerd.store.imports import Import
from dialerd.store.migrate import migrate
from dialerd.store.schema import contact
from dialerd.store.tx import Tx
from dialerd.telemetry.metrics import Metrics
from tests.support.postgres import Cluster
from tests.support.records import add_campaign, due, originate
from tests.unit.test_list_plans import OUTCOMES, STATUSES, statements

pytestmark = pytest.mark.postgres

SIZE = 100_000
LIMIT = 20
_GROWING = {"contact", "contact_number", "call", "event", "callback", "import_reject", "do_not_call"}
# Due, waiting with a high priority, ended in each way; half of them of an upload.
_CONTACTS = f"""
    INSERT INTO contact (id, campaign_id, list_id, phone_number, priority, rank, attributes, status, attempts,
        callee_tries, mishaps, outcomes, last_outcome, due_at, updated_at)
    SELECT n, 1, CASE WHEN n > {SIZE // 2} THEN {SIZE // 2} ELSE 0 END, '+1' || (2020000000 + n),
        CASE n % 4 WHEN 3 THEN 9 ELSE 0 END, CASE n % 4 WHEN 3 THEN 9 ELSE 0 END, '',
        CASE n % 4 WHEN 0 THEN 'completed' WHEN 1 THEN 'failed' ELSE 'pending' END, 0, 0, 0, '',
        CASE n % 4 WHEN 0 THEN 'answered' WHEN 1 THEN 'busy' END,
        CASE n % 4 WHEN 3 THEN 32503680000000000 ELSE 0 END, 0
    FROM generate_series(1, {SIZE}) AS n WHERE n <> {SIZE // 2}
"""
_NUMBERS = "INSERT INTO contact_number SELECT campaign_id, phone_number, id FROM contact"
_CALLS = """
    INSERT INTO call (id, tenant, campaign_id, contact_id, attempt, pbx, trunk, phone_number, status, originated_at,
        ended_at)
    SELECT 'c' || id, 'one', 1, id, 1, 'main', 'a', phone_number, 'ended', id, id FROM contact WHERE status <> 'pending'
"""
# A small table is read whole for good reason: those beside the contacts are long, too.
_OTHERS = (
    "INSERT INTO do_not_call SELECT 'one', '+1' || (3030000000 + n), NULL, n FROM generate_series(1, 20000) AS n",
    "INSERT INTO import_reject SELECT 7, n, n, 'a', 'b', 'c', 'd' FROM generate_series(1, 20000) AS n",
    "INSERT INTO event SELECT n, 1, n, 'c' || n, 'failed', 'failed', 'busy', NULL, NULL, n "
    "FROM generate_series(1, 20000) AS n",
    "INSERT INTO callback SELECT n, 2, n, '+1', n, NULL, false, 'pending', n FROM generate_series(1, 20000) AS n",
)


@pytest.fixture(scope="module")
def large(postgres: Cluster) -> Iterator[str]:
    """A database with a long list and what was dialled of it."""
    name = f"plans_{os.getpid()}"  # the run's workers may share this module's tests
    url = postgres.create(name)
    migrate(url)
    postgres.sql(_CONTACTS, _NUMBERS, _CALLS, *_OTHERS, database=name)
    asyncio.run(_counted(url))
    postgres.sql("VACUUM ANALYZE", database=name)
    yield url
    postgres.drop(name)


async def _counted(url: str) -> None:
    store = Store(url, SystemClock(), Metrics())
    await store.open()
    await add_campaign(store)
    await store.write(_count)
    await store.close()


async def _count(tx: Tx) -> None:
    tx.stats(1).move(None, ContactStatus.PENDING, SIZE // 2)


@pytest.fixture
async def store(large: str) -> AsyncIterator[Store]:
    opened = Store(large, SystemClock(), Metrics())
    await opened.open()
    yield opened
    await opened.close()


async def plans(store: Store, work: Callable[[], Awaitable[object]]) -> list[tuple[str, Any]]:
    """What PostgreSQL did for each statement that some work reads, and what it plans for each that it writes."""
    found = []
    for statement, parameters in await statements(store, work):
        writes = any(word in statement for word in ("INSERT INTO", "UPDATE", "DELETE FROM"))  # in a WITH, too
        reads = statement.lstrip().split()[0] in ("SELECT", "WITH") and not writes
        async with store.read() if reads else store._writer.taken() as conn:
            explain = f"EXPLAIN (FORMAT JSON{', ANALYZE' if reads else ''})"
            # Executed once here, it is planned as the daemon's connections plan it.
            told = await conn.scalar(sa.text("SHOW plan_cache_mode"))
            assert told == "force_custom_plan"
            ((plan,),) = (await conn.exec_driver_sql(f"{explain} {statement}", parameters)).all()
            found.append((statement, (plan if isinstance(plan, list) else json.loads(plan))[0]["Plan"]))
    return found


def nodes(plan: Any) -> Iterator[Any]:
    yield plan
    for each in plan.get("Plans", ()):
        yield from nodes(each)


def scans(found: list[tuple[str, Any]]) -> list[str]:
    """The statements that read a growing table from its beginning to its end."""
    return [
        f"{node['Node Type']} on {node['Relation Name']}: {statement}"
        for statement, plan in found
        for node in nodes(plan)
        if node["Node Type"] == "Seq Scan" and node["Relation Name"] in _GROWING
    ]


def rows_read(found: list[tuple[str, Any]]) -> int:
    """How many rows all scans of growing tables gave or threw away."""
    return sum(
        round((node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"])
        for _, plan in found
        for node in nodes(plan)
        if node.get("Relation Name") in _GROWING and "Actual Rows" in node
    )


async def test_a_scan_would_be_seen_here(store: Store) -> None:
    async def count() -> None:
        async with store.read() as conn:
            await conn.execute(sa.select(contact).where(contact_search.matching("ann")))

    found = await plans(store, count)
    assert scans(found) != []
    assert rows_read(found) > SIZE // 2


async def test_claims(store: Store) -> None:
    async def claim() -> None:
        now = store.clock.wall()
        async with store.read() as conn:
            found, upcoming = await contact_due.claim(conn, 1, now, LIMIT, frozenset())
            assert len(found) == LIMIT
            assert upcoming is not None
            await contact_due.fetch(conn, 1, now, LIMIT, frozenset(), since=now, above=-1)
            await contact_due.last_due(conn, 1)

    found = await plans(store, claim)
    assert scans(found) == []
    assert rows_read(found) < 20 * LIMIT


@pytest.mark.parametrize("search", [None, "+1202"])
async def test_pages(store: Store, search: str | None) -> None:
    for status, outcome in itertools.product(STATUSES, OUTCOMES):
        chosen = Filter(status, outcome, search)

        async def first(chosen: Filter = chosen) -> None:
            async with store.read() as conn:
                await contact_list.page(conn, 1, chosen, limit=LIMIT)

        async def later(chosen: Filter = chosen) -> None:
            async with store.read() as conn:
                await contact_list.page(conn, 1, chosen, limit=LIMIT, after=SIZE // 3 // 4 * 4)

        for work in (first, later):
            found = await plans(store, work)
            assert scans(found) == [], chosen
            if search is None:
                assert rows_read(found) <= 10 * LIMIT, chosen


async def test_a_page_far_down_reads_no_contact_that_it_passes_over(store: Store) -> None:
    async def far() -> None:
        async with store.read() as conn:
            await contact_list.page(conn, 1, Filter(), limit=LIMIT, offset=SIZE // 4)

    found = await plans(store, far)
    assert scans(found) == []
    skipped = [node for _, plan in found for node in nodes(plan) if node.get("Actual Rows", 0) > LIMIT]
    assert {node["Node Type"] for node in skipped if "Relation Name" in node} == {"Index Only Scan"}


async def test_totals_and_what_was_dialled(store: Store) -> None:
    async def count() -> None:
        async with store.read() as conn:
            await contact_list.total(conn, 1, Filter(outcome=Outcome.BUSY))
            await contacts.by_number(conn, 1, "+12020000001")
            await last_look.dialled(conn, "one", {"+12020000001"}, store.clock.wall() - timedelta(days=1))

    found = await plans(store, count)
    assert scans(found) == []
    assert rows_read(found) < 20


async def test_steps(store: Store) -> None:
    """The journal's statements, and what stops, deletes and recalls."""

    async def work() -> None:
        made = await originate(store, await due(store, LIMIT))
        assert len(made) == LIMIT
        until = store.clock.wall() + timedelta(hours=1)
        await store.write(lambda tx: contacts.put_off(tx, [(SIZE // 4 + 2, until, "x")]))
        await store.write(lambda tx: contacts.recall(tx, 1, 5))
        await store.write(lambda tx: do_not_call.add(tx, "one", {"+12020000003": None}))
        await store.write(lambda tx: contacts.cancel_pending(tx, 1, 5, reason="stopped"))
        await store.write(lambda tx: imports.begin(tx, Import(SIZE + 10, 1, staged=True)))
        async with store.read() as conn:
            (span,) = await imports.staged(conn, 1)
            await removal.staged_numbers(conn, 1, span, "", 5)
        await store.write(lambda tx: removal.free_numbers(tx, 1, SIZE + 10, ["+12025000001"]))
        await store.write(lambda tx: removal.staged_contacts(tx, 1, SIZE + 10, 5))
        await store.write(lambda tx: removal.of_campaign(tx, 1, 5))

    assert scans(await plans(store, work)) == []
