"""CSV as an answer (RFC 4180): streamed page by page, so that no list is ever whole in memory or in one read."""

from __future__ import annotations

import asyncio
import csv
import io
import re
from collections.abc import AsyncGenerator, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import structlog
from aiohttp import web

from dialerd.api.context import Request
from dialerd.store.errors import StoreError

log = structlog.get_logger(__name__)

MEDIA = "text/csv"
PAGE = 500
"""Rows read at once: some milliseconds of the store and of the event loop."""
Cell = str | int | float | datetime | None
# What spreadsheets take for the beginning of a formula (OWASP, CSV injection); a plain number is none.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_NUMBER = re.compile(r"[+-]?[0-9]+([.,][0-9]+)?")


def cell(value: Cell) -> str:
    """A value as a cell's text. What a spreadsheet would evaluate has an apostrophe put before it.

    Numbers keep their sign, so that a telephone number with its plus stays as it is.
    """
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if not isinstance(value, str):
        return f"{value:g}" if isinstance(value, float) and value.is_integer() else str(value)
    return f"'{value}" if value.startswith(_FORMULA) and not _NUMBER.fullmatch(value) else value


def encode(rows: Iterable[Sequence[Cell]]) -> bytes:
    """Rows as CSV."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows([cell(value) for value in row] for row in rows)
    return text.getvalue().encode()


async def stream(
    request: Request[Any, Any], name: str, header: Sequence[str], pages: AsyncGenerator[list[Sequence[Cell]], None]
) -> web.StreamResponse:
    """Answer with a table. Raises StoreError as long as nothing is sent; later the answer breaks off visibly."""
    # The first page is read before the status is told.
    page = await anext(pages, None)
    response = web.StreamResponse(headers={"Content-Disposition": f'attachment; filename="{name}"'})
    response.content_type = MEDIA
    response.charset = "utf-8"
    await response.prepare(request.raw)
    try:
        await _write(request, response, encode([header]))
        while page is not None:
            await _write(request, response, encode(page))
            page = await anext(pages, None)
        await response.write_eof()
    except ConnectionError:
        pass  # the client left
    except (StoreError, TimeoutError) as error:
        # Without the last chunk the client knows that the table is cut short.
        log.warning("export_broken_off", name=name, reason=str(error) or "the client does not read")
        if request.raw.transport is not None:
            request.raw.transport.abort()
    finally:
        await pages.aclose()
    return response


async def _write(request: Request[Any, Any], response: web.StreamResponse, chunk: bytes) -> None:
    async with asyncio.timeout(request.api.limits.drain_seconds):
        await response.write(chunk)
