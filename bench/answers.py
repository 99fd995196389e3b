"""How soon the API answers while the daemon dials."""

from __future__ import annotations

from pathlib import Path

from bench.context import Bench, Found
from bench.filled import CAMPAIGN, dialing
from bench.house import running
from bench.measure import Figure, at_most, share
from bench.peer import fast_peer, on_peer
from dialerd.clock import SystemClock, show_id
from tests.integration.client import Api

_RATE = 200.0
_GUARD = 1.06
_EVERY = 0.02
_clock = SystemClock()


async def run(bench: Bench) -> Found:
    """GET of a campaign while it dials 200 calls/s, in turn with the same while it is paused."""
    seconds = bench.pick(10.0, 1.0)
    stock = dialing(bench.stock, bench.folder, contacts=bench.pick(30_000, 2000))
    async with fast_peer(seconds=1.0) as peer:

        def write(store: Path, port: int) -> str:
            return on_peer(store, port, peer, calls_per_second=_RATE * _GUARD)

        async with running(bench.folder, stock, write) as (_, api):
            stock.store.unlink()
            campaign_id = show_id(CAMPAIGN)
            busy: list[float] = []
            idle: list[float] = []
            calls = 0
            for _ in range(bench.rounds):
                await _clock.sleep(bench.pick(2.0, 0.5))
                before = len((await peer.seen()).ordered)
                busy += await _ask(api, campaign_id, seconds)
                calls += len((await peer.seen()).ordered) - before
                await api.step(campaign_id, "pause")
                await _clock.sleep(1.5)
                idle += await _ask(api, campaign_id, seconds)
                await api.step(campaign_id, "resume")
    yield Figure(
        "get",
        f"GET /campaigns/{{id}} while dialing {_RATE:g} calls/s, p99",
        share(busy, 0.99) * 1000,
        "ms",
        at_most(20),
        f"{share(idle, 0.99) * 1000:.3g} ms idle",
        f"median {share(busy, 0.5) * 1000:.3g} beside {share(idle, 0.5) * 1000:.3g} ms of {len(busy):,} answers each; "
        f"{calls / (seconds * bench.rounds):.0f} calls/s at the PBX",
    )


async def _ask(api: Api, campaign_id: str, seconds: float) -> list[float]:
    """Ask at an even pace; a late answer does not put off when the next question was due."""
    taken: list[float] = []
    begun = _clock.mono()
    while (due := begun + len(taken) * _EVERY) < begun + seconds:
        await _clock.sleep(max(0.0, due - _clock.mono()))
        asked = _clock.mono()
        await api.show(campaign_id)
        taken.append(_clock.mono() - asked)
    return taken
