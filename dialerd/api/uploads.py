"""The bodies that bring contacts: JSON, CSV, NDJSON, or a form with a file."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from aiohttp import web
from pydantic import BaseModel, Field, WithJsonSchema

from dialerd.api.bodies import JSON, MOST_ITEMS, JsonBody, expect_media, spooled
from dialerd.api.context import Limits
from dialerd.api.fields import In
from dialerd.api.forms import FILE_PART, MULTIPART, Form, read_form
from dialerd.api.problems import unfit
from dialerd.dispatch.errors import FieldError
from dialerd.dispatch.requests import Upload

CSV = "text/csv"
NDJSON = "application/x-ndjson"


File = Annotated[str, WithJsonSchema({"type": "string", "format": "binary"})]
"""A file in a form, as the OpenAPI document shows it: what is sent goes to a spool, never through a model."""


class OnInvalid(StrEnum):
    """What an invalid row does to the others."""

    SKIP = "skip"
    REJECT = "reject"

    @classmethod
    def of(cls, text: str | None) -> Self | None:
        """Read a form's value. Raises Rejected."""
        try:
            return None if text is None else cls(text)
        except ValueError:
            raise unfit([FieldError("on_invalid", "must be skip or reject")]) from None


class ContactsIn(In):
    """Contacts as JSON: each an object with ``phone`` or ``phone_number``, checked one by one."""

    contacts: Annotated[list[Any], Field(max_length=MOST_ITEMS)]
    on_invalid: OnInvalid | None = None


class ContactsForm(In):
    """Contacts as a file in a form."""

    contacts: File
    on_invalid: OnInvalid | None = None


class ContactsBody:
    """Reads an upload in any of its forms."""

    def __init__(self) -> None:
        self._json = JsonBody(ContactsIn, many="contacts")

    @property
    def media(self) -> dict[str, type[BaseModel] | None]:
        return {**self._json.media, CSV: None, NDJSON: None, MULTIPART: ContactsForm}

    @contextlib.asynccontextmanager
    async def open(self, raw: web.Request, limits: Limits) -> AsyncIterator[Upload]:
        """Read the body; ``on_invalid`` is the body's own, or the query's where the body has none."""
        media = expect_media(raw, (JSON, CSV, NDJSON, MULTIPART))
        asked = OnInvalid.of(raw.query.get("on_invalid"))
        if media == JSON:
            async with self._json.parse(raw, limits, lambda body: _from_json(body, asked)) as upload:
                yield upload
        elif media == MULTIPART:
            async with read_form(raw, limits) as form:
                yield _from_form(form, asked)
        else:
            async with spooled(raw, limits) as path:
                yield Upload("csv" if media == CSV else "ndjson", path=path, on_invalid=_chosen(asked))


def form_upload(form: Form, on_invalid: OnInvalid | None) -> Upload | None:
    """The file of a form, where it has one."""
    if form.file is None:
        return None
    kind: Literal["csv", "ndjson"] = "ndjson" if form.file_media == NDJSON else "csv"
    return Upload(kind, path=form.file, on_invalid=_chosen(on_invalid))


def _from_json(body: ContactsIn, asked: OnInvalid | None) -> Upload:
    return Upload("items", items=tuple(body.contacts), on_invalid=_chosen(body.on_invalid or asked))


def _from_form(form: Form, asked: OnInvalid | None) -> Upload:
    errors = [FieldError(name, "is not a known field") for name in sorted(form.names - {FILE_PART, "on_invalid"})]
    upload = form_upload(form, OnInvalid.of(form.values.get("on_invalid")) or asked)
    if upload is None:
        errors.append(FieldError(FILE_PART, "is required"))
    if errors:
        raise unfit(errors)
    assert upload is not None
    return upload


def _chosen(on_invalid: OnInvalid | None) -> Literal["skip", "reject"]:
    return "reject" if on_invalid is OnInvalid.REJECT else "skip"
