"""/campaigns/{campaign_id}/results.csv and the rejected rows of an upload, as tables."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field

from aiohttp import web

from dialerd.api.bodies import NoBody
from dialerd.api.context import Api, Request
from dialerd.api.exports import MEDIA, PAGE, Cell, stream
from dialerd.api.fields import NoQuery
from dialerd.api.problems import CAMPAIGN_NOT_FOUND, IMPORT_NOT_FOUND, refuse
from dialerd.api.routes import AnyRoute, Route
from dialerd.clock import read_id, show_id
from dialerd.core.model import Call, Contact
from dialerd.store import calls, campaigns, contact_list, imports
from dialerd.store.keys import Role

_FIELDS = ("first_name", "last_name", "email", "company", "timezone", "priority", "external_id")
_RESULTS = (
    *("status", "last_outcome", "attempts", "last_call_at", "talk_seconds"),
    *("trunk", "caller_id", "hangup_cause", "sip_status"),
)
_REJECTS = ("row", "column", "value", "code", "message")
_REST = "attributes"
MOST_ATTRIBUTES = 500
"""Attributes with a column of their own; of any further ones a contact's are one cell of JSON."""


@dataclass(slots=True)
class _Columns:
    """The columns that were uploaded: those which any contact has a value for, in the order they came."""

    fields: set[str] = field(default_factory=set)
    attributes: dict[str, None] = field(default_factory=dict)
    more: bool = False

    def see(self, contact: Contact) -> None:
        self.fields.update(name for name in _FIELDS if getattr(contact, name))
        for name in contact.attributes:
            if name not in self.attributes:
                if len(self.attributes) == MOST_ATTRIBUTES:
                    self.more = True
                else:
                    self.attributes[name] = None

    @property
    def uploaded(self) -> list[str]:
        return [name for name in _FIELDS if name in self.fields]

    def header(self) -> list[str]:
        own = ["phone_number", *self.uploaded]
        taken = {*own, *_RESULTS, _REST}
        # No two columns bear one name: an attribute that is called as one of ours says that it was uploaded.
        attributes = [f"{name} (uploaded)" if name in taken else name for name in self.attributes]
        return [*own, *attributes, *([_REST] if self.more else []), *_RESULTS]

    def row(self, contact: Contact, last: Call | None) -> list[Cell]:
        rest = {name: value for name, value in contact.attributes.items() if name not in self.attributes}
        return [
            contact.phone_number,
            *(getattr(contact, name) for name in self.uploaded),
            *(contact.attributes.get(name) for name in self.attributes),
            *([json.dumps(rest, ensure_ascii=False) if rest else None] if self.more else []),
            contact.status.value,
            None if contact.last_outcome is None else contact.last_outcome.value,
            contact.attempts,
            *(
                (None,) * 6
                if last is None
                else (
                    *(last.originated_at, last.talk_seconds, last.trunk),
                    *(last.caller_id, last.hangup_cause, last.sip_status),
                )
            ),
        ]


async def results(request: Request[NoQuery, None]) -> web.StreamResponse:
    """Download a row per contact: the uploaded columns, then what became of it, with its last call.

    A text that a spreadsheet would take for a formula has an apostrophe before it; numbers stay as they are.
    """
    campaign_id = request.path_id("campaign_id", CAMPAIGN_NOT_FOUND)
    api = request.api
    async with api.store.read() as conn:
        if await campaigns.get(conn, request.tenant.id, campaign_id) is None:
            raise refuse(CAMPAIGN_NOT_FOUND)
    columns = _Columns()
    async for page in _contacts(api, campaign_id):
        for each in page:
            columns.see(each)
    name = f"results-{show_id(campaign_id)}.csv"
    return await stream(request, name, columns.header(), _result_pages(api, campaign_id, columns))


async def rejects(request: Request[NoQuery, None]) -> web.StreamResponse:
    """Download the rejected rows of an upload, each with its reason."""
    campaign_id = request.path_id("campaign_id", CAMPAIGN_NOT_FOUND)
    import_id = read_id(request.raw.match_info["import_id"]) or 0
    async with request.api.store.read() as conn:
        if await campaigns.get(conn, request.tenant.id, campaign_id) is None:
            raise refuse(CAMPAIGN_NOT_FOUND)
        if not await imports.is_published(conn, import_id, campaign_id):
            raise refuse(IMPORT_NOT_FOUND)
    return await stream(request, f"rejects-{show_id(import_id)}.csv", _REJECTS, _reject_pages(request.api, import_id))


async def _contacts(api: Api, campaign_id: int) -> AsyncGenerator[list[Contact], None]:
    after = 0
    while True:
        async with api.store.read() as conn:
            page = await contact_list.page(conn, campaign_id, contact_list.Filter(), limit=PAGE, after=after)
        if not page:
            return
        yield page
        after = page[-1].id


async def _result_pages(api: Api, campaign_id: int, columns: _Columns) -> AsyncGenerator[list[Sequence[Cell]], None]:
    async for page in _contacts(api, campaign_id):
        async with api.store.read() as conn:
            last = await calls.last_of(conn, [each.id for each in page])
        yield [columns.row(each, last.get(each.id)) for each in page]


async def _reject_pages(api: Api, import_id: int) -> AsyncGenerator[list[Sequence[Cell]], None]:
    position = -1
    while True:
        async with api.store.read() as conn:
            page = await imports.rejects(conn, import_id, after=position, limit=PAGE)
        if not page:
            return
        yield [(each["row"], *(each[name] for name in _REJECTS[1:])) for each in page]
        position = page[-1]["position"]


_ONE = "/campaigns/{campaign_id}"
ROUTES: tuple[AnyRoute, ...] = (
    Route(
        "GET",
        f"{_ONE}/imports/{{import_id}}/rejects.csv",
        Role.VIEWER,
        rejects,
        NoQuery,
        NoBody(),
        None,
        200,
        (CAMPAIGN_NOT_FOUND, IMPORT_NOT_FOUND),
        answer_media=MEDIA,
    ),
    Route(
        "GET",
        f"{_ONE}/results.csv",
        Role.VIEWER,
        results,
        NoQuery,
        NoBody(),
        None,
        200,
        (CAMPAIGN_NOT_FOUND,),
        answer_media=MEDIA,
    ),
)
