"""No list, claim or step of a large campaign scans its contacts: what SQLite plans for each statement says so."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from dialerd.clock import SystemClock
from dialerd.core.model import CampaignStatus, ContactStatus
from dialerd.core.outcome import Outcome
from dialerd.store import campaigns, contact_due, contact_list, contact_search, contacts, do_not_call, imports, removal
from dialerd.store.contact_list import Filter
from dialerd.store.db import Store
from dialerd.store.imports import Import
from dialerd.store.schema import contact, to_micros
from dialerd.store.tx import Tx
from dialerd.telemetry.metrics import Metrics
from tests.support.records import a_row, add_campaign, add_contacts
from tests.support.stores import new_store

STATUSES = (None, ContactStatus.PENDING, ContactStatus.COMPLETED)
OUTCOMES = (None, Outcome.BUSY)
SEARCHES = (None, "+1202")
PLACES: tuple[dict[str, Any], ...] = ({}, {"offset": 10}, {"offset": 900_000, "total": 1_000_000}, {"after": 5})
Asked = list[tuple[str, Any]]
_GROWING = ("contact", "contact_number", "call", "event", "callback", "import_reject", "do_not_call", "following")
"""Tables that grow with what is dialled, under the names that the plans give them."""


@pytest.fixture
async def store(tmp_path: Path) -> Any:
    opened = Store(new_store(tmp_path / "dialerd.db"), SystemClock(), Metrics())
    await opened.open()
    yield opened
    await opened.close()


async def statements(store: Store, work: Callable[[], Awaitable[object]]) -> Asked:
    """What some work asks of the store, with its parameters."""
    asked: Asked = []

    def note(conn: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> None:
        if statement.lstrip().split()[0] in ("SELECT", "UPDATE", "DELETE", "WITH", "INSERT"):
            asked.append((statement, parameters[0] if many else parameters))

    engines = [engine.sync_engine for engine in (store._read_engine, store._write_engine)]
    for engine in engines:
        sa.event.listen(engine, "before_cursor_execute", note)
    await work()
    for engine in engines:
        sa.event.remove(engine, "before_cursor_execute", note)
    assert asked
    return asked


async def plans(store: Store, work: Callable[[], Awaitable[object]]) -> list[str]:
    """What SQLite plans for each statement that some work sends, a line per step of a plan."""
    asked = await statements(store, work)
    async with store.read() as conn:
        return [
            f"{row.detail}    -- {statement}"
            for statement, parameters in asked
            for row in await conn.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
        ]


async def effort(store: Store, path: Path, work: Callable[[], Awaitable[object]]) -> int:
    """How many instructions SQLite's machine takes for what some work reads: a cost that no busy machine changes."""
    asked = await statements(store, work)
    count = 0

    def tick() -> None:
        nonlocal count
        count += 1

    connection = sqlite3.connect(path)
    connection.set_progress_handler(tick, 10)
    for statement, parameters in asked:
        connection.execute(statement, parameters).fetchall()
    connection.close()
    return 10 * count


def scans(found: list[str]) -> list[str]:
    """The steps that read a whole table or index, or sort what they read."""
    bad = []
    for line in found:
        step = line.partition("    -- ")[0]
        action, _, rest = step.partition(" ")
        name = rest.partition(" ")[0]
        if (action == "SCAN" and name in _GROWING) or "TEMP B-TREE" in step:
            bad.append(line)
    return bad


async def test_a_text_is_looked_for_in_each_contact(store: Store) -> None:
    """Known, and measured in docs/performance.md; and it shows that a scan would be seen here."""
    await add_campaign(store)

    async def count() -> None:
        async with store.read() as conn:
            await conn.execute(sa.select(contact).where(contact_search.matching("ann")))

    assert scans(await plans(store, count)) != []


@pytest.mark.parametrize("staged", [0, 1, 2])
async def test_pages(store: Store, staged: int) -> None:
    await add_campaign(store)
    await add_contacts(store, *(a_row(each) for each in range(1, 20)))
    for number in range(staged):
        await store.write(lambda tx, id_=100 + 10 * number: imports.begin(tx, Import(id_, 1, staged=True)))  # type: ignore[misc]

    for status, outcome, search, place in itertools.product(STATUSES, OUTCOMES, SEARCHES, PLACES):

        async def list_them() -> None:
            async with store.read() as conn:
                await contact_list.page(conn, 1, Filter(status, outcome, search), limit=100, **place)  # noqa: B023

        assert scans(await plans(store, list_them)) == [], (status, outcome, search, place)


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("outcome", OUTCOMES)
@pytest.mark.parametrize("search", SEARCHES)
async def test_totals(store: Store, status: ContactStatus | None, outcome: Outcome | None, search: str | None) -> None:
    await add_campaign(store)

    async def count() -> None:
        async with store.read() as conn:
            await contact_list.total(conn, 1, Filter(status, outcome, search))

    found = await plans(store, count)
    assert scans(found) == []
    if search is None:
        assert not any(" contact " in line.partition("    -- ")[0] for line in found), (
            "counters, and no contact, are read"
        )


@pytest.mark.parametrize("lists", [0, 1, 3])
async def test_claims(store: Store, lists: int) -> None:
    await add_campaign(store)
    await add_contacts(store, a_row(1), a_row(2, priority=5))
    for number in range(lists):
        upload = Import(100 + 10 * number, 1, staged=True)
        await store.write(lambda tx, upload=upload: imports.begin(tx, upload))  # type: ignore[misc]
        await add_contacts(store, a_row(upload.id + 1), a_row(upload.id + 2, priority=5), list_id=upload.id)
        await store.write(lambda tx, upload=upload: imports.publish(tx, upload))  # type: ignore[misc]

    async def claim() -> None:
        now = store.clock.wall()
        async with store.read() as conn:
            due, _ = await contact_due.claim(conn, 1, now, 100, frozenset())
            assert len(due) == 2 + 2 * lists
            newly, _ = await contact_due.fetch(conn, 1, now, 100, frozenset(), since=now, above=-1)
            assert newly == []
            await contact_due.last_due(conn, 1)
            await contact_due.count_waiting(conn, 1, now, 2)

    assert scans(await plans(store, claim)) == []


async def test_steps_of_stop_delete_and_recall(store: Store) -> None:
    await add_campaign(store)
    await add_contacts(store, *(a_row(each) for each in range(1, 20)))
    await store.write(lambda tx: imports.begin(tx, Import(100, 1, staged=True)))
    until = store.clock.wall() + timedelta(hours=1)

    async def work() -> None:
        await store.write(lambda tx: contacts.put_off(tx, [(1, until, "x")]))
        assert await store.write(lambda tx: contacts.recall(tx, 1, 5)) == 1
        await store.write(lambda tx: do_not_call.add(tx, "one", {"+12025000003": None}))
        assert await store.write(lambda tx: contacts.cancel_pending(tx, 1, 5, reason="stopped")) == 5
        await store.write(lambda tx: campaigns.set_visible(tx, 1, visible=False))
        async with store.read() as conn:
            (span,) = await imports.staged(conn, 1)
            await removal.staged_numbers(conn, 1, span, "", 5)
        await store.write(lambda tx: removal.free_numbers(tx, 1, 100, ["+12025000001"]))
        await store.write(lambda tx: removal.staged_contacts(tx, 1, 100, 5))
        while await store.write(lambda tx: removal.of_campaign(tx, 1, 5)):
            pass

    assert scans(await plans(store, work)) == []
    await store.write(lambda tx: campaigns.set_status(tx, 1, CampaignStatus.CANCELLED))


LIMIT = 20
"""Of a page, a claim or a step: what may cost; the list's length may not."""


@pytest.mark.slow
@pytest.mark.parametrize("staging", [True, False])
async def test_no_list_costs_more_because_it_is_longer(tmp_path: Path, staging: bool) -> None:
    costs: dict[str, list[int]] = {}
    for size in (400, 4000):
        path = tmp_path / f"{size}.db"
        store = Store(new_store(path), SystemClock(), Metrics())
        await store.open()
        await fill(store, size, staging)
        for name, work in works(store, size, staging).items():
            costs.setdefault(name, []).append(await effort(store, path, work))
        await store.close()
    grown = {name: pair for name, pair in costs.items() if pair[1] > 1.5 * pair[0] + 500}
    assert grown == {}
    assert costs["a text"][1] > 0


async def fill(store: Store, size: int, staging: bool) -> None:
    """Contacts due, waiting with a high priority, ended in each way; two uploads, and perhaps one under way."""
    await add_campaign(store)
    now = store.clock.wall()
    for first, list_id in ((10, 0), (size + 1000, size + 900), (3 * size, 3 * size - 10), (6 * size, 6 * size - 10)):
        if list_id == 6 * size - 10 and not staging:
            break
        if list_id:
            await store.write(lambda tx, id_=list_id: imports.begin(tx, Import(id_, 1, staged=True)))  # type: ignore[misc]
        rows = [a_row(first + each, priority=9 if each % 4 == 3 else 0) for each in range(size // 4)]
        await add_contacts(store, *rows, list_id=list_id)
        if list_id < 6 * size - 10 and list_id:
            await store.write(lambda tx, id_=list_id: imports.publish(tx, Import(id_, 1, staged=True)))  # type: ignore[misc]

    async def move(tx: Tx) -> None:
        waiting = {"due_at": to_micros(now) + 3_600_000_000}
        await tx.conn.execute(sa.update(contact).where(contact.c.priority == 9).values(waiting))
        for rest, (status, outcome) in enumerate((("completed", "answered"), ("failed", "busy"))):
            chosen = sa.and_(contact.c.id % 4 == rest, contact.c.list_id < 6 * size - 10)
            await tx.conn.execute(sa.update(contact).where(chosen).values(status=status, last_outcome=outcome))

    await store.write(move)


def works(store: Store, size: int, staging: bool) -> dict[str, Callable[[], Awaitable[object]]]:
    """What must cost the same in a list of any length, and a text's search, which does not and is bounded here."""

    async def claim() -> None:
        async with store.read() as conn:
            await contact_due.claim(conn, 1, store.clock.wall(), LIMIT, frozenset())

    def page(chosen: Filter, **place: Any) -> Callable[[], Awaitable[object]]:
        async def read() -> None:
            async with store.read() as conn:
                await contact_list.page(conn, 1, chosen, limit=LIMIT, **place)

        return read

    found: dict[str, Callable[[], Awaitable[object]]] = {"claim": claim, "a text": page(Filter(search="+12029999"))}
    for status, outcome, search in itertools.product(STATUSES, OUTCOMES, (None, "+1202")):
        if search is not None and (status or outcome or staging):
            continue  # what a search by number passes over is looked at one by one
        chosen = Filter(status, outcome, search)
        found[f"{chosen}, first"] = page(chosen)
        found[f"{chosen}, after all that is not staged"] = page(chosen, after=3 * size + size // 4 - 1)
        found[f"{chosen}, last"] = page(chosen, offset=10**6 - LIMIT, total=10**6)
    return found
