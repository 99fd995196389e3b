"""The rows of an upload, in batches, read where they do not hold up the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncGenerator, Callable
from typing import TypeVar

from dialerd.clock import Clock
from dialerd.dispatch.requests import Upload
from dialerd.intake.json_list import read_items
from dialerd.intake.rows import IntakeOptions, NewContact, RowError
from dialerd.intake.runs import Part, runs
from dialerd.intake.worker import parse_file, parse_runs

T = TypeVar("T")

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


async def read_runs(upload: Upload, options: IntakeOptions, clock: Clock) -> AsyncGenerator[Part, None]:
    """Yield the rows of an upload as runs, part by part. Raises and is closed as :func:`read_upload`."""
    if upload.kind == "items":
        parts = runs(read_items(upload.items, options), options.allowed_prefixes)
        while (part := await _in_thread(lambda: next(parts, None), clock)) is not None:
            yield part
        return
    assert upload.path is not None
    async with contextlib.aclosing(parse_runs(upload.path, upload.kind, options, clock)) as found:
        async for part in found:
            yield part


async def _in_thread(work: Callable[[], T], clock: Clock) -> T:
    with clock.hold():
        return await asyncio.to_thread(work)
