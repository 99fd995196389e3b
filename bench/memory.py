"""What a call in flight takes of the daemon's memory: the slope between two numbers of calls that are up."""

from __future__ import annotations

import asyncio

from bench.context import Bench, Found
from bench.measure import Figure, at_most
from bench.meters import tree_mb
from bench.peer import FastPeer, fast_peer, wired
from bench.simulated import Desk
from bench.wire import campaign_of
from dialerd.clock import SystemClock

_clock = SystemClock()
_FULL, _SHORT = (1000, 5000, 180.0, 5.0), (10, 40, 60.0, 0.5)
"""Calls up first, and then; seconds that each lasts, which none must reach; seconds to settle before weighing."""
_LOOK = 0.2
_REPEATS = 2


async def run(bench: Bench) -> Found:
    """Calls that are up and none that has ended, at two numbers: what one more takes."""
    few, many, lasts, settling = bench.pick(_FULL, _SHORT)
    async with fast_peer(seconds=lasts) as peer, wired(bench.folder, bench.stock, peer, channels=many) as desk:
        campaign = await campaign_of(desk, _REPEATS * many, few)
        await desk.api.step(campaign, "start")
        at_few = await _weighed_at(desk, peer, few, lasts, settling)
        await desk.api.ask("PATCH", f"/campaigns/{campaign}", json={"settings": {"concurrent_calls": many}})
        at_many = await _weighed_at(desk, peer, many, lasts, settling)
        assert not (await peer.seen()).hung_up, "a call has ended before all were up"
    yield Figure(
        "memory.call",
        "memory for a call in flight",
        1024 * (at_many - at_few) / (many - few),
        "KB",
        at_most(6),
        "PSS of all processes, from the fewer to the more calls",
        f"{at_few:.1f} MB with {few:,} calls up, {at_many:.1f} MB with {many:,}; none had ended",
    )


async def _weighed_at(desk: Desk, peer: FastPeer, calls: int, deadline: float, settling: float) -> float:
    """Wait until so many calls are up, and the commits of them are over."""
    async with asyncio.timeout(deadline):
        while (await peer.seen()).up < calls:
            await _clock.sleep(_LOOK)
    await _clock.sleep(settling)
    return await asyncio.to_thread(tree_mb, desk.daemon.pid)
