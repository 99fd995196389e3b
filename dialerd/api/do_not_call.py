"""/dnc: the numbers that must not be called."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Self

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, model_validator

from dialerd.api.bodies import JSON, MOST_ITEMS, JsonBody, NoBody, expect_media, spooled
from dialerd.api.contacts import RowErrorOut
from dialerd.api.context import Limits, Request
from dialerd.api.fields import Description, In, Listing, NoQuery, Out, Spelling, Window, control_characters
from dialerd.api.problems import INVALID_CSV, INVALID_REQUEST, NOT_FOUND, refuse, unfit
from dialerd.api.routes import AnyRoute, Route
from dialerd.api.uploads import CSV
from dialerd.dispatch.exclusions import ExclusionReport
from dialerd.dispatch.requests import Upload
from dialerd.store import do_not_call
from dialerd.store.do_not_call import DoNotCall
from dialerd.store.keys import Role


class DoNotCallIn(In):
    """One number, or many; exactly one of both."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [{"required": ["phone_number"]}, {"required": ["numbers"]}],
            "examples": [{"phone_number": "+12025550143", "note": "asked by letter"}],
        }
    )

    phone_number: Spelling | None = None
    numbers: Annotated[list[Spelling], Field(min_length=1, max_length=MOST_ITEMS, fail_fast=True)] | None = None
    note: Description | None = None
    """Why, or who said so; of every number that is sent with it."""

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.phone_number is None) == (self.numbers is None):
            raise ValueError("give phone_number or numbers")
        return self


class DoNotCallOut(Out):
    """A number that must not be called."""

    phone_number: str
    note: str | None
    created_at: datetime


class DoNotCallAdded(Out):
    """What became of the numbers that were sent."""

    added: int
    duplicates: int
    """On the list already, or sent twice."""
    invalid: int
    errors: list[RowErrorOut]
    """The first 100 that are no numbers; the others are on the list all the same."""


@dataclass(frozen=True, slots=True)
class Numbers:
    """What is to be put on the list: one number, or an upload of many."""

    one: str | None = None
    many: Upload | None = None
    note: str | None = None


class NumbersBody:
    """Reads one number, many, or a CSV file with a column ``phone_number`` and, if wanted, ``note``."""

    def __init__(self) -> None:
        # Each of many is checked for itself, so that one bad spelling does not keep the others off the list.
        self._json = JsonBody(DoNotCallIn, many="numbers")

    @property
    def media(self) -> dict[str, type[BaseModel] | None]:
        return {**self._json.media, CSV: None}

    @contextlib.asynccontextmanager
    async def open(self, raw: web.Request, limits: Limits) -> AsyncIterator[Numbers]:
        if expect_media(raw, (JSON, CSV)) == JSON:
            async with self._json.parse(raw, limits, _numbers) as numbers:
                yield numbers
            return
        async with spooled(raw, limits) as path:
            yield Numbers(many=Upload("csv", path=path))


def _numbers(body: DoNotCallIn) -> Numbers:
    if unclean := list(control_characters(body.note, "note")):
        raise unfit(unclean)
    if body.numbers is None:
        return Numbers(one=body.phone_number, note=body.note)
    items: tuple[Any, ...] = tuple({"phone_number": number} for number in body.numbers)
    return Numbers(many=Upload("items", items=items), note=body.note)


def render(entry: DoNotCall) -> DoNotCallOut:
    """An entry as the API shows it."""
    return DoNotCallOut(phone_number=entry.phone_number, note=entry.note, created_at=entry.created_at)


async def index(request: Request[Window, None]) -> Listing[DoNotCallOut]:
    """List the numbers that must not be called, in their order."""
    window = request.query
    async with request.api.store.read() as conn:
        found, total = await do_not_call.page(
            conn, request.tenant.id, limit=window.limit + 1, offset=window.offset, after=window.after
        )
    shown = [render(each) for each in found]
    return Listing[DoNotCallOut].of(shown, window, total, [each.phone_number for each in shown])


async def add(request: Request[NoQuery, Numbers]) -> DoNotCallAdded:
    """Put numbers on the list; their pending contacts are cancelled at once, in every campaign."""
    exclusions, body = request.api.exclusions, request.body
    if body.many is not None:
        return _report(await exclusions.add_many(request.tenant, body.many, body.note))
    assert body.one is not None
    return _report(await exclusions.add(request.tenant, body.one, body.note))


async def delete(request: Request[NoQuery, None]) -> None:
    """Take a number off the list; contacts that were cancelled for it stay so."""
    if not await request.api.exclusions.remove(request.tenant, request.raw.match_info["number"]):
        raise refuse(NOT_FOUND)


def _report(report: ExclusionReport) -> DoNotCallAdded:
    return DoNotCallAdded(
        added=report.added,
        duplicates=report.duplicates,
        invalid=report.invalid,
        errors=[
            RowErrorOut(row=each.row, column=each.column, value=each.value, code=each.code, message=each.message)
            for each in report.errors
        ],
    )


ROUTES: tuple[AnyRoute, ...] = (
    Route("GET", "/dnc", Role.VIEWER, index, Window, NoBody(), Listing[DoNotCallOut], 200, (INVALID_REQUEST,)),
    Route("POST", "/dnc", Role.ADMIN, add, NoQuery, NumbersBody(), DoNotCallAdded, 200, (INVALID_REQUEST, INVALID_CSV)),
    Route("DELETE", "/dnc/{number}", Role.ADMIN, delete, NoQuery, NoBody(), None, 204, (NOT_FOUND,)),
)
