"""dialerd top on the screen: it ends when it is told to."""

from __future__ import annotations

import asyncio
import io
from typing import Any

import pytest
from rich.console import Console
from rich.live import Live

from dialerd.client.errors import Unreachable
from dialerd.client.top import watch
from dialerd.client.top_view import Column, Snapshot, fit, fitting
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
    screen = Live(console=Console(file=io.StringIO()))
    task = asyncio.create_task(watch(api, SystemClock(), seen, 0.01, screen))  # type: ignore[arg-type] # of an Api it only asks
    async with asyncio.timeout(DEADLINE):
        await api.asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


@pytest.mark.parametrize(
    ("counts", "lines", "shares"),
    [
        ([2, 3], 10, [2, 3]),
        ([2, 3], 5, [2, 3]),
        ([2, 9], 6, [2, 3]),
        ([9, 9], 10, [4, 4]),
        ([40, 1, 40], 11, [4, 1, 4]),
        ([3, 3], 0, [0, 0]),
        ([], 5, []),
    ],
)
def test_what_does_not_fit_is_shared_out(counts: list[int], lines: int, shares: list[int]) -> None:
    assert fit(counts, lines) == shares


@pytest.mark.parametrize(
    ("width", "kept"), [(40, [0, 1, 2, 3]), (36, [0, 1, 2, 3]), (35, [0, 2, 3]), (27, [2, 3]), (3, [2, 3])]
)
def test_a_narrow_screen_leaves_columns_out_and_cuts_texts(width: int, kept: list[int]) -> None:
    columns = (Column("A", dropped=2), Column("B", dropped=1), Column("C", text=True), Column("D"))
    assert fitting(columns, [6, 6, 30, 6], width) == kept
