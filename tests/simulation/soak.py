"""Two simulated weeks of storms in one process: the laws hold each day, and memory stays flat.

``make soak``, or ``python -m tests.simulation.soak CALLS DAYS``. Figures are kept in docs/soak.md.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import sys
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from dialerd.pbx.simulated_pbx import Ledger
from tests.simulation import books
from tests.simulation.play import Game, left_to_the_collector
from tests.simulation.scenario import Scenario, busy
from tests.simulation.world import SimulatedClock, World
from tests.support.logs import silent_logs
from tests.support.virtual import run_virtual

WARM_UP_DAYS = 4
MOST_GROWTH = 0.05
CALLS_PER_CONTACT = 1.6
"""Measured, to make of the calls wanted a number of contacts."""
_DAY = 86_400.0


@dataclass(frozen=True)
class Day:
    """What a process holds at the end of a day, when nothing is in flight."""

    calls: int
    daemons: int
    untrimmed: int
    """Bytes that are resident, as the kernel counts them: with what the C library keeps of what was freed."""
    resident: int
    """The same without that."""
    objects: int
    """What Python's collector follows, with what was there before the first day and is left out of its work."""
    tasks: int
    files: int
    threads: int

    def __str__(self) -> str:
        return (
            f"{self.calls:>9,} calls {self.daemons:>5} daemons {self.resident / 2**20:>8.1f} MiB "
            f"(untrimmed {self.untrimmed / 2**20:.1f}) "
            f"{self.objects:>9,} objects {self.tasks:>3} tasks {self.files:>3} files {self.threads:>3} threads"
        )


def soak(calls: int, days: int) -> list[str]:
    """Dial so many calls in so many days; returns what was broken or has grown."""
    contacts = max(60, round(calls / days / CALLS_PER_CONTACT))
    scenario = busy("soak", contacts)
    with TemporaryDirectory(prefix="dialerd-soak-") as folder, silent_logs(), left_to_the_collector():
        return run_virtual(
            1,
            lambda clock: _soak(clock, scenario, days, Path(folder)),
            longest=None,
            turns=None,
            clock_type=SimulatedClock,
        )


async def _soak(clock: Any, scenario: Scenario, days: int, folder: Path) -> list[str]:
    world = World(clock, folder, scenario.seed, scenario.toml, scenario.callees)
    measured: list[Day] = []
    placed = 0
    with world.existing():
        for day in range(days):
            began = clock.mono()
            played = await Game(world, replace(scenario, seed=f"soak/{day}"), judge_apart=True).run()
            placed += played.calls
            if played.broken:
                return [f"day {day + 1}: {fault}" for fault in played.broken]
            books.archive(folder / "dialerd.db")
            world.sent.clear()
            world.told.clear()
            world.looked_up.clear()
            world.rung.clear()
            world.late.clear()
            for pbx in world.pbxs.values():
                pbx.ledger = Ledger(pbx.settings.ledger_size)
                pbx.fates.clear()
            # What the day's daemons held is let go of before anything is counted.
            del played
            await clock.sleep(max(0.0, began + _DAY - clock.mono()))
            measured.append(_measure(placed, world.generation))
            print(f"day {day + 1:>3}: {measured[-1]}", flush=True)
    return _grown(measured)


def _measure(calls: int, daemons: int) -> Day:
    gc.collect()
    untrimmed = _resident()
    ctypes.CDLL(None).malloc_trim(0)
    return Day(
        calls=calls,
        daemons=daemons,
        untrimmed=untrimmed,
        resident=_resident(),
        objects=gc.get_freeze_count() + len(gc.get_objects()),
        tasks=len(asyncio.all_tasks()),
        files=len(os.listdir("/proc/self/fd")),
        threads=threading.active_count(),
    )


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _grown(measured: list[Day]) -> list[str]:
    """What has grown since the warm-up by more than it may; tasks, files and threads may not at all."""
    if len(measured) <= WARM_UP_DAYS:
        return []
    warm, last = measured[WARM_UP_DAYS - 1], measured[-1]
    grown = []
    for name in ("resident", "objects"):
        was, now = getattr(warm, name), getattr(last, name)
        print(f"{name} since the warm-up: {now / was - 1:+.2%}")
        if now > was * (1 + MOST_GROWTH):
            grown.append(f"{name} grew from {was} to {now}")
    for name in ("tasks", "files", "threads"):
        was, now = getattr(warm, name), getattr(last, name)
        if now > was:
            grown.append(f"{name} grew from {was} to {now}")
    return grown


def main() -> int:
    """Soak; the exit status says whether all laws held and nothing grew."""
    calls, days = (int(argument) for argument in sys.argv[1:3])
    faults = soak(calls, days)
    for fault in faults:
        print(fault)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
