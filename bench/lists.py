"""Lists of a million contacts at the store: pages, claims, stops and deletions."""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
import statistics
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from bench.measure import Figure, Result, abab
from dialerd.clock import SystemClock
from dialerd.core.model import CampaignStatus, ContactStatus
from dialerd.core.outcome import Outcome
from dialerd.core.settings import CampaignSettings
from dialerd.dispatch.clearing import Clearing
from dialerd.store import campaigns, contact_due, contact_list
from dialerd.store.contact_list import Filter
from dialerd.store.db import Store
from dialerd.store.migrate import migrate
from dialerd.store.schema import to_micros
from dialerd.store.tx import Tx
from dialerd.telemetry.metrics import Metrics

_clock = SystemClock()
_TIMES = 15
_CAMPAIGN = 1
_FILTERS = (
    *(Filter(), Filter(status=ContactStatus.PENDING), Filter(status=ContactStatus.COMPLETED)),
    *(Filter(outcome=Outcome.BUSY), Filter(ContactStatus.PENDING, Outcome.BUSY)),
)


async def pages(folder: Path, rows: int) -> list[Figure]:
    """How long a page of 100 takes at the store with its total: the slowest filter's median."""
    async with _filled(folder, rows) as store:
        slowest = dict.fromkeys(("first page", "last page", "page by cursor", "page in the middle by offset"), 0.0)
        for chosen in _FILTERS:
            async with store.read() as conn:
                total = await contact_list.total(conn, _CAMPAIGN, chosen)
                middle = await contact_list.page(conn, _CAMPAIGN, chosen, limit=1, offset=total // 2, total=total)
            places: tuple[dict[str, Any], ...] = (
                {},
                {"offset": total - 100},
                {"after": middle[0].id},
                {"offset": total // 2},
            )
            for name, place in zip(slowest, places, strict=True):
                slowest[name] = max(slowest[name], await _median(partial(_page, store, chosen, place)))
        number = await _median(lambda: _page(store, Filter(search="+1202055"), {}))
        every = await _median(lambda: _page(store, Filter(search="+1202"), {}))
        text = await _median(lambda: _page(store, Filter(search="nobody of this name"), {}), 3)
    return [
        *(
            Figure(
                f"{name} of {rows:,} contacts, slowest filter",
                each * 1000,
                "ms",
                "< 20" if "middle" not in name else "",
            )
            for name, each in slowest.items()
        ),
        Figure(
            f"search of {rows:,} contacts for a number's beginning that a hundredth has", number * 1000, "ms", "< 20"
        ),
        Figure("the same for one that all have", every * 1000, "ms"),
        Figure(f"search of {rows:,} contacts for a text that none has", text * 1000, "ms"),
    ]


async def claims(folder: Path, rows: int, rounds: int) -> Result:
    """Claim the next 100, where many of a high priority are not due yet: of many contacts, and of few."""
    async with _filled(folder, rows) as many, _filled(folder, 10_000) as few:

        async def rate(store: Store) -> float:
            async def claim() -> None:
                async with store.read() as conn:
                    due, _ = await contact_due.claim(conn, _CAMPAIGN, _clock.wall(), 100, frozenset())
                assert len(due) == 100

            return 1 / await _median(claim, 50)

        return await abab(
            f"claim of the next 100 of {rows:,}",
            "claims/s",
            "the same of 10,000",
            lambda: rate(many),
            lambda: rate(few),
            rounds,
        )


async def stop_and_delete(folder: Path, rows: int) -> list[Figure]:
    """How long each step of a stop and of a deletion holds the writer, and how long a small commit beside it takes."""
    figures = []
    async with _filled(folder, rows, pending=True) as store:
        clearing = Clearing(store, _clock)
        works: dict[str, Callable[[], Awaitable[None]]] = {
            "stop": partial(clearing.cancel_pending, _CAMPAIGN, "stopped"),
            "delete": partial(clearing.remove_campaign, _CAMPAIGN),
        }
        for name, work in works.items():
            store.held.clear()
            beside: list[float] = []
            dialing = asyncio.create_task(_small_commits(store, beside))
            begun = _clock.mono()
            await work()
            seconds = _clock.mono() - begun
            dialing.cancel()
            figures += [
                Figure(f"{name} of {rows:,} contacts", seconds, "s"),
                Figure(f"{name}: a step holds the writer, median", statistics.median(store.held) * 1000, "ms"),
                Figure(f"{name}: p99", _share(store.held, 0.99) * 1000, "ms", "< 50"),
                Figure(f"{name}: longest", max(store.held) * 1000, "ms", "< 50"),
                Figure(f"{name}: a commit of dialing beside it, p99", _share(beside, 0.99) * 1000, "ms"),
            ]
    return figures


class _TimedStore(Store):
    """Notes how long each operation held the writer, its commit included."""

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


@asynccontextmanager
async def _filled(folder: Path, rows: int, *, pending: bool = False) -> AsyncIterator[_TimedStore]:
    path = folder / f"lists-{_clock.number()}.db"
    await asyncio.to_thread(_fill, path, rows, pending)
    store = _TimedStore(f"sqlite:///{path}", _clock, Metrics())
    await store.open()
    try:
        yield store
    finally:
        await store.close()
        for end in ("", "-wal", "-shm"):
            path.with_name(path.name + end).unlink(missing_ok=True)


def _fill(path: Path, rows: int, pending: bool) -> None:
    """A list in the middle of its way: some due, many of high priority waiting, the others called."""
    migrate(f"sqlite:///{path}")
    now = to_micros(_clock.wall())
    kinds: tuple[tuple[str, str | None, int, int], ...] = (
        ("pending", None, 0, 0),
        ("pending", "busy", 90, now + 3_600_000_000),
        ("completed", "answered", 0, 0),
        ("failed", "busy", 0, 0),
        ("cancelled", None, 0, 0),
    )
    if pending:
        kinds = kinds[:1]

    def made() -> Iterator[tuple[object, ...]]:
        for number, (status, outcome, rank, due_at) in zip(range(rows), itertools.cycle(kinds), strict=False):
            yield 10 + number, f"+1{2_020_000_000 + number}", f"Name {number}", rank, rank, status, outcome, due_at, now

    connection = sqlite3.connect(path)
    with connection:
        connection.execute(
            "INSERT INTO campaign (id, tenant, name, status, settings, keep_open, created_at, visible) "
            "VALUES (?, 'one', 'list', ?, ?, 1, ?, 1)",
            (_CAMPAIGN, CampaignStatus.PAUSED.value, CampaignSettings().model_dump_json(), now),
        )
        connection.executemany(
            "INSERT INTO contact (id, campaign_id, list_id, phone_number, first_name, priority, rank, attributes, "
            "status, attempts, callee_tries, mishaps, outcomes, last_outcome, due_at, updated_at) "
            "VALUES (?, 1, 0, ?, ?, ?, ?, '', ?, 1, 1, 0, '', ?, ?, ?)",
            made(),
        )
        connection.execute("INSERT INTO contact_number SELECT campaign_id, phone_number, id FROM contact")
        connection.execute(
            "INSERT INTO contact_outcome SELECT 1, last_outcome, status, COUNT(*) FROM contact "
            "WHERE last_outcome IS NOT NULL GROUP BY 2, 3"
        )
        connection.execute("INSERT INTO campaign_stats (campaign_id) VALUES (1)")
        for status in ContactStatus:
            counted = connection.execute("SELECT COUNT(*) FROM contact WHERE status = ?", (status.value,)).fetchone()
            connection.execute(f"UPDATE campaign_stats SET {status.value} = ?", counted)  # noqa: S608 - our own names
    connection.close()


async def _page(store: Store, chosen: Filter, place: dict[str, Any]) -> None:
    async with store.read() as conn:
        total = await contact_list.total(conn, _CAMPAIGN, chosen)
        found = await contact_list.page(conn, _CAMPAIGN, chosen, limit=100, total=total, **place)
    assert len(found) == min(100, total), (chosen, place)


async def _small_commits(store: _TimedStore, seconds: list[float]) -> None:
    async def note(tx: Tx) -> None:
        await campaigns.set_status(tx, _CAMPAIGN, CampaignStatus.CANCELLED)

    while True:
        begun = _clock.mono()
        await store.write(note)
        seconds.append(_clock.mono() - begun)
        await _clock.sleep(0.005)


async def _median(work: Callable[[], Awaitable[object]], times: int = _TIMES) -> float:
    taken = []
    for _ in range(times):
        begun = _clock.mono()
        await work()
        taken.append(_clock.mono() - begun)
    return statistics.median(taken)


def _share(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]
