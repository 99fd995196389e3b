"""Import of a CSV over HTTP, against a bare script that does the same without a daemon; and what it does to others."""

from __future__ import annotations

import csv
import random  # noqa: TID251 - a seeded shuffle, as a list of customers is in no order of numbers
import sqlite3
from collections.abc import Sequence
from pathlib import Path

import aiohttp
import phonenumbers

from bench.measure import Figure, Result, abab
from bench.meters import metered
from bench.simulated import Desk
from dialerd.clock import SystemClock

_clock = SystemClock()
_SECONDS = 600.0
DIALED = 50.0
"""Calls per second of the campaign that dials meanwhile."""
LISTED = 60_000
"""Its contacts: more than are dialled while anybody measures."""
ALONE_SECONDS = 10.0


def write_list(path: Path, rows: int, *, first: int = 0, shuffled: bool = True) -> None:
    """Write a list of so many people."""
    numbers = list(range(first, first + rows))
    if shuffled:
        random.Random(1).shuffle(numbers)  # noqa: S311
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("phone_number", "first_name", "city"))
        writer.writerows((f"+1{2_012_000_000 + number}", f"Name {number}", "Springfield") for number in numbers)


async def run(desk: Desk, rows: int, rounds: int, *, shuffled: bool) -> Result:
    """Measure rows per second, numbers checked, until the last is durable and visible."""
    table = desk.folder / "import.csv"
    write_list(table, rows, shuffled=shuffled)

    async def ours() -> float:
        campaign_id = await empty_campaign(desk)
        begun = _clock.mono()
        await upload(desk, campaign_id, table, rows)
        return rows / (_clock.mono() - begun)

    async def bare() -> float:
        return rows / _bare_import(table, desk.folder / f"bare-{_clock.number()}.db")

    order = "in no order" if shuffled else "in the order of numbers"
    return await abab(
        f"import of {rows:,} rows {order}", "rows/s", "csv + phonenumbers + executemany", ours, bare, rounds
    )


async def beside_dialing(desk: Desk, rows: int) -> Sequence[Figure]:
    """Measure what an import does to the daemon, its answers and its dialing."""
    table = desk.folder / "beside.csv"
    write_list(table, rows)
    dialing = await dialing_campaign(desk, LISTED)
    target = await empty_campaign(desk)
    async with metered(desk, dialing, target) as alone:
        await _clock.sleep(ALONE_SECONDS)
    async with metered(desk, dialing, target) as meter:
        begun = _clock.mono()
        await upload(desk, target, table, rows)
        seconds = _clock.mono() - begun
    await desk.api.step(dialing, "stop")
    return (
        Figure("memory of daemon and workers during the import, more than before", meter.grown_mb, "MB", "< 100"),
        Figure("GET during the import, p99", meter.answer_ms(0.99), "ms", "< 50"),
        Figure("GET without it, p99", alone.answer_ms(0.99), "ms"),
        Figure("calls dialled during the import", meter.calls_per_second, "/s", f"{DIALED:g}"),
        Figure("calls dialled without it", alone.calls_per_second, "/s", f"{DIALED:g}"),
        Figure("the import beside dialing", rows / seconds, "rows/s"),
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
