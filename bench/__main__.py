"""Run all benchmarks and print their ratios: ``make bench``. Bounded in time; asserts nothing about speed."""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from bench import calls, imports
from bench.measure import Result
from dialerd import __version__
from tests.integration.daemon import Stock, TrunkLimits
from tests.integration.house import house
from tests.lab.lab import Lab


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--calls", type=int, default=600, help="calls per round")
    parser.add_argument("--offered", type=float, default=60.0, help="calls per second offered")
    parser.add_argument("--rows", type=int, default=50_000, help="rows of the imported list")
    parser.add_argument("--rounds", type=int, default=2, help="rounds of each pair")
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    asyncio.run(_run(parser.parse_args()))


async def _run(wanted: argparse.Namespace) -> None:
    results: list[Result] = []
    with tempfile.TemporaryDirectory() as name, Lab("22") as lab:
        folder = Path(name)
        stock_folder, daemon_folder = folder / "stock", folder / "daemon"
        stock_folder.mkdir()
        daemon_folder.mkdir()
        print(f"dialerd {__version__}, Python {platform.python_version()}, {lab.versions()}", flush=True)
        limits = {"trunk": TrunkLimits(1000, 200.0)}
        async with house(lab, daemon_folder, Stock.make(stock_folder), limits=limits) as home:
            agent_id = await home.api.agent("answered")
            for benchmark in (
                calls.run(home, agent_id, wanted.calls, wanted.offered, wanted.rounds),
                imports.run(home, agent_id, folder, wanted.rows, wanted.rounds),
            ):
                result = await benchmark
                results.append(result)
                print("\n".join(result.lines()), flush=True)
    if wanted.json is not None:
        wanted.json.write_text(json.dumps([{**asdict(each), "ratio": each.ratio} for each in results], indent=2))
    sys.stdout.flush()


if __name__ == "__main__":
    main()
