"""dialerd top on the screen: it ends when it is told to."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from dialerd.client.errors import Unreachable
from dialerd.client.top import Snapshot, watch
from dialerd.clock import SystemClock

DEADLINE = 20.0


class Stubborn:
    """A request that takes its cancellation for a lost connection."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()

    async def ask(self, *_path: str, **_query: Any) -> Any:
        self.asked.set()
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            raise Unreachable("the connection is lost") from None


async def test_it_ends_though_the_request_under_way_swallows_the_cancellation() -> None:
    api = Stubborn()
    seen = Snapshot(0.0, {"data": []}, {"data": [], "pagination": {"total": 0}}, None)
    task = asyncio.create_task(watch(api, SystemClock(), seen, 0.01))  # type: ignore[arg-type] # of an Api it only asks
    async with asyncio.timeout(DEADLINE):
        await api.asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
