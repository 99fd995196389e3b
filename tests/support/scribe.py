"""``python -m tests.support.scribe URL``: a process that writes calls and their steps, to be killed while it does.

It says on its standard output what the store has confirmed, a line each, after it was confirmed: whoever kills it knows
what must be found.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from dialerd.clock import SystemClock
from dialerd.core.model import CallStatus, Contact, ContactStatus
from dialerd.core.outcome import Outcome
from dialerd.store.db import Store
from dialerd.store.records import EventKind
from dialerd.telemetry.metrics import Metrics
from tests.support.records import a_step, an_originating, due

WRITERS = 8
"""Calls at once, so that commits are of groups."""


def say(word: str, call_id: str) -> None:
    """Tell whoever reads that a step stands."""
    print(word, call_id, flush=True)


async def call(store: Store, contact: Contact) -> None:
    """Write one call from its originate to its end, each step once the one before stands."""
    now = store.clock.wall
    made = an_originating(contact, store.clock.uuid(), now())
    if not await store.record([made], []):
        return
    say("originated", made.call.id)
    rings: dict[str, Any] = {"status": CallStatus.RINGING, "ringing_at": now()}
    await store.record([], [a_step(made, EventKind.RINGING, ContactStatus.ORIGINATED, now(), **rings)])
    say("ringing", made.call.id)
    ended: dict[str, Any] = {"status": CallStatus.ENDED, "outcome": Outcome.BUSY, "ended_at": now()}
    await store.record([], [a_step(made, EventKind.FAILED, ContactStatus.FAILED, now(), **ended)])
    say("failed", made.call.id)


async def main(url: str) -> None:
    """Call whoever is due until nobody is."""
    store = Store(url, SystemClock(), Metrics())
    await store.open()
    say("open", "-")
    queue = asyncio.Queue[Contact]()
    for contact in await due(store, 10_000):
        queue.put_nowait(contact)

    async def write() -> None:
        while not queue.empty():
            await call(store, queue.get_nowait())

    async with asyncio.TaskGroup() as tasks:
        for _ in range(WRITERS):
            tasks.create_task(write())
    await store.close()
    say("done", "-")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
