"""The tests' own daemon tells at once what is wrong with it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.integration.daemon import START_SECONDS, Daemon, Stock


async def test_a_daemon_that_dies_early_is_told_at_once_with_its_output(tmp_path: Path) -> None:
    """And not when the deadline of whoever waits for its log has passed."""
    store = tmp_path / "stock.db"
    store.touch()
    daemon = Daemon(tmp_path, Stock(store, ""), lambda _store, _port: "[server]\nlisten = 5\n")
    async with asyncio.timeout(START_SECONDS / 2):
        with pytest.raises(AssertionError) as told:
            await daemon.start()
    assert "the daemon ended (status" in str(told.value)
    assert "server.listen" in str(told.value)
    await daemon.stop()
