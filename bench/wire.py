"""What the daemon does at the wire, seen by a fast AMI peer: calls per second, freed slots, memory, processor time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from bench.context import Bench, Found
from bench.databases import on_postgres
from bench.imports import empty_campaign, upload, write_list
from bench.measure import Bound, Figure, at_least, at_most, share
from bench.meters import cpu_seconds, tree_mb
from bench.peer import FastPeer, Seen, fast_peer, wired
from bench.simulated import Desk
from dialerd.clock import SystemClock

_clock = SystemClock()
_FIRST = 5_000_000
_IDLE_SECONDS = 2.0
_FULL, _SHORT = (5000, 6.0, 40.0), (20, 0.3, 1.5)
"""Slots, seconds of a call, seconds measured."""


@dataclass(frozen=True, slots=True)
class _Work:
    """A while at a full house."""

    answered: int
    rate: float
    """Calls a second, by the mean time from an answer to that of the next call but as many as there are slots.

    Calls of equal length come in waves, and how many of them fall into a while says little: three into twenty seconds.
    """
    seconds: float
    processor: float
    """Seconds of a core that the daemon took."""
    grown_mb: float
    """Memory that the calls took beside the list."""
    seen: Seen


async def run(bench: Bench) -> Found:
    """Calls per second that the peer answers while 5,000 are up, what each costs us, and what it holds."""
    channels, lasts, measured = bench.pick(_FULL, _SHORT)
    async with fast_peer(seconds=lasts) as peer, wired(bench.folder, bench.stock, peer, channels=channels) as desk:
        await _clock.sleep(_IDLE_SECONDS)
        yield Figure(
            "memory.idle", "idle daemon with workers", await _weighed(desk), "MB", at_most(110), "PSS of its processes"
        )
        work = await _at_work(desk, peer, channels, lasts, measured)
    for figure in _speed(work, "wire", "every step durable", channels, lasts, at_least(800)):
        yield figure
    yield Figure(
        "memory.left",
        "memory at a full house, and what all that ended have left of theirs",
        work.grown_mb,
        "MB",
        None,
        "PSS of all processes above that with the list loaded",
        f"{work.seen.up:,} calls were up, {len(work.seen.hung_up):,} had ended",
    )


async def run_postgres(bench: Bench) -> Found:
    """The same calls per second with PostgreSQL on the same machine as the store."""
    channels, lasts, measured = bench.pick(_FULL, _SHORT)
    async with (
        on_postgres(bench) as (stock, store),
        fast_peer(seconds=lasts) as peer,
        wired(bench.folder, stock, peer, channels=channels, others=store) as desk,
    ):
        work = await _at_work(desk, peer, channels, lasts, measured)
    for figure in _speed(work, "wire.postgres", "PostgreSQL, every step durable", channels, lasts, None):
        yield figure


async def _at_work(desk: Desk, peer: FastPeer, channels: int, lasts: float, measured: float) -> _Work:
    """Fill all slots, and measure a while of it."""
    ramp = 1.5 * lasts
    rows = int(1.3 * channels / lasts * (ramp + measured))
    campaign = await campaign_of(desk, rows, channels)
    loaded = await _weighed(desk)
    await desk.api.step(campaign, "start")
    await _clock.sleep(ramp)
    begun, spent = _clock.mono(), cpu_seconds(desk.daemon.pid)
    await _clock.sleep(measured)
    ended, spent = _clock.mono(), cpu_seconds(desk.daemon.pid) - spent
    seen, held = await peer.seen(), await _weighed(desk)
    _lawful(seen, channels)
    assert len(seen.ordered) < rows, "the list was too short"
    answered = sum(begun <= at < ended for at in seen.answered)
    pairs = zip(seen.answered, seen.answered[channels:], strict=False)
    turns = [later - first for first, later in pairs if begun <= first and later < ended]
    return _Work(answered, channels / fmean(turns), ended - begun, spent, held - loaded, seen)


def _speed(
    work: _Work, key: str, store: str, channels: int, lasts: float, must: Bound | None
) -> tuple[Figure, Figure, Figure]:
    return (
        Figure(
            f"{key}.calls",
            f"calls a second against a fast AMI peer, calls of {lasts:g} s, {channels:,} slots, {store}",
            work.rate,
            "/s",
            must,
            "answers at the peer, by the mean time between two in one slot",
            f"{work.seen.most:,} up there at most; the slots allow {channels / lasts:.0f} of it",
        ),
        Figure(
            f"{key}.core",
            f"of a core, at that rate, {store}",
            100 * work.processor / work.seconds,
            "%",
            None,
            "the daemon alone",
        ),
        Figure(
            f"{key}.cost",
            f"our processor time for such a call, {store}",
            1000 * work.processor / max(1, work.answered),
            "ms",
        ),
    )


async def run_freed(bench: Bench) -> Found:
    """From a slot that is freed at the peer to the next Originate there; and again beside an import."""
    slots, rows, measured = bench.pick((100, 400_000, 20.0), (10, 2000, 1.0))
    async with (
        fast_peer(seconds=1.0, spread=0.5) as peer,
        wired(bench.folder, bench.stock, peer, channels=slots) as desk,
    ):
        campaign = await campaign_of(desk, slots * 200, slots)
        table = desk.folder / "beside.csv"
        write_list(table, rows)
        target = await empty_campaign(desk)
        await desk.api.step(campaign, "start")
        await _clock.sleep(3.0)
        begun = _clock.mono()
        await _clock.sleep(measured)
        alone = _clock.mono()
        ended = await _imported(desk, target, table, rows, peer, slots)
        seen = await _settled(peer)
    _lawful(seen, slots)
    for key, name, since, until, wanted in (
        ("wire.freed", "slot freed to the next Originate on the wire", begun, alone, 25),
        ("wire.freed.import", f"the same during an import of {rows:,} rows", alone, ended, 50),
    ):
        empty = _empty(seen, slots, since, until)
        assert empty, "no slot was freed"
        half, most = 1000 * share(empty, 0.5), 1000 * max(empty)
        yield Figure(
            key,
            f"{name}, p99",
            1000 * share(empty, 0.99),
            "ms",
            at_most(wanted),
            "both seen at the peer",
            f"p50 {half:.3g}, most {most:.3g}; {len(empty) / (until - since):.0f} a second",
        )


async def _imported(desk: Desk, target: str, table: Path, rows: int, peer: FastPeer, freed: int) -> float:
    """Import until so many slots were freed meanwhile, which a short list alone may be too short for; tells the end."""
    before = len((await peer.seen()).hung_up)
    while True:
        await upload(desk, target, table, rows)
        ended = _clock.mono()
        if len((await peer.seen()).hung_up) >= before + freed:
            return ended
        target = await empty_campaign(desk)


async def _settled(peer: FastPeer) -> Seen:
    """What was seen, once the slots that were freed last had time to be filled."""
    await _clock.sleep(1.0)
    return await peer.seen()


def _lawful(seen: Seen, channels: int) -> None:
    assert seen.twice == 0, "a call was ordered twice"
    assert not seen.unknown, f"the peer does not know {seen.unknown}"
    assert seen.most <= channels, f"{seen.most} calls were up on {channels} slots"


def _empty(seen: Seen, slots: int, since: float, until: float) -> Sequence[float]:
    """How long each slot that was freed in a while stayed empty: the n-th hangup makes room for order n + slots."""
    pairs = zip(seen.hung_up, seen.ordered[slots:], strict=False)
    return [ordered - freed for freed, ordered in pairs if since <= freed < until]


async def _weighed(desk: Desk) -> float:
    return await asyncio.to_thread(tree_mb, desk.daemon.pid)


async def campaign_of(desk: Desk, rows: int, slots: int) -> str:
    """Make a campaign with a list of so many contacts, and so many slots; returns its id."""
    table = desk.folder / "list.csv"
    write_list(table, rows, first=_FIRST)
    campaign_id = await empty_campaign(desk, concurrent_calls=slots)
    await upload(desk, campaign_id, table, rows)
    return campaign_id
