"""Run the benchmarks and print their ratios: ``make bench``. Bounded in time; asserts nothing about speed."""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import sqlite3
import sys
import tempfile
from collections.abc import AsyncIterator
from dataclasses import asdict
from pathlib import Path

from bench import calls, imports, lists
from bench.measure import Figure, Result
from bench.simulated import simulated
from dialerd import __version__
from tests.integration.daemon import Stock, TrunkLimits
from tests.integration.house import house
from tests.lab.lab import Lab

_ALL = ("calls", "imports", "lists")


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--only", choices=_ALL, action="append", help="run this alone, or several; by default all")
    parser.add_argument("--calls", type=int, default=600, help="calls per round")
    parser.add_argument("--offered", type=float, default=60.0, help="calls per second offered")
    parser.add_argument("--rows", type=int, default=200_000, help="rows of the imported and of the listed contacts")
    parser.add_argument("--rounds", type=int, default=2, help="rounds of each pair")
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    asyncio.run(_run(parser.parse_args()))


async def _run(wanted: argparse.Namespace) -> None:
    chosen = wanted.only or list(_ALL)
    told: list[dict[str, object]] = []
    print(f"dialerd {__version__}, Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}", flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in ("stock", *_ALL):
            (folder / part).mkdir()
        stock = Stock.make(folder / "stock")
        for benchmark, run in (("calls", _calls), ("imports", _imports), ("lists", _lists)):
            if benchmark not in chosen:
                continue
            async for found in run(wanted, folder / benchmark, stock):
                told.append({**asdict(found), **({"ratio": found.ratio} if isinstance(found, Result) else {})})
                print("\n".join(found.lines()), flush=True)
    if wanted.json is not None:
        wanted.json.write_text(json.dumps(told, indent=2))
    sys.stdout.flush()


async def _calls(wanted: argparse.Namespace, folder: Path, stock: Stock) -> AsyncIterator[Result | Figure]:
    with Lab("22") as lab:
        print(lab.versions(), flush=True)
        async with house(lab, folder, stock, limits={"trunk": TrunkLimits(1000, 200.0)}) as home:
            yield await calls.run(home, await home.api.agent("answered"), wanted.calls, wanted.offered, wanted.rounds)


async def _imports(wanted: argparse.Namespace, folder: Path, stock: Stock) -> AsyncIterator[Result | Figure]:
    async with simulated(folder, stock, calls_per_second=imports.DIALED) as desk:
        for shuffled in (True, False):
            yield await imports.run(desk, wanted.rows, wanted.rounds, shuffled=shuffled)
        for figure in await imports.beside_dialing(desk, wanted.rows):
            yield figure


async def _lists(wanted: argparse.Namespace, folder: Path, stock: Stock) -> AsyncIterator[Result | Figure]:  # noqa: ARG001
    for figure in await lists.pages(folder, wanted.rows):
        yield figure
    yield await lists.claims(folder, wanted.rows, wanted.rounds)
    for figure in await lists.stop_and_delete(folder, wanted.rows):
        yield figure


if __name__ == "__main__":
    main()
