"""How soon a daemon dials again that finds a list of a million and hundreds of live calls."""

from __future__ import annotations

from pathlib import Path

from bench.context import Bench, Found
from bench.filled import dialing
from bench.house import running
from bench.measure import Figure, at_most, spread
from bench.peer import FastPeer, fast_peer, on_peer
from dialerd.clock import SystemClock

_CALL_SECONDS = 3600.0
_SECONDS = 60.0
_EVERY = 0.1
_clock = SystemClock()


async def run(bench: Bench) -> Found:
    """From exec to the first Originate at the PBX; the calls of the killed daemon live on there."""
    contacts, live = bench.pick((1_000_000, 500), (2000, 20))
    stock = dialing(bench.stock, bench.folder, contacts=contacts)
    channels = live
    async with fast_peer(seconds=_CALL_SECONDS) as peer:

        def write(store: Path, port: int) -> str:
            return on_peer(store, port, peer, channels=channels, calls_per_second=1000.0)

        taken = []
        async with running(bench.folder, stock, write) as (daemon, _):
            stock.store.unlink()
            for _ in range(bench.rounds + 1):
                # The slots are full of live calls; the next life has some more.
                up = await _orders(peer, channels)
                await daemon.kill()
                channels += 10
                begun = _clock.mono()
                await daemon.start()
                await _orders(peer, up + 1)
                taken.append((await peer.seen()).ordered[up] - begun)
            seen = await peer.seen()
            assert seen.twice == 0, "a call was ordered twice"
            assert seen.up == len(seen.ordered), "calls were hung up that live"
    yield Figure(
        "start",
        f"start with {contacts:,} contacts and {live} live calls: from exec to the first Originate at the PBX",
        max(taken),
        "s",
        at_most(3),
        made_of=f"{spread(taken)} s, after SIGKILL",
    )


async def _orders(peer: FastPeer, count: int) -> int:
    """Wait until so many Originates were seen; returns how many there are."""
    deadline = _clock.mono() + _SECONDS
    while (seen := len((await peer.seen()).ordered)) < count:
        if _clock.mono() > deadline:
            raise TimeoutError(f"{seen} of {count} Originates within {_SECONDS:g} s")
        await _clock.sleep(_EVERY)
    return seen
