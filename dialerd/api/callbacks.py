"""/campaigns/{campaign_id}/callbacks: calls that were promised for a time."""

from __future__ import annotations

from datetime import datetime
from typing import Self

from pydantic import AwareDatetime, ConfigDict, model_validator

from dialerd.api.bodies import JsonBody, NoBody
from dialerd.api.context import Request
from dialerd.api.fields import Description, In, Listing, NoQuery, Out, Reference, Spelling, Window
from dialerd.api.problems import (
    CALLBACK_NOT_FOUND,
    CAMPAIGN_FINISHED,
    CAMPAIGN_NOT_FOUND,
    CONTACT_NOT_FOUND,
    CONTACT_NOT_PENDING,
    INVALID_REQUEST,
    refuse,
)
from dialerd.api.routes import AnyRoute, Route
from dialerd.clock import read_id, show_id
from dialerd.dispatch.requests import NewCallback
from dialerd.store import callbacks, campaigns
from dialerd.store.callbacks import Callback, CallbackStatus
from dialerd.store.keys import Role


class CallbackIn(In):
    """A callback to be promised, to a contact or to a number; exactly one of both."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [{"required": ["contact_id"]}, {"required": ["phone_number"]}],
            "examples": [{"phone_number": "+12025550143", "due_at": "2030-03-05T16:30:00Z", "note": "asked for Bob"}],
        }
    )

    contact_id: Reference | None = None
    phone_number: Spelling | None = None
    """One that the campaign does not have yet becomes a contact."""
    due_at: AwareDatetime
    note: Description | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.contact_id is None) == (self.phone_number is None):
            raise ValueError("give contact_id or phone_number")
        return self


class CallbackOut(Out):
    """A promised callback."""

    id: str
    contact_id: str
    phone_number: str
    due_at: datetime
    note: str | None
    status: CallbackStatus
    created_at: datetime


def render(callback: Callback) -> CallbackOut:
    """A callback as the API shows it."""
    return CallbackOut(
        id=show_id(callback.id),
        contact_id=show_id(callback.contact_id),
        phone_number=callback.phone_number,
        due_at=callback.due_at,
        note=callback.note,
        status=callback.status,
        created_at=callback.created_at,
    )


async def index(request: Request[Window, None]) -> Listing[CallbackOut]:
    """List the pending callbacks of a campaign, soonest first."""
    campaign_id = request.path_id("campaign_id", CAMPAIGN_NOT_FOUND)
    window = request.query
    async with request.api.store.read() as conn:
        if await campaigns.get(conn, request.tenant.id, campaign_id) is None:
            raise refuse(CAMPAIGN_NOT_FOUND)
        found, total = await callbacks.page(
            conn,
            campaign_id,
            limit=window.limit + 1,
            offset=window.offset,
            after=None if window.after is None else read_id(window.after) or 0,
        )
    shown = [render(each) for each in found]
    return Listing[CallbackOut].of(shown, window, total, [each.id for each in shown])


async def create(request: Request[NoQuery, CallbackIn]) -> CallbackOut:
    """Promise a callback; a newer promise to the same contact replaces an older one."""
    campaign_id = request.path_id("campaign_id", CAMPAIGN_NOT_FOUND)
    body = request.body
    # What never was an id is the id of nobody.
    contact_id = None if body.contact_id is None else read_id(body.contact_id) or 0
    new = NewCallback(body.due_at, contact_id, body.phone_number, body.note)
    return render(await request.api.callbacks.promise(request.tenant, campaign_id, new))


async def delete(request: Request[NoQuery, None]) -> None:
    """Withdraw a callback: its contact is due at once, or cancelled where its calls were over before the promise."""
    campaign_id = request.path_id("campaign_id", CAMPAIGN_NOT_FOUND)
    callback_id = read_id(request.raw.match_info["callback_id"]) or 0
    await request.api.callbacks.withdraw(request.tenant, campaign_id, callback_id)


_ALL = "/campaigns/{campaign_id}/callbacks"
ROUTES: tuple[AnyRoute, ...] = (
    Route(
        "GET",
        _ALL,
        Role.VIEWER,
        index,
        Window,
        NoBody(),
        Listing[CallbackOut],
        200,
        (INVALID_REQUEST, CAMPAIGN_NOT_FOUND),
    ),
    Route(
        "POST",
        _ALL,
        Role.OPERATOR,
        create,
        NoQuery,
        JsonBody(CallbackIn),
        CallbackOut,
        201,
        (INVALID_REQUEST, CAMPAIGN_NOT_FOUND, CONTACT_NOT_FOUND, CONTACT_NOT_PENDING, CAMPAIGN_FINISHED),
    ),
    Route(
        "DELETE",
        f"{_ALL}/{{callback_id}}",
        Role.OPERATOR,
        delete,
        NoQuery,
        NoBody(),
        None,
        204,
        (CAMPAIGN_NOT_FOUND, CALLBACK_NOT_FOUND),
    ),
)
