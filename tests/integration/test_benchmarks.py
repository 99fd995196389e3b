"""Every benchmark in short, so that none can rot: that they run, count and can be put in the table; not how fast."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from bench import table
from bench.context import Bench, Benchmark
from bench.runner import run_one
from bench.suite import BENCHMARKS
from tests.integration.daemon import Stock

_MARKS = {False: pytest.mark.slow, True: pytest.mark.lab}


@pytest.mark.parametrize("benchmark", [pytest.param(each, id=each.name, marks=_MARKS[each.lab]) for each in BENCHMARKS])
async def test_it_runs(benchmark: Benchmark, tmp_path: Path, stock: Stock) -> None:
    entry = await run_one(benchmark, Bench(tmp_path, stock, short=True, rounds=1))
    assert not entry["error"], entry["error"]
    assert entry["found"]
    for found in entry["found"]:
        assert math.isfinite(found["value"]), found
        assert all(each > 0 for each in (*found.get("ours", ()), *found.get("costs", ()))), found


def test_their_names_are_given_once() -> None:
    names = [each.name for each in BENCHMARKS]
    assert len(set(names)) == len(names)


def test_the_table_is_made_of_the_figures_that_were_kept() -> None:
    here = Path(table.__file__).parent
    page = table.write(here / "results.json", here / "notes.toml", [each.name for each in BENCHMARKS])
    assert (here / "RESULTS.md").read_text() == page
