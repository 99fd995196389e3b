"""A process that is killed while it writes, again and again: what was confirmed stands, and nothing half is there."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections import Counter, defaultdict
from pathlib import Path

import pytest
import sqlalchemy as sa

from dialerd.clock import SystemClock, stream
from dialerd.store import campaigns, schema
from dialerd.store.db import Store
from dialerd.store.migrate import migrate
from dialerd.telemetry.metrics import Metrics
from tests.support.records import a_row, add_campaign, add_contacts

CONTACTS = 4000
ROUNDS = 6
DEADLINE = 60.0
_WAY = ["originated", "ringing", "failed"]
WAYS = {"originated": _WAY[:1], "ringing": _WAY[:2], "ended": _WAY}
"""The events of a call by its status: all that lie before it, once each, in order."""
REACHED = {"originated": 0, "ringing": 1, "failed": 2, "ended": 2}


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Every kind of database in turn."""
    return f"sqlite:///{tmp_path}/dialerd.db" if request.param == "sqlite" else request.getfixturevalue("postgres_url")


@pytest.mark.slow
async def test_a_store_killed_in_the_middle_of_its_commits(url: str) -> None:
    """SIGKILL at random moments: most of a writer's time is inside commits, so most of them are."""
    migrate(url)
    clock, draw = SystemClock(), stream("killed")
    store = Store(url, clock, Metrics())
    await store.open()
    await add_campaign(store, keep_open=True)
    for first in range(1, CONTACTS + 1, 500):
        await add_contacts(store, *(a_row(number) for number in range(first, first + 500)))
    await store.close()
    confirmed: dict[str, str] = {}
    words: set[str] = set()
    for _ in range(ROUNDS):
        told = await _killed_after(url, int(1 + 150 * draw()), 0.02 * draw())
        confirmed |= dict(told)
        words |= {word for _, word in told}
        await _check(url, confirmed)
    assert len(confirmed) > ROUNDS
    assert words == {"originated", "ringing", "failed"}


async def _killed_after(url: str, lines: int, seconds: float) -> list[tuple[str, str]]:
    """Let a scribe write, and kill it some moment after it confirmed so many steps; returns what it confirmed."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.support.scribe", url, stdout=asyncio.subprocess.PIPE
    )
    assert child.stdout is not None
    told: list[bytes] = []
    async with asyncio.timeout(DEADLINE):
        while len(told) < lines + 1 and (line := await child.stdout.readline()):
            told.append(line)
        with contextlib.suppress(TimeoutError):
            # It goes on writing until this moment, which falls where it falls.
            async with asyncio.timeout(seconds):
                while line := await child.stdout.readline():
                    told.append(line)
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        told += (await child.stdout.read()).splitlines(keepends=True)
        await child.wait()
    words = [line.decode().split() for line in told if line.endswith(b"\n")]
    return [(call_id, word) for word, call_id in words if call_id != "-"]


async def _check(url: str, confirmed: dict[str, str]) -> None:
    store = Store(url, SystemClock(), Metrics())
    await store.open()
    try:
        async with store.read() as conn:
            calls = {row.id: row for row in await conn.execute(sa.select(schema.call))}
            contacts = {row.id: row for row in await conn.execute(sa.select(schema.contact))}
            told = list(await conn.execute(sa.select(schema.event).order_by(schema.event.c.seq)))
            stats = (await campaigns.stats(conn, [1]))[1]
    finally:
        await store.close()
    for call_id, word in confirmed.items():
        assert call_id in calls, f"{word} was confirmed, and the call is not there"
        assert REACHED[calls[call_id].status] >= REACHED[word], f"{word} was confirmed of {calls[call_id]}"
    kinds: defaultdict[str, list[str]] = defaultdict(list)
    for event in told:
        if event.call_id is not None:
            kinds[event.call_id].append(event.kind)
    for call in calls.values():
        assert kinds[call.id] == WAYS[call.status], f"half of {call} is there"
        contact = contacts[call.contact_id]
        assert contact.attempts == 1
        assert contact.status == ("failed" if call.status == "ended" else "originated")
    assert len(kinds) == len(calls)
    assert Counter(each.status for each in contacts.values()) == {
        status.value: count for status, count in stats.contacts.items() if count
    }
    assert stats.calls_placed == len(calls)
