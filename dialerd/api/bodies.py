"""Bodies of requests: read under a limit and a deadline, as JSON, or spooled to a file."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, BinaryIO, Generic, TypeVar

from aiohttp import web
from aiohttp.http_exceptions import BadHttpMessage
from pydantic import BaseModel

from dialerd.api.context import Limits
from dialerd.api.fields import control_characters, validate
from dialerd.api.problems import (
    DATABASE_ERROR,
    INVALID_REQUEST,
    PAYLOAD_TOO_LARGE,
    UNSUPPORTED_MEDIA_TYPE,
    Refused,
    refuse,
    unfit,
)
from dialerd.api.strict_json import parse_object

JSON = "application/json"
MOST_ITEMS = 500_000
"""Of a list of contacts or numbers as JSON: more than the largest body has room for, unless they are none."""
_WRITE_BYTES = 2**20
_CLOSE = {"Connection": "close"}
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

    def __init__(self, model: type[M], *, optional: bool = False, free_text: bool = False) -> None:
        self._model = model
        self.optional = optional
        self._free_text = free_text
        """Control characters inside are somebody else's to refuse, item by item."""

    @property
    def media(self) -> dict[str, type[BaseModel] | None]:
        return {JSON: self._model}

    @contextlib.asynccontextmanager
    async def open(self, raw: web.Request, limits: Limits) -> AsyncIterator[M]:
        if self.optional and not raw.body_exists:
            yield self._model()
            return
        expect_media(raw, (JSON,))
        yield await self.parse(raw, limits)

    async def parse(self, raw: web.Request, limits: Limits) -> M:
        """Read the body where its media type is known to be JSON. Raises Rejected."""
        data = await read_all(raw, limits)
        if self.optional and not data:
            return self._model()
        value = await parse_object(data)
        if not self._free_text and (errors := list(control_characters(value))):
            raise unfit(errors)
        return validate(self._model, value)


def expect_media(raw: web.Request, known: tuple[str, ...]) -> str:
    """The body's media type. Raises Rejected (415) where it is none of these, or not in UTF-8 where JSON."""
    media = raw.content_type
    if media not in known:
        raise refuse(UNSUPPORTED_MEDIA_TYPE, f"the body must be {' or '.join(known)}", {"Accept": ", ".join(known)})
    if media == JSON and (raw.charset or "utf-8").lower() not in ("utf-8", "utf8", "us-ascii"):
        raise refuse(UNSUPPORTED_MEDIA_TYPE, "JSON is UTF-8")
    return media


async def read_all(raw: web.Request, limits: Limits) -> bytes:
    """The whole body, small enough for memory. Raises Rejected."""
    _bound(raw, limits.json_bytes)
    data = bytearray()
    async with arriving(raw, limits.body_seconds):
        while chunk := await raw.content.readany():
            data += chunk
            if len(data) > limits.json_bytes:
                raise too_large(limits.json_bytes)
    digest(raw).update(data)
    return bytes(data)


@contextlib.asynccontextmanager
async def spooled(raw: web.Request, limits: Limits) -> AsyncIterator[str]:
    """The whole body as a temporary file, which is gone after the block. Raises Rejected."""
    _bound(raw, limits.upload_bytes)
    async with Spool() as spool:
        async with arriving(raw, limits.upload_seconds):
            await spool.take(lambda: _next(raw, limits), limits.upload_bytes, digest(raw))
        yield spool.path


class Spool:
    """A temporary file that only we can read; it is removed at the end of the block."""

    def __init__(self) -> None:
        self.path = ""
        self._file: BinaryIO | None = None

    async def __aenter__(self) -> Spool:
        handle, self.path = await asyncio.to_thread(tempfile.mkstemp, prefix="dialerd-upload-")
        self._file = os.fdopen(handle, "wb")
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._file is not None
        # Not in a thread: nothing may come between an upload and the end of its file.
        self._file.close()
        os.unlink(self.path)

    async def take(self, read: Callable[[], Awaitable[bytes]], most: int, into: hashlib._Hash) -> int:
        """Write what ``read`` gives until that is empty, into a digest too; returns how much it was.

        Raises Rejected beyond ``most``.
        """
        assert self._file is not None
        taken, buffer = 0, bytearray()
        while chunk := await read():
            taken += len(chunk)
            if taken > most:
                raise too_large(most)
            buffer += chunk
            if len(buffer) >= _WRITE_BYTES:
                await asyncio.to_thread(self._write, bytes(buffer), into)
                buffer.clear()
        await asyncio.to_thread(self._write, bytes(buffer), into)
        return taken

    def _write(self, chunk: bytes, into: hashlib._Hash) -> None:
        assert self._file is not None
        into.update(chunk)
        self._file.write(chunk)
        self._file.flush()


async def within(reading: Awaitable[T], limits: Limits) -> T:
    """One step of reading an upload, which may pause only so long. Raises TimeoutError."""
    async with asyncio.timeout(limits.body_seconds):
        return await reading


class Arrivals:
    """The bodies that are on their way: a server that stops waits for none of them, for nobody could act on it."""

    def __init__(self) -> None:
        self._deadlines: set[asyncio.Timeout] = set()
        self._ended = False

    def end(self) -> None:
        """Refuse those that are on their way, and all that come later."""
        self._ended = True
        for deadline in self._deadlines:
            if not deadline.expired():
                deadline.reschedule(0.0)

    @contextlib.asynccontextmanager
    async def reading(self, seconds: float) -> AsyncIterator[None]:
        """Read a body in this block, for at most so many seconds. Raises Rejected, by what goes wrong on its way."""
        try:
            async with asyncio.timeout(0.0 if self._ended else seconds) as deadline:
                self._deadlines.add(deadline)
                try:
                    yield
                finally:
                    self._deadlines.discard(deadline)
        except TimeoutError:
            if self._ended:
                raise refuse(DATABASE_ERROR, "the daemon is stopping; the request changed nothing", _CLOSE) from None
            raise refuse(INVALID_REQUEST, "the body did not arrive in time", _CLOSE) from None
        except (web.RequestPayloadError, BadHttpMessage):
            raise refuse(INVALID_REQUEST, "the body is cut short or badly encoded", _CLOSE) from None


ARRIVALS = web.AppKey("arrivals", Arrivals)


def arriving(raw: web.Request, seconds: float) -> contextlib.AbstractAsyncContextManager[None]:
    """See :meth:`Arrivals.reading`; those of the request's own server."""
    return raw.app[ARRIVALS].reading(seconds)


def too_large(most: int) -> Refused:
    """The refusal of a body beyond its bound."""
    return refuse(PAYLOAD_TOO_LARGE, f"the body is larger than {most} bytes")


def _bound(raw: web.Request, most: int) -> None:
    if raw.content_length is not None and raw.content_length > most:
        raise too_large(most)


async def _next(raw: web.Request, limits: Limits) -> bytes:
    return await within(raw.content.readany(), limits)
