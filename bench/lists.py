"""Lists of a million contacts at the store: pages, stops and deletions; and claims, of ten millions."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from bench.context import Bench, Found
from bench.filled import CAMPAIGN, PENDING, TimedStore, filled, room_for
from bench.measure import Figure, Ratio, abab, at_most, share, spread
from dialerd.clock import SystemClock
from dialerd.core.model import CampaignStatus, ContactStatus
from dialerd.core.outcome import Outcome
from dialerd.dispatch.clearing import Clearing
from dialerd.store import campaigns, contact_due, contact_list
from dialerd.store.contact_list import Filter
from dialerd.store.db import Store
from dialerd.store.schema import contact
from dialerd.store.tx import Tx

_clock = SystemClock()
_TIMES = 15
_ROWS = 1_000_000
_FILTERS = (
    *(Filter(), Filter(status=ContactStatus.PENDING), Filter(status=ContactStatus.COMPLETED)),
    *(Filter(outcome=Outcome.BUSY), Filter(ContactStatus.PENDING, Outcome.BUSY)),
)
_PLACES = ("first page", "last page", "page by cursor", "page in the middle by offset")


async def run(bench: Bench) -> Found:
    """Pages of a long list, and searches in it."""
    for figure in await pages(bench.folder, bench.pick(_ROWS, 2000)):
        yield figure


async def run_clearing(bench: Bench) -> Found:
    """What the stop and the deletion of a long list do to everybody else."""
    for figure in await stop_and_delete(bench.folder, bench.pick(_ROWS, 2000)):
        yield figure


async def pages(folder: Path, rows: int) -> list[Figure]:
    """How long a page of 100 takes at the store with its total: the slowest filter's median."""
    slowest = dict.fromkeys(_PLACES, 0.0)
    async with filled(folder, rows) as store:
        for chosen in _FILTERS:
            async with store.read() as conn:
                total = await contact_list.total(conn, CAMPAIGN, chosen)
                middle = await contact_list.page(conn, CAMPAIGN, chosen, limit=1, offset=total // 2, total=total)
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
                f"lists.{name.replace(' ', '-')}",
                f"{name} of {rows:,} contacts at the store, with its total, slowest filter's median",
                each * 1000,
                "ms",
                None if "middle" in name else at_most(20),
            )
            for name, each in slowest.items()
        ),
        Figure(
            "lists.number",
            f"search of {rows:,} contacts for a number's beginning that a hundredth has",
            number * 1000,
            "ms",
            at_most(20),
        ),
        Figure("lists.number-of-all", "the same for one that all have", every * 1000, "ms"),
        Figure("lists.text", f"search of {rows:,} contacts for a text that none has", text * 1000, "ms"),
    ]


async def run_claims(bench: Bench) -> Found:
    """Claims of the next 100, where many of a high priority are not due yet: of many contacts, and of few."""
    rows, few_rows = bench.pick(10_000_000, 20_000), bench.pick(10_000, 2_000)
    begun = _clock.mono()
    async with (
        filled(room_for(rows, bench.folder), rows) as many,
        filled(room_for(rows, bench.folder), few_rows) as few,
    ):
        made = _clock.mono() - begun
        times = bench.pick(15, 3)
        yield Ratio(
            "claims",
            f"time of a claim of the next 100 of {rows:,} contacts, many of high priority not yet due",
            "ms",
            *await abab(partial(_claims, many, times), partial(_claims, few, times), 2 * bench.rounds),
            f"the same of {few_rows:,}",
            at_most(1.5),
        )
        yield Figure("claims.made", f"a store of {rows:,} contacts made by SQL", made, "s")


async def _claims(store: Store, times: int) -> float:
    """Milliseconds of a claim, the median. Each claims others than the last: who was claimed is marked meanwhile."""
    taken = []
    for _ in range(times):
        begun = _clock.mono()
        async with store.read() as conn:
            due, _ = await contact_due.claim(conn, CAMPAIGN, _clock.wall(), 100, frozenset())
        taken.append((_clock.mono() - begun) * 1000)
        assert len(due) == 100
        await _mark(store, contact.c.id.in_([each.id for each in due]), ContactStatus.ORIGINATED)
    called = sa.and_(contact.c.campaign_id == CAMPAIGN, contact.c.status == ContactStatus.ORIGINATED)
    await _mark(store, called, ContactStatus.PENDING)
    return statistics.median(taken)


async def _mark(store: Store, chosen: sa.ColumnElement[bool], status: ContactStatus) -> None:
    async def mark(tx: Tx) -> None:
        await tx.conn.execute(contact.update().where(chosen).values(status=status))

    await store.write(mark)


async def stop_and_delete(folder: Path, rows: int) -> list[Figure]:
    """How long each step of a stop and of a deletion holds the writer, and how long a small commit beside it takes."""
    figures = []
    async with filled(folder, rows, PENDING) as store:
        clearing = Clearing(store, _clock)
        works: dict[str, Callable[[], Awaitable[None]]] = {
            "stop": partial(clearing.cancel_pending, CAMPAIGN, "stopped"),
            "delete": partial(clearing.remove_campaign, CAMPAIGN),
        }
        for name, work in works.items():
            store.held.clear()
            beside: list[float] = []
            dialing = asyncio.create_task(_small_commits(store, beside))
            begun = _clock.mono()
            try:
                await work()
            finally:
                dialing.cancel()
                await asyncio.gather(dialing, return_exceptions=True)
            seconds = _clock.mono() - begun
            median, p99 = (share(store.held, part) * 1000 for part in (0.5, 0.99))
            figures += [
                Figure(
                    f"clearing.{name}",
                    f"{name} of {rows:,} contacts: the longest that a step holds the writer",
                    max(store.held) * 1000,
                    "ms",
                    at_most(50),
                    made_of=f"median {median:.3g}, p99 {p99:.3g} ms of {len(store.held):,} steps in {seconds:.3g} s",
                ),
                Figure(
                    f"clearing.{name}.beside",
                    f"a commit of one row beside that {name}, p99",
                    share(beside, 0.99) * 1000,
                    "ms",
                    made_of=spread([each * 1000 for each in beside]) + " ms",
                ),
            ]
    return figures


async def _page(store: Store, chosen: Filter, place: dict[str, Any]) -> None:
    async with store.read() as conn:
        total = await contact_list.total(conn, CAMPAIGN, chosen)
        found = await contact_list.page(conn, CAMPAIGN, chosen, limit=100, total=total, **place)
    assert len(found) == min(100, total), (chosen, place)


async def _small_commits(store: TimedStore, seconds: list[float]) -> None:
    async def note(tx: Tx) -> None:
        await campaigns.set_status(tx, CAMPAIGN, CampaignStatus.CANCELLED)

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
