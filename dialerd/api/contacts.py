"""/campaigns/{campaign_id}/contacts: added and listed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from typing import Any

from dialerd.api.bodies import NoBody
from dialerd.api.calls import CallOut
from dialerd.api.calls import render as render_call
from dialerd.api.context import Api, Request
from dialerd.api.explain import ExplainOut
from dialerd.api.explain import render as render_explanation
from dialerd.api.fields import In, Listing, NoQuery, Out, Search, Window
from dialerd.api.problems import (
    CAMPAIGN_FINISHED,
    CAMPAIGN_NOT_FOUND,
    CONTACT_NOT_FOUND,
    CONTACT_NOT_PENDING,
    INVALID_CSV,
    INVALID_REQUEST,
    RATE_LIMITED,
    refuse,
)
from dialerd.api.routes import AnyRoute, Route
from dialerd.api.uploads import ContactsBody, OnInvalid
from dialerd.clock import read_id, show_id
from dialerd.core.model import Contact, ContactStatus
from dialerd.core.outcome import Outcome
from dialerd.dispatch.requests import ImportReport, Upload
from dialerd.store import calls, campaigns, contact_list, contacts
from dialerd.store.keys import Role

_MOST_CALLS = 1000
"""Calls shown with a contact: the oldest, and far more than its limits allow."""


class ContactQuery(Window):
    """Which contacts, in the order they were added; a number's beginning lists them in the order of numbers."""

    status: ContactStatus | None = None
    outcome: Outcome | None = None
    """Of the last call."""
    q: Search | None = None
    """A part of the number, the names, the company, the e-mail address or the external id.

    The beginning of a number with its plus (``+1202``) is looked up, and listed in the order of numbers: fast in any
    list. Any other text is looked for in each contact, which takes seconds where there are a million; few searches
    do so at once, and one that does not get its turn is told 429.
    """


class UploadQuery(In):
    """How an upload is taken; the body may say so, too."""

    on_invalid: OnInvalid | None = None


class ContactOut(Out):
    """A contact."""

    id: str
    phone_number: str
    first_name: str | None
    last_name: str | None
    email: str | None
    company: str | None
    timezone: str | None
    priority: int
    external_id: str | None
    attributes: Mapping[str, str]
    status: ContactStatus
    attempts: int
    last_outcome: Outcome | None
    next_attempt_at: datetime | None
    updated_at: datetime


class ContactDetail(ContactOut):
    """A contact with its calls, and why it is, or is not, dialled now."""

    calls: list[CallOut]
    explain: ExplainOut


class RowErrorOut(Out):
    """Why a row was rejected."""

    row: int | None
    column: str | None
    value: str | None
    code: str
    message: str


class ImportOut(Out):
    """What became of an upload."""

    import_id: str
    added: int
    duplicates: int
    invalid: int
    do_not_call: int
    errors: list[RowErrorOut]
    """The first 100 rejected rows."""


def render(contact: Contact) -> ContactOut:
    """A contact as the API shows it."""
    return ContactOut(**_values(contact))


def _values(contact: Contact) -> dict[str, Any]:
    return {
        "id": show_id(contact.id),
        "phone_number": contact.phone_number,
        "first_name": contact.first_name,
        "last_name": contact.last_name,
        "email": contact.email,
        "company": contact.company,
        "timezone": contact.timezone,
        "priority": contact.priority,
        "external_id": contact.external_id,
        "attributes": contact.attributes,
        "status": contact.status,
        "attempts": contact.attempts,
        "last_outcome": contact.last_outcome,
        "next_attempt_at": contact.next_attempt_at,
        "updated_at": contact.updated_at,
    }


def render_report(report: ImportReport) -> ImportOut:
    """An upload's report as the API shows it."""
    return ImportOut(
        import_id=show_id(report.import_id),
        added=report.added,
        duplicates=report.duplicates,
        invalid=report.invalid,
        do_not_call=report.do_not_call,
        errors=[
            RowErrorOut(row=each.row, column=each.column, value=each.value, code=each.code, message=each.message)
            for each in report.errors
        ],
    )


async def index(request: Request[ContactQuery, None]) -> Listing[ContactOut]:
    """List the contacts of a campaign."""
    campaign_id = request.path_id("campaign_id", CAMPAIGN_NOT_FOUND)
    query = request.query
    chosen = contact_list.Filter(query.status, query.outcome, query.q)
    async with _turn(request.api, chosen), request.api.store.read() as conn:
        if await campaigns.get(conn, request.tenant.id, campaign_id) is None:
            raise refuse(CAMPAIGN_NOT_FOUND)
        total = await contact_list.total(conn, campaign_id, chosen)
        found = await contact_list.page(
            conn,
            campaign_id,
            chosen,
            limit=query.limit + 1,
            offset=query.offset,
            after=None if query.after is None else read_id(query.after) or 0,
            total=total,
        )
    shown = [render(each) for each in found]
    return Listing[ContactOut].of(shown, query, total, [each.id for each in shown])


@contextlib.asynccontextmanager
async def _turn(api: Api, chosen: contact_list.Filter) -> AsyncIterator[None]:
    """Let few search through whole lists at once, which takes seconds each: the store's other readers serve the rest.

    Raises Rejected (``rate_limited``) where none ends in time.
    """
    if chosen.search is None or chosen.prefix is not None:
        yield
        return
    try:
        async with asyncio.timeout(api.limits.search_seconds):
            await api.searches.acquire()
    except TimeoutError:
        raise refuse(RATE_LIMITED, "other searches are under way; a number's beginning is found at once") from None
    try:
        yield
    finally:
        api.searches.release()


async def show(request: Request[NoQuery, None]) -> ContactDetail:
    """Show one contact, with its calls, and why it is, or is not, dialled now."""
    campaign_id = request.path_id("campaign_id", CAMPAIGN_NOT_FOUND)
    contact_id = read_id(request.raw.match_info["contact_id"]) or 0
    async with request.api.store.read() as conn:
        campaign = await campaigns.get(conn, request.tenant.id, campaign_id)
        if campaign is None:
            raise refuse(CAMPAIGN_NOT_FOUND)
        found = await contacts.get(conn, campaign_id, contact_id)
        if found is None:
            raise refuse(CONTACT_NOT_FOUND)
        placed = await calls.page(conn, campaign_id, limit=_MOST_CALLS, offset=0, contact_id=contact_id)
        told = await request.api.explanations.contact(conn, request.tenant, campaign, found)
    return ContactDetail(
        **_values(found), calls=[render_call(each) for each in placed], explain=render_explanation(told)
    )


async def cancel(request: Request[NoQuery, None]) -> None:
    """Cancel one pending contact."""
    campaign_id = request.path_id("campaign_id", CAMPAIGN_NOT_FOUND)
    contact_id = read_id(request.raw.match_info["contact_id"]) or 0
    await request.api.control.cancel_contact(request.tenant.id, campaign_id, contact_id)


async def add(request: Request[UploadQuery, Upload]) -> ImportOut:
    """Add contacts to a campaign that is not finished."""
    campaign_id = request.path_id("campaign_id", CAMPAIGN_NOT_FOUND)
    return render_report(await request.api.control.add_contacts(request.tenant, campaign_id, request.body))


_ALL = "/campaigns/{campaign_id}/contacts"
_ONE = f"{_ALL}/{{contact_id}}"
_NONE = (CAMPAIGN_NOT_FOUND, CONTACT_NOT_FOUND)
ROUTES: tuple[AnyRoute, ...] = (
    Route(
        "GET",
        _ALL,
        Role.VIEWER,
        index,
        ContactQuery,
        NoBody(),
        Listing[ContactOut],
        200,
        (INVALID_REQUEST, CAMPAIGN_NOT_FOUND),
    ),
    Route(
        "POST",
        _ALL,
        Role.OPERATOR,
        add,
        UploadQuery,
        ContactsBody(),
        ImportOut,
        200,
        (INVALID_REQUEST, INVALID_CSV, CAMPAIGN_NOT_FOUND, CAMPAIGN_FINISHED),
    ),
    Route("GET", _ONE, Role.VIEWER, show, NoQuery, NoBody(), ContactDetail, 200, _NONE),
    Route("DELETE", _ONE, Role.OPERATOR, cancel, NoQuery, NoBody(), None, 204, (*_NONE, CONTACT_NOT_PENDING)),
)
