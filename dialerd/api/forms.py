"""Multipart forms: values in memory, the one file spooled, parts in any order (RFC 7578)."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from aiohttp import BodyPartReader, MultipartReader, web

from dialerd.api.arrivals import ARRIVALS, Held, arriving
from dialerd.api.bodies import digest, within
from dialerd.api.context import Limits
from dialerd.api.problems import INVALID_REQUEST, Refused, refuse, unfit
from dialerd.api.spool import SPOOLS, too_large
from dialerd.dispatch.errors import FieldError, Rejected

MULTIPART = "multipart/form-data"
FILE_PART = "contacts"
_CHUNK = 64 * 1024
_PLAIN = frozenset({"", "7bit", "8bit", "binary"})


@dataclass(slots=True)
class Form:
    """A form as it was sent."""

    values: dict[str, str] = field(default_factory=dict)
    """Without those that were left empty, as browsers send what nobody filled in."""
    file: str | None = None
    """Where the part ``contacts`` is spooled."""
    file_media: str = ""
    names: set[str] = field(default_factory=set)


@contextlib.asynccontextmanager
async def read_form(raw: web.Request, limits: Limits) -> AsyncIterator[Form]:
    """Read a multipart form; its file is gone after the block. Raises Rejected."""
    if raw.content_length is not None and raw.content_length > limits.upload_bytes:
        raise too_large(limits.upload_bytes)
    form = Form()
    async with contextlib.AsyncExitStack() as stack:
        held = stack.enter_context(raw.app[ARRIVALS].holding(raw))
        async with arriving(raw, limits.upload_seconds):
            try:
                await _read_parts(raw, limits, form, stack, held)
            except (Rejected, TimeoutError, web.RequestPayloadError, ConnectionError):
                raise
            except (ValueError, AssertionError, RuntimeError, LookupError, web.HTTPException):
                # The parser's ways to say that the body is not what its Content-Type says.
                raise _malformed() from None
        yield form


async def _read_parts(
    raw: web.Request, limits: Limits, form: Form, stack: contextlib.AsyncExitStack, held: Held
) -> None:
    reader = await raw.multipart()
    left = limits.upload_bytes
    while (part := await within(reader.next(), limits)) is not None:
        if len(form.names) == limits.form_parts:
            raise refuse(INVALID_REQUEST, f"the form has more than {limits.form_parts} parts")
        name = _name(part, form)
        assert isinstance(part, BodyPartReader)
        if name == FILE_PART:
            spool = await stack.enter_async_context(raw.app[SPOOLS].one(raw))
            content = hashlib.sha256()
            left -= await spool.take(lambda part=part: within(part.read_chunk(_CHUNK), limits), left, content)  # type: ignore[misc]
            _note(raw, name, content.digest())
            form.file, form.file_media = spool.path, _media(part)
            continue
        value = await _value(part, name, limits, held)
        _note(raw, name, hashlib.sha256(value.encode()).digest())
        if value:
            form.values[name] = value
    if not reader.at_eof():
        raise _malformed()


def _note(raw: web.Request, name: str, content: bytes) -> None:
    """Take a part into the body's digest: its name and content, for the boundary differs with each sending."""
    digest(raw).update(hashlib.sha256(name.encode()).digest() + content)


def _name(part: MultipartReader | BodyPartReader, form: Form) -> str:
    if isinstance(part, MultipartReader):
        raise refuse(INVALID_REQUEST, "a part of the form is itself multipart")
    name = part.name
    if not name:
        raise refuse(INVALID_REQUEST, "a part of the form has no name")
    if name in form.names:
        raise unfit([FieldError(name, "is given twice")])
    encoding = part.headers.get("Content-Transfer-Encoding", "").lower()
    if encoding not in _PLAIN or "Content-Encoding" in part.headers:
        raise unfit([FieldError(name, "must be sent as it is, without a transfer or content encoding")])
    form.names.add(name)
    return name


async def _value(part: BodyPartReader, name: str, limits: Limits, held: Held) -> str:
    data = bytearray()
    while chunk := await within(part.read_chunk(_CHUNK), limits):
        held.take(len(chunk))
        data += chunk
        if len(data) > limits.form_value_bytes:
            raise unfit([FieldError(name, f"is longer than {limits.form_value_bytes} bytes")])
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise unfit([FieldError(name, "is not UTF-8")]) from None


def _media(part: BodyPartReader) -> str:
    return part.headers.get("Content-Type", "").partition(";")[0].strip().lower()


def _malformed() -> Refused:
    return refuse(INVALID_REQUEST, "the body is not a well-formed multipart form")
