"""Runs benchmarks one after the other. One that fails is told as failed, and the others go on."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bench import host
from bench.context import Bench, Benchmark
from bench.measure import as_dict, line
from dialerd.clock import SystemClock
from tests.integration.daemon import Stock

Entry = dict[str, Any]
"""What is kept of one benchmark, as JSON."""

_clock = SystemClock()


async def run_all(
    chosen: Sequence[Benchmark], *, short: bool, rounds: int, keep: Callable[[str, Entry], None]
) -> list[str]:
    """Run them, and hand each one's entry over as soon as it is there; returns the names of those that failed."""
    at = host.commit()
    failed = []
    with tempfile.TemporaryDirectory(prefix="dialerd-bench-") as name:
        folder = Path(name)
        (folder / "stock").mkdir()
        stock = await asyncio.to_thread(Stock.make, folder / "stock")
        for benchmark in chosen:
            print(f"\n== {benchmark.name} (load {host.load():g})", flush=True)
            own = folder / benchmark.name
            own.mkdir()
            entry = await run_one(benchmark, Bench(own, stock, short, rounds))
            keep(benchmark.name, {"commit": at, **entry})
            if entry["error"]:
                failed.append(benchmark.name)
    return failed


async def run_one(benchmark: Benchmark, bench: Bench) -> Entry:
    """Run one within its deadline. Whatever it raises is its failure alone; what it had found until then is kept."""
    found: list[dict[str, Any]] = []
    error = ""
    begun, before = _clock.mono(), host.load()
    try:
        async with asyncio.timeout(benchmark.seconds), contextlib.aclosing(benchmark.run(bench)) as findings:
            async for each in findings:
                found.append(as_dict(each))
                print(line(each), flush=True)
        if not found:
            error = "it found nothing"
    except Exception as reason:
        error = f"{type(reason).__name__}: {reason}".splitlines()[0][:300]
        traceback.print_exc()
        print(f"{benchmark.name} FAILED: {error}", flush=True)
    return {
        "date": host.date(),
        "machine": {**host.machine(), "file system": host.filesystem(bench.folder), **bench.versions},
        "short": bench.short,
        "rounds": bench.rounds,
        "seconds": round(_clock.mono() - begun, 1),
        "load": [before, host.load()],
        "error": error,
        "found": found,
    }
