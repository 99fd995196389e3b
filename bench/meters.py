"""What a daemon takes and gives while something is done to it: memory, answers, calls."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

from bench.measure import share
from bench.simulated import Desk
from dialerd.clock import SystemClock

_clock = SystemClock()
_EVERY = 0.05


@dataclass(slots=True)
class Meter:
    """Samples of a while."""

    before_mb: float = 0.0
    highest_mb: float = 0.0
    answers: list[float] = field(default_factory=list)
    """Seconds that each GET took."""
    calls: list[tuple[float, int]] = field(default_factory=list)
    """Calls placed by the dialing campaign, at moments (monotonic seconds)."""

    @property
    def grown_mb(self) -> float:
        """How much the daemon and its workers grew at most."""
        return self.highest_mb - self.before_mb

    def answer_ms(self, part: float) -> float:
        """The time within which this share of the GETs was answered."""
        return share(self.answers, part) * 1000

    @property
    def calls_per_second(self) -> float:
        """The rate at which the other campaign dialled."""
        (begun, first), (ended, last) = self.calls[0], self.calls[-1]
        return (last - first) / (ended - begun) if ended > begun else 0.0


@contextlib.asynccontextmanager
async def metered(desk: Desk, dialing: str, listed: str) -> AsyncIterator[Meter]:
    """Measure for as long as the block runs: a campaign that dials, and one whose contacts are listed."""
    meter = Meter(before_mb=tree_mb(desk.daemon.pid))
    tasks = [
        asyncio.create_task(_weigh(desk, meter)),
        asyncio.create_task(_ask(desk, meter, f"/campaigns/{dialing}")),
        asyncio.create_task(_ask(desk, meter, f"/campaigns/{listed}/contacts?limit=100")),
        asyncio.create_task(_count(desk, meter, dialing)),
    ]
    try:
        yield meter
    finally:
        await _sample(desk, meter, dialing)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def cpu_seconds(pid: int) -> float:
    """Seconds of a core that a process has taken so far, with ended threads and reaped children (proc(5))."""
    # The name stands in brackets and may hold anything; the fields after it do not.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(field) for field in fields[11:15]) / os.sysconf("SC_CLK_TCK")


def tree_mb(pid: int) -> float:
    """The proportional memory (PSS) of a process and all that descend from it, in MB."""
    total, waiting = 0.0, [pid]
    while waiting:
        each = waiting.pop()
        with contextlib.suppress(OSError):
            rollup = Path(f"/proc/{each}/smaps_rollup").read_text()
            total += next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:")) / 1024
            for children in Path(f"/proc/{each}/task").glob("*/children"):
                waiting += map(int, children.read_text().split())
    return total


async def _weigh(desk: Desk, meter: Meter) -> None:
    while True:
        meter.highest_mb = max(meter.highest_mb, await asyncio.to_thread(tree_mb, desk.daemon.pid))
        await _clock.sleep(4 * _EVERY)


async def _ask(desk: Desk, meter: Meter, path: str) -> None:
    while True:
        begun = _clock.mono()
        await desk.api.ask("GET", path)
        meter.answers.append(_clock.mono() - begun)
        await _clock.sleep(_EVERY)


async def _count(desk: Desk, meter: Meter, campaign_id: str) -> None:
    while True:
        await _sample(desk, meter, campaign_id)
        await _clock.sleep(1.0)


async def _sample(desk: Desk, meter: Meter, campaign_id: str) -> None:
    shown = await desk.api.show(campaign_id)
    meter.calls.append((_clock.mono(), shown["stats"]["calls_placed"]))
