"""Stores with a list of any length, made by SQL alone: what is measured is the list, not how it came in."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from dialerd import collector
from dialerd.clock import SystemClock
from dialerd.core.model import CampaignStatus, ContactStatus
from dialerd.core.settings import CampaignSettings
from dialerd.store.db import Store
from dialerd.store.migrate import migrate
from dialerd.store.schema import to_micros
from dialerd.store.tx import Tx
from dialerd.telemetry.metrics import Metrics
from tests.integration.daemon import TENANT, Stock

CAMPAIGN = 1
FIRST_NUMBER = 2_020_000_000
_BYTES_A_CONTACT = 500
"""Row and entries of all indexes, and what building an index takes meanwhile."""
_clock = SystemClock()

Kinds = tuple[tuple[str, str | None, int, int], ...]
"""Of each kind of contact: status, last outcome, rank, seconds until it is due."""
PENDING: Kinds = (("pending", None, 0, 0),)
MIXED: Kinds = (
    *PENDING,
    ("pending", "busy", 9, 3600),
    *(("completed", "answered", 0, 0), ("failed", "busy", 0, 0), ("cancelled", None, 0, 0)),
)
"""A list in the middle of its way: some due, many of high priority not yet due, the others called."""


class TimedStore(Store):
    """Notes how long each operation that clears a list held the writer, its commit included."""

    def __init__(self, url: str, clock: SystemClock, metrics: Metrics) -> None:
        super().__init__(url, clock, metrics)
        self.held: list[float] = []

    async def write(self, operation: Callable[[Tx], Awaitable[Any]], *, weight: int = 10) -> Any:
        begun = 0.0

        async def timed(tx: Tx) -> Any:
            nonlocal begun
            begun = _clock.mono()
            return await operation(tx)

        result = await super().write(timed, weight=weight)
        if weight > 10:
            self.held.append(_clock.mono() - begun)
        return result


def room_for(rows: int, folder: Path) -> Path:
    """Where so many contacts fit: in memory where that leaves as much again free, otherwise in ``folder``.

    Raises OSError where neither has the room.
    """
    needed = rows * _BYTES_A_CONTACT
    memory = Path("/dev/shm")
    if memory.is_dir() and os.access(memory, os.W_OK):
        available = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        if min(available, shutil.disk_usage(memory).free) > 2 * needed:
            return memory
    if shutil.disk_usage(folder).free < 2 * needed:
        raise OSError(f"{rows:,} contacts need {2 * needed / 2**30:.0f} GiB free in {folder}")
    return folder


@asynccontextmanager
async def filled(folder: Path, rows: int, kinds: Kinds = MIXED) -> AsyncIterator[TimedStore]:
    """An open store with one campaign of so many contacts, of these kinds in turn; removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="dialerd-list-", dir=folder) as name:
        path = Path(name) / "list.db"
        await asyncio.to_thread(fill, path, rows, kinds)
        store = TimedStore(f"sqlite:///{path}", _clock, Metrics())
        await store.open()
        collector.relax()
        collector.settle()  # as in the daemon's own process
        try:
            yield store
        finally:
            await store.close()


def fill(path: Path, rows: int, kinds: Kinds) -> None:
    """Make a store of a paused campaign with so many contacts, of these kinds in turn."""
    migrate(f"sqlite:///{path}")
    with _unguarded(path) as connection:
        _add_campaign(connection, CAMPAIGN, "one", CampaignStatus.PAUSED, CampaignSettings())
        _add_contacts(connection, CAMPAIGN, rows, kinds, 10)


def dialing(
    stock: Stock, folder: Path, *, contacts: int, campaigns: int = 1, tenants: Sequence[str] = (TENANT,)
) -> Stock:
    """A stock with active campaigns, of these tenants in turn, which have so many contacts due at once between them.

    A daemon that starts on a copy of it begins to dial. Each campaign may have a thousand calls at once.
    """
    made = Stock(folder / f"stock-{_clock.number()}.db", stock.key)
    shutil.copy(stock.store, made.store)
    settings = CampaignSettings(
        calling_hours_start="00:00", calling_hours_end="00:00", concurrent_calls=1000, max_retries=0
    )
    each = contacts // campaigns
    with _unguarded(made.store) as connection:
        for number, tenant in enumerate(tenants, 1):
            connection.execute(
                "INSERT INTO agent (id, tenant, name, kind, context, exten, priority, created_at) "
                "VALUES (?, ?, 'agent', 'dialplan', 'dialer', 'answered', 1, 0)",
                (number, tenant),
            )
        for number in range(campaigns):
            place = number % len(tenants)
            campaign_id = CAMPAIGN + number
            _add_campaign(connection, campaign_id, tenants[place], CampaignStatus.ACTIVE, settings, place + 1)
            _add_contacts(connection, campaign_id, each, PENDING, 10 + number * each)
    return made


@contextmanager
def _unguarded(path: Path) -> Iterator[sqlite3.Connection]:
    """Fill a store. Nobody reads it before it is whole, and what a failing machine leaves half made is made anew."""
    connection = sqlite3.connect(path)
    connection.executescript("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -400000")
    with connection:
        yield connection
    connection.execute("PRAGMA journal_mode = WAL")
    connection.close()
    # Or the first flush of what is measured flushes all of this, too: a hundred milliseconds of it.
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _add_campaign(
    connection: sqlite3.Connection,
    campaign_id: int,
    tenant: str,
    status: CampaignStatus,
    settings: CampaignSettings,
    agent_id: int | None = None,
) -> None:
    connection.execute(
        "INSERT INTO campaign (id, tenant, name, agent_id, status, settings, keep_open, created_at, visible) "
        "VALUES (?, ?, 'list', ?, ?, ?, 1, ?, 1)",
        (campaign_id, tenant, agent_id, status.value, settings.model_dump_json(), to_micros(_clock.wall())),
    )
    connection.execute("INSERT INTO campaign_stats (campaign_id) VALUES (?)", (campaign_id,))


def _add_contacts(connection: sqlite3.Connection, campaign_id: int, rows: int, kinds: Kinds, first: int) -> None:
    """Give a campaign so many contacts, with ids from ``first`` on, and its counters; it must have none yet."""
    now = to_micros(_clock.wall())
    indexes = connection.execute(
        "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND tbl_name = 'contact' AND sql IS NOT NULL"
    ).fetchall()
    large = rows > 100_000
    for name, _ in indexes if large else ():
        connection.execute(f"DROP INDEX {name}")
    connection.execute("CREATE TEMP TABLE kind (number INTEGER PRIMARY KEY, status, outcome, rank, due_at)")
    connection.executemany(
        "INSERT INTO kind VALUES (?, ?, ?, ?, ?)",
        [(number, *kind[:3], now + kind[3] * 1_000_000 if kind[3] else 0) for number, kind in enumerate(kinds)],
    )
    connection.execute(
        "WITH RECURSIVE counted(number) AS "
        "(SELECT 0 UNION ALL SELECT number + 1 FROM counted WHERE number + 1 < :rows) "
        "INSERT INTO contact (id, campaign_id, list_id, phone_number, first_name, priority, rank, attributes, "
        "status, attempts, callee_tries, mishaps, outcomes, last_outcome, due_at, updated_at) "
        "SELECT :first + counted.number, :campaign, 0, '+1' || (:number + counted.number), 'Name ' || counted.number, "
        "rank, rank, '', status, outcome IS NOT NULL, outcome IS NOT NULL, 0, '', outcome, due_at, :now "
        "FROM counted JOIN kind ON kind.number = counted.number % :kinds",
        {
            "rows": rows,
            "first": first,
            "campaign": campaign_id,
            "number": FIRST_NUMBER,
            "now": now,
            "kinds": len(kinds),
        },
    )
    connection.execute("DROP TABLE kind")
    for _, statement in indexes if large else ():
        connection.execute(statement)
    connection.execute(
        "INSERT INTO contact_number SELECT campaign_id, phone_number, id FROM contact WHERE campaign_id = ?",
        (campaign_id,),
    )
    connection.execute(
        "INSERT INTO contact_outcome SELECT campaign_id, last_outcome, status, COUNT(*) FROM contact "
        "WHERE campaign_id = ? AND last_outcome IS NOT NULL GROUP BY 2, 3",
        (campaign_id,),
    )
    for status in ContactStatus:
        connection.execute(
            f"UPDATE campaign_stats SET {status.value} = "
            "(SELECT COUNT(*) FROM contact WHERE campaign_id = :id AND status = :status) WHERE campaign_id = :id",
            {"id": campaign_id, "status": status.value},
        )
