"""/campaigns/{campaign_id}/contacts: added and listed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from dialerd.api.bodies import NoBody
from dialerd.api.context import Request
from dialerd.api.fields import In, Listing, Out, Window
from dialerd.api.problems import CAMPAIGN_FINISHED, CAMPAIGN_NOT_FOUND, INVALID_CSV, INVALID_REQUEST, refuse
from dialerd.api.routes import AnyRoute, Route
from dialerd.api.uploads import ContactsBody, OnInvalid
from dialerd.clock import read_id, show_id
from dialerd.core.model import Contact, ContactStatus
from dialerd.core.outcome import Outcome
from dialerd.dispatch.requests import ImportReport, Upload
from dialerd.store import campaigns, contacts
from dialerd.store.keys import Role


class ContactQuery(Window):
    """Which contacts, in the order they were added."""

    status: ContactStatus | None = None


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
    return ContactOut(
        id=show_id(contact.id),
        phone_number=contact.phone_number,
        first_name=contact.first_name,
        last_name=contact.last_name,
        email=contact.email,
        company=contact.company,
        timezone=contact.timezone,
        priority=contact.priority,
        external_id=contact.external_id,
        attributes=contact.attributes,
        status=contact.status,
        attempts=contact.attempts,
        last_outcome=contact.last_outcome,
        next_attempt_at=contact.next_attempt_at,
        updated_at=contact.updated_at,
    )


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
    async with request.api.store.read() as conn:
        if await campaigns.get(conn, request.tenant.id, campaign_id) is None:
            raise refuse(CAMPAIGN_NOT_FOUND)
        stats = (await campaigns.stats(conn, [campaign_id]))[campaign_id]
        found = await contacts.page(
            conn,
            campaign_id,
            status=query.status,
            limit=query.limit + 1,
            offset=query.offset,
            after=None if query.after is None else read_id(query.after) or 0,
        )
    total = stats.total if query.status is None else stats.contacts[query.status]
    shown = [render(each) for each in found]
    return Listing[ContactOut].of(shown, query, total, [each.id for each in shown])


async def add(request: Request[UploadQuery, Upload]) -> ImportOut:
    """Add contacts to a campaign that is not finished."""
    campaign_id = request.path_id("campaign_id", CAMPAIGN_NOT_FOUND)
    return render_report(await request.api.control.add_contacts(request.tenant, campaign_id, request.body))


_ALL = "/campaigns/{campaign_id}/contacts"
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
)
