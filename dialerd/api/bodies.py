"""Bodies of requests: read under a limit and a deadline, as JSON, or spooled to a file."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Generic, TypeVar

from aiohttp import web
from pydantic import BaseModel

from dialerd.api.arrivals import ARRIVALS, Held, arriving
from dialerd.api.context import Limits
from dialerd.api.fields import control_characters, expect_few, first_errors, validate
from dialerd.api.problems import UNSUPPORTED_MEDIA_TYPE, refuse, unfit
from dialerd.api.spool import SPOOLS, too_large
from dialerd.api.strict_json import parse_long, parse_object

JSON = "application/json"
MOST_ITEMS = 500_000
"""Of a list of contacts or numbers as JSON: more than the largest body has room for."""
_SMALL_BYTES = 16 * 1024
"""A body that is checked at once: it costs the event loop milliseconds at most."""
_DIGEST = web.RequestKey[Any]("body_digest")

M = TypeVar("M", bound=BaseModel)
T = TypeVar("T")


def digest(raw: web.Request) -> hashlib._Hash:
    """The SHA-256 of what was read of a body so far, whatever its chunks or its boundaries were."""
    found: hashlib._Hash | None = raw.get(_DIGEST)
    if found is None:
        found = raw[_DIGEST] = hashlib.sha256()
    return found


class NoBody:
    """No body; one that is sent is not looked at."""

    @property
    def media(self) -> dict[str, type[BaseModel] | None]:
        return {}

    @contextlib.asynccontextmanager
    async def open(self, raw: web.Request, limits: Limits) -> AsyncIterator[None]:  # noqa: ARG002
        yield None


class JsonBody(Generic[M]):
    """One JSON object."""

    def __init__(self, model: type[M], *, optional: bool = False, many: str | None = None) -> None:
        self._model = model
        self.optional = optional
        self._many = many
        """The field with a long list. Control characters inside are somebody else's to refuse, item by item."""

    @property
    def media(self) -> dict[str, type[BaseModel] | None]:
        return {JSON: self._model}

    @contextlib.asynccontextmanager
    async def open(self, raw: web.Request, limits: Limits) -> AsyncIterator[M]:
        if self.optional and not raw.body_exists:
            yield self._model()
            return
        expect_media(raw, (JSON,))
        async with self.parse(raw, limits, lambda body: body) as body:
            yield body

    @contextlib.asynccontextmanager
    async def parse(self, raw: web.Request, limits: Limits, make: Callable[[M], T]) -> AsyncIterator[T]:
        """Read the body where its media type is known to be JSON, and make of it what is worked with in the block.

        ``make`` runs where the body is checked: beside the event loop where it is large. Raises Rejected.
        """
        with raw.app[ARRIVALS].holding(raw) as held:
            yield await self._read(raw, limits, held, make)

    async def _read(self, raw: web.Request, limits: Limits, held: Held, make: Callable[[M], T]) -> T:
        most = limits.json_bytes if self._many is None else limits.list_bytes
        data = await read_all(raw, limits, most, held)
        if len(data) <= _SMALL_BYTES:
            return make(self._checked(data))
        return await raw.app[ARRIVALS].check(lambda: make(self._checked(data)), limits.body_seconds)

    def _checked(self, data: bytes) -> M:
        if self.optional and not data:
            return self._model()
        if self._many is None:
            value = parse_object(data)
            expect_few(value)
            if errors := first_errors(control_characters(value)):
                raise unfit(errors)
            return validate(self._model, value)
        value = parse_object(data) if len(data) <= _SMALL_BYTES else parse_long(data, self._many, MOST_ITEMS)
        expect_few({**value, self._many: None})
        return validate(self._model, value)


def expect_media(raw: web.Request, known: tuple[str, ...]) -> str:
    """The body's media type. Raises Rejected (415) where it is none of these, or not in UTF-8 where JSON."""
    media = raw.content_type
    if media not in known:
        raise refuse(UNSUPPORTED_MEDIA_TYPE, f"the body must be {' or '.join(known)}", {"Accept": ", ".join(known)})
    if media == JSON and (raw.charset or "utf-8").lower() not in ("utf-8", "utf8", "us-ascii"):
        raise refuse(UNSUPPORTED_MEDIA_TYPE, "JSON is UTF-8")
    return media


async def read_all(raw: web.Request, limits: Limits, most: int, held: Held) -> bytes:
    """The whole body, small enough for memory. Raises Rejected."""
    _bound(raw, most)
    data = bytearray()
    async with arriving(raw, limits.body_seconds):
        while chunk := await raw.content.readany():
            held.take(len(chunk))
            data += chunk
            if len(data) > most:
                raise too_large(most)
            digest(raw).update(chunk)
    return bytes(data)


@contextlib.asynccontextmanager
async def spooled(raw: web.Request, limits: Limits) -> AsyncIterator[str]:
    """The whole body as a temporary file, which is gone after the block. Raises Rejected."""
    _bound(raw, limits.upload_bytes)
    async with raw.app[SPOOLS].one(raw) as spool:
        async with arriving(raw, limits.upload_seconds):
            await spool.take(lambda: _next(raw, limits), limits.upload_bytes, digest(raw))
        yield spool.path


async def within(reading: Awaitable[T], limits: Limits) -> T:
    """One step of reading an upload, which may pause only so long. Raises TimeoutError."""
    async with asyncio.timeout(limits.body_seconds):
        return await reading


def _bound(raw: web.Request, most: int) -> None:
    if raw.content_length is not None and raw.content_length > most:
        raise too_large(most)


async def _next(raw: web.Request, limits: Limits) -> bytes:
    return await within(raw.content.readany(), limits)
