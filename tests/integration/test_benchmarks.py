"""The benchmarks that need no Asterisk, in short, so that they cannot rot: they ran and told their figures."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from bench import __main__ as benchmarks
from bench.measure import Figure, Result
from tests.integration.daemon import Stock


@pytest.mark.slow
@pytest.mark.parametrize("name", ["imports", "lists"])
async def test_they_run(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.imports.LISTED", 300)
    monkeypatch.setattr("bench.imports.ALONE_SECONDS", 2.0)
    (tmp_path / "stock").mkdir()
    (tmp_path / name).mkdir()
    wanted = argparse.Namespace(rows=1500, rounds=1)
    run = {"imports": benchmarks._imports, "lists": benchmarks._lists}[name]
    stock = Stock.make(tmp_path / "stock")
    told: list[Result | Figure] = [each async for each in run(wanted, tmp_path / name, stock)]
    assert len(told) >= 8
    for each in told:
        assert each.lines()
        if isinstance(each, Result):
            assert each.ratio > 0
