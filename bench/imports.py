"""Import of a CSV over HTTP, against a bare script that does the same without a daemon; and what it does to others."""

from __future__ import annotations

import asyncio
import csv
import random  # noqa: TID251 - a seeded shuffle, as a list of customers is in no order of numbers
import sqlite3
from collections.abc import Sequence
from pathlib import Path

import aiohttp
import phonenumbers

from bench.context import Bench, Found
from bench.measure import Figure, Ratio, abab, at_least, at_most
from bench.meters import metered
from bench.simulated import Desk, simulated
from dialerd.clock import SystemClock

_clock = SystemClock()
_SECONDS = 300.0
ROWS = 1_000_000
DIALED = 50.0
"""Calls per second of the campaign that dials meanwhile."""
LISTED = 20_000
"""Its contacts: more than are dialled while anybody measures."""
ALONE_SECONDS = 10.0


def write_list(path: Path, rows: int, *, first: int = 0, shuffled: bool = True) -> None:
    """Write a list of so many people."""
    numbers = list(range(first, first + rows))
    if shuffled:
        random.Random(1).shuffle(numbers)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("phone_number", "first_name", "city"))
        writer.writerows((f"+1{2_012_000_000 + number}", f"Name {number}", "Springfield") for number in numbers)


async def run(bench: Bench) -> Found:
    """Rows per second of an import, against a bare script; then what an import does to a daemon that dials."""
    rows = bench.pick(ROWS, 1500)
    async with simulated(bench.folder, bench.stock, calls_per_second=DIALED) as desk:
        yield await against_a_script(desk, rows, bench.rounds, shuffled=True)
        yield await against_a_script(desk, rows, 1, shuffled=False)
        for figure in await beside_dialing(desk, rows, bench.pick(LISTED, 300), bench.pick(ALONE_SECONDS, 1.0)):
            yield figure


async def against_a_script(desk: Desk, rows: int, rounds: int, *, shuffled: bool) -> Ratio:
    """Measure the seconds until all rows, their numbers checked, are durable and visible."""
    table = desk.folder / "import.csv"
    write_list(table, rows, shuffled=shuffled)

    async def ours() -> float:
        campaign_id = await empty_campaign(desk)
        begun = _clock.mono()
        await upload(desk, campaign_id, table, rows)
        return _clock.mono() - begun

    async def bare() -> float:
        return await asyncio.to_thread(_bare_import, table, desk.folder / f"bare-{_clock.number()}.db")

    key, order = ("import.shuffled", "in no order") if shuffled else ("import.sorted", "in the order of numbers")
    return Ratio(
        key,
        f"time of an import of {rows:,} rows over HTTP, {order}, numbers checked",
        "s",
        *await abab(ours, bare, rounds),
        "a bare script's: csv + phonenumbers + executemany in one process",
        at_most(1.2),
    )


async def beside_dialing(desk: Desk, rows: int, listed: int, alone_seconds: float) -> Sequence[Figure]:
    """Measure what an import does to the daemon, its answers and its dialing."""
    table = desk.folder / "beside.csv"
    write_list(table, rows)
    dialing = await dialing_campaign(desk, listed)
    target = await empty_campaign(desk)
    async with metered(desk, dialing, target) as alone:
        await _clock.sleep(alone_seconds)
    async with metered(desk, dialing, target) as meter:
        begun = _clock.mono()
        await upload(desk, target, table, rows)
        seconds = _clock.mono() - begun
    await desk.api.step(dialing, "stop")
    paced = min(meter.calls_per_second / alone.calls_per_second, 1.0) if alone.calls_per_second else 0.0
    return (
        Figure(
            "import.memory",
            f"memory of daemon and workers (PSS) during an import of {rows:,} rows, more than before",
            meter.grown_mb,
            "MB",
            at_most(100),
            made_of=f"{meter.before_mb:.0f} MB before",
        ),
        Figure(
            "import.get",
            "GET of a campaign and of its contacts during that import, p99",
            meter.answer_ms(0.99),
            "ms",
            at_most(50),
            f"{alone.answer_ms(0.99):.3g} ms without it",
            f"{len(meter.answers):,} answers",
        ),
        Figure(
            "import.dialing",
            "calls dialled during that import",
            paced,
            "×",
            at_least(0.98),
            "the rate without it",
            f"{meter.calls_per_second:.1f}/s beside {alone.calls_per_second:.1f}/s; limit {DIALED:g}/s less the guard",
        ),
        Figure("import.beside", "the import beside dialing", rows / seconds, "rows/s"),
    )


async def dialing_campaign(desk: Desk, rows: int) -> str:
    """Start a campaign that dials at a known rate for as long as anybody measures; returns its id."""
    table = desk.folder / "dialing.csv"
    write_list(table, rows, first=5_000_000)
    campaign_id = await empty_campaign(desk, max_calls_per_second=DIALED, concurrent_calls=1000)
    await upload(desk, campaign_id, table, rows)
    await desk.api.step(campaign_id, "start")
    await _clock.sleep(3.0)
    return campaign_id


async def upload(desk: Desk, campaign_id: str, table: Path, rows: int) -> None:
    """Upload a list, and see that all of it was added."""
    with table.open("rb") as body:
        url = f"{desk.daemon.url}/api/v1/campaigns/{campaign_id}/contacts"
        headers = {"Authorization": f"Bearer {desk.daemon.key}", "Content-Type": "text/csv"}
        timeout = aiohttp.ClientTimeout(total=_SECONDS)
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.post(url, data=body, headers=headers) as answer,
        ):
            report = await answer.json()
    assert report["added"] == rows, report


async def empty_campaign(desk: Desk, **settings: object) -> str:
    """Make a campaign without contacts."""
    made = await desk.api.ask(
        "POST", "/campaigns", json={"name": "import", "agent_id": desk.agent_id, "settings": settings}
    )
    return str(made["id"])


def _bare_import(table: Path, database: Path) -> float:
    begun = _clock.mono()
    connection = sqlite3.connect(database)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("CREATE TABLE contact (id INTEGER PRIMARY KEY, phone TEXT UNIQUE, name TEXT, city TEXT)")
    with table.open(newline="") as file, connection:
        connection.executemany(
            "INSERT INTO contact (phone, name, city) VALUES (?, ?, ?)",
            ((_normal(row["phone_number"]), row["first_name"], row["city"]) for row in csv.DictReader(file)),
        )
    connection.close()
    taken = _clock.mono() - begun
    for end in ("", "-wal", "-shm"):
        database.with_name(database.name + end).unlink(missing_ok=True)
    return taken


def _normal(text: str) -> str:
    number = phonenumbers.parse(text, None)
    if not phonenumbers.is_possible_number(number):
        raise ValueError(text)
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
