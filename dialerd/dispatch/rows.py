"""The rows of an upload, in batches, read where they do not hold up the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncGenerator, Callable

from dialerd.clock import Clock
from dialerd.dispatch.requests import Upload
from dialerd.intake.json_list import read_items
from dialerd.intake.rows import IntakeOptions, NewContact, RowError
from dialerd.intake.worker import parse_file

Row = NewContact | RowError


async def read_upload(
    upload: Upload, options: IntakeOptions, clock: Clock, batch: int
) -> AsyncGenerator[list[Row], None]:
    """Yield the rows of an upload in batches of at most so many.

    Raises InvalidTable where it is no table, IntakeFailed where its parser dies. Whoever stops early closes the
    generator (``contextlib.aclosing``).
    """
    if upload.kind == "items":
        rows = read_items(upload.items, options)
        while found := await _in_thread(lambda: list(itertools.islice(rows, batch)), clock):
            yield found
        return
    assert upload.path is not None
    async with contextlib.aclosing(parse_file(upload.path, upload.kind, options, clock, batch)) as batches:
        async for found in batches:
            yield found


async def _in_thread(work: Callable[[], list[Row]], clock: Clock) -> list[Row]:
    with clock.hold():
        return await asyncio.to_thread(work)
