"""Event streams to very many clients: what each is told, how late, and what it costs."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from bench.context import Bench, Found
from bench.measure import Figure, at_least, at_most
from bench.meters import cpu_seconds
from bench.peer import fast_peer, wired
from bench.simulated import Desk
from bench.wire import campaign_of
from dialerd.clock import SystemClock

_clock = SystemClock()
_SECONDS = 60.0
_EVENTS_A_CALL = 3
"""Originated, connected, completed: the peer's calls do not ring."""
_GUARD = 1.06
"""A limit is kept with the default cps_guard_ms to spare."""
_WARM_UP_SECONDS = 3.0

Report = Callable[[], Awaitable[dict[str, Any]]]


async def run(bench: Bench) -> Found:
    """Events to 1,000 clients at 100 events a second: how many in time, and what of a core it takes."""
    clients, events, seconds = bench.pick((1000, 100.0, 20.0), (5, 30.0, 2.0))
    rate = events / _EVENTS_A_CALL * _GUARD
    async with (
        fast_peer(seconds=1.0) as peer,
        wired(bench.folder, bench.stock, peer, channels=200, calls_per_second=rate) as desk,
    ):
        campaign = await campaign_of(desk, int(rate * (3 * seconds + 20)), 200)
        await desk.api.step(campaign, "start")
        await _clock.sleep(_WARM_UP_SECONDS)
        alone, _ = await _spent(desk, seconds)
        async with _readers(desk, campaign, clients) as report:
            await _clock.sleep(_WARM_UP_SECONDS)
            await report()
            spent, took = await _spent(desk, seconds)
            seen = await report()
    assert not seen["lost"], f"{seen['lost']} streams were closed"
    due = seen["events"] * clients
    yield Figure(
        "streams.in-time",
        f"events told within 250 ms to {clients:,} clients, {seen['events'] / took:.0f} events a second",
        100 * seen["in_time"] / due,
        "%",
        at_least(99),
        "counted by the clients, from the moment at which each happened",
        f"{seen['in_time']:,} of {due:,}, told in all {seen['told']:,}; latest after {seen['latest'] * 1000:.0f} ms",
    )
    yield Figure(
        "streams.core",
        "of a core, dialing included",
        spent,
        "%",
        at_most(35),
        "the daemon's processor time",
        f"dialing alone, before: {alone:.3g} %",
    )


async def _spent(desk: Desk, seconds: float) -> tuple[float, float]:
    """Percent of a core that the daemon takes for a while, and how long that really was."""
    begun, before = _clock.mono(), cpu_seconds(desk.daemon.pid)
    await _clock.sleep(seconds)
    took = _clock.mono() - begun
    return 100 * (cpu_seconds(desk.daemon.pid) - before) / took, took


@contextlib.asynccontextmanager
async def _readers(desk: Desk, campaign: str, clients: int) -> AsyncIterator[Report]:
    """The clients' process, all of its streams open; asks it what was told since it was last asked."""
    path = f"/api/v1/campaigns/{campaign}/events"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.stream_readers", "--port", str(desk.daemon.port), "--path", path),
        *("--clients", str(clients)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    reader, writer = process.stdout, process.stdin
    assert reader is not None
    assert writer is not None

    async def line() -> bytes:
        return await asyncio.wait_for(reader.readline(), _SECONDS)

    async def report() -> dict[str, Any]:
        writer.write(b"\n")
        return dict(json.loads(await line()))

    try:
        writer.write(f"{desk.daemon.key}\n".encode())
        assert await line() == b"open\n", "the streams did not open"
        yield report
    finally:
        writer.close()
        await process.wait()
