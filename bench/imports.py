"""Import of a CSV over HTTP, against a bare script that does the same without a daemon."""

from __future__ import annotations

import csv
import sqlite3
from pathlib import Path

import aiohttp
import phonenumbers

from bench.measure import Result, abab
from dialerd.clock import SystemClock
from tests.integration.client import Api
from tests.integration.house import House

_clock = SystemClock()


async def run(home: House, agent_id: str, folder: Path, rows: int, rounds: int) -> Result:
    """Measure rows per second, numbers checked, until the last is durable and visible."""
    table = folder / "import.csv"
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("phone_number", "first_name", "city"))
        writer.writerows((f"+1202{2_000_000 + index}", f"Name {index}", "Springfield") for index in range(rows))

    async def ours() -> float:
        campaign_id = await _empty_campaign(home.api, agent_id)
        begun = _clock.mono()
        with table.open("rb") as body:
            url = f"{home.daemon.url}/api/v1/campaigns/{campaign_id}/contacts"
            headers = {"Authorization": f"Bearer {home.daemon.key}", "Content-Type": "text/csv"}
            async with aiohttp.ClientSession() as session, session.post(url, data=body, headers=headers) as answer:
                report = await answer.json()
        assert report["added"] == rows, report
        return rows / (_clock.mono() - begun)

    async def bare() -> float:
        return rows / _bare_import(table, folder / f"bare-{_clock.number()}.db")

    return await abab("import of a CSV", "rows/s", "csv + phonenumbers + executemany", ours, bare, rounds)


async def _empty_campaign(api: Api, agent_id: str) -> str:
    made = await api.ask("POST", "/campaigns", json={"name": "import", "agent_id": agent_id})
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
    return _clock.mono() - begun


def _normal(text: str) -> str:
    number = phonenumbers.parse(text, None)
    if not phonenumbers.is_possible_number(number):
        raise ValueError(text)
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
