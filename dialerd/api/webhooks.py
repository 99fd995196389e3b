"""/webhooks: endpoints that are told of events, what became of each delivery, and a try by hand."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from dialerd.api.bodies import JsonBody, NoBody
from dialerd.api.context import Request
from dialerd.api.fields import Change, Description, In, Listing, NoQuery, NotNull, Out, Reference, Window
from dialerd.api.problems import (
    DELIVERY_NOT_FOUND,
    EVENT_GONE,
    INVALID_REQUEST,
    TOO_MANY_WEBHOOKS,
    WEBHOOK_NOT_FOUND,
    refuse,
)
from dialerd.api.routes import AnyRoute, Route
from dialerd.clock import read_id, show_id
from dialerd.core.webhooks import Delivery, DeliveryStatus, Webhook, WebhookStatus
from dialerd.dispatch.courier import delivery_id, read_delivery_id
from dialerd.dispatch.webhooks import NewWebhook, WebhookChange
from dialerd.store import webhooks
from dialerd.store.keys import Role
from dialerd.store.records import EventKind

_Url = Annotated[str, Field(min_length=1, max_length=2000)]
_Kinds = Annotated[tuple[EventKind, ...], Field(max_length=len(EventKind))]
_EventId = Annotated[str, Field(pattern=r"^\d{1,18}$")]
_SECRET = "whsec_c2l4dGVlbiBieXRlcyBhbmQgc2l4dGVlbiBtb3Jl"  # nosec B105 # noqa: S105 - an example for the document


class WebhookIn(In):
    """A new webhook. It is told of what happens from now on."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "url": "https://crm.example.com/hooks/dialer",
                    "description": "the CRM",
                    "events": ["completed", "failed"],
                }
            ]
        }
    )

    url: _Url
    """https, to a public address unless the configuration allows another."""
    description: Description | None = None
    campaign_id: Reference | None = None
    """The campaign whose events are told; left out: those of all campaigns."""
    events: _Kinds = ()
    """The kinds of events, as event streams name them; empty: all."""


class WebhookPatch(Change):
    """What is to change; what is left out stays."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"status": "enabled"}]})

    url: Annotated[_Url | None, NotNull()] = None
    description: Description | None = None
    events: Annotated[_Kinds | None, NotNull()] = None
    status: Annotated[WebhookStatus | None, NotNull()] = None
    """``enabled``: again, from now on, or after the event that ``after`` names."""
    after: Annotated[_EventId | None, NotNull()] = None
    """The id of an event, as event streams give it: what came later is told, as far as it is kept."""
    rotate_secret: Annotated[Literal[True] | None, NotNull()] = None
    """Make a new secret, and show it in this answer. The old one signs beside it for 24 hours more."""


class WebhookOut(Out):
    """A webhook."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "09m4x2h3vn6pc",
                    "url": "https://crm.example.com/hooks/dialer",
                    "description": "the CRM",
                    "campaign_id": None,
                    "events": ["completed", "failed"],
                    "status": "enabled",
                    "disabled_reason": None,
                    "failing_since": None,
                    "created_at": "2030-03-05T16:30:00Z",
                    "secret": _SECRET,
                }
            ]
        }
    )

    id: str
    url: str
    description: str | None
    campaign_id: str | None
    events: list[EventKind]
    status: WebhookStatus
    disabled_reason: str | None
    """Why it is disabled, in words."""
    failing_since: datetime | None
    """The first failure after the last success. After 24 hours the webhook is switched off."""
    created_at: datetime
    secret: str | None
    """What signs (Standard Webhooks): only in the answer that made it, else null."""


class DeliveriesQuery(Window):
    """Which deliveries."""

    status: DeliveryStatus | None = None


class DeliveryOut(Out):
    """An event on its way to an endpoint, or there."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "evt_48211",
                    "event": "completed",
                    "campaign_id": "09m4x2h3vn6pb",
                    "contact_id": "09m4x2h3vn6pd",
                    "status": "retrying",
                    "attempts": 3,
                    "status_code": 503,
                    "error": "the answer was 503",
                    "created_at": "2030-03-05T16:30:00Z",
                    "last_attempt_at": "2030-03-05T16:30:21Z",
                    "next_attempt_at": "2030-03-05T16:31:04Z",
                }
            ]
        }
    )

    id: str
    """The ``webhook-id`` that its receiver sees, the same at each attempt."""
    event: EventKind
    campaign_id: str
    contact_id: str | None
    status: DeliveryStatus
    """``waiting``: behind an earlier one of the same contact. ``failed``: given up, after 24 hours of attempts."""
    attempts: int
    status_code: int | None
    """Of the last answer; null: there was none."""
    error: str | None
    created_at: datetime
    last_attempt_at: datetime | None
    next_attempt_at: datetime | None


class TestOut(Out):
    """What the endpoint made of a message of the type ``test``."""

    delivered: bool
    status_code: int | None
    error: str | None
    seconds: float


def render(hook: Webhook, *, secret: bool = False) -> WebhookOut:
    """A webhook as the API shows it; its secret only where it was made just now."""
    return WebhookOut(
        id=show_id(hook.id),
        url=hook.url,
        description=hook.description,
        campaign_id=None if hook.campaign_id is None else show_id(hook.campaign_id),
        events=[EventKind(each) for each in sorted(hook.kinds)],
        status=hook.status,
        disabled_reason=hook.disabled_reason,
        failing_since=hook.failing_since,
        created_at=hook.created_at,
        secret=hook.secret if secret else None,
    )


def render_delivery(delivery: Delivery) -> DeliveryOut:
    """A delivery as the API shows it."""
    return DeliveryOut(
        id=delivery_id(delivery.seq),
        event=EventKind(delivery.kind),
        campaign_id=show_id(delivery.campaign_id),
        contact_id=None if delivery.contact_id is None else show_id(delivery.contact_id),
        status=delivery.status,
        attempts=delivery.attempts,
        status_code=delivery.status_code,
        error=delivery.error,
        created_at=delivery.created_at,
        last_attempt_at=delivery.last_attempt_at,
        next_attempt_at=delivery.next_attempt_at,
    )


async def index(request: Request[Window, None]) -> Listing[WebhookOut]:
    """List the webhooks."""
    window = request.query
    async with request.api.store.read() as conn:
        found, total = await webhooks.page(
            conn,
            request.tenant.id,
            limit=window.limit + 1,
            offset=window.offset,
            after=None if window.after is None else read_id(window.after) or 0,
        )
    shown = [render(each) for each in found]
    return Listing[WebhookOut].of(shown, window, total, [each.id for each in shown])


async def create(request: Request[NoQuery, WebhookIn]) -> WebhookOut:
    """Make a webhook. Its secret is shown this once."""
    body = request.body
    # What never was an id is the id of nobody.
    campaign_id = None if body.campaign_id is None else read_id(body.campaign_id) or 0
    new = NewWebhook(body.url, body.description, campaign_id, frozenset(each.value for each in body.events))
    return render(await request.api.webhooks.create(request.tenant.id, new), secret=True)


async def show(request: Request[NoQuery, None]) -> WebhookOut:
    """Show one webhook."""
    webhook_id = request.path_id("webhook_id", WEBHOOK_NOT_FOUND)
    async with request.api.store.read() as conn:
        found = await webhooks.get(conn, request.tenant.id, webhook_id)
    if found is None:
        raise refuse(WEBHOOK_NOT_FOUND)
    return render(found)


async def change(request: Request[NoQuery, WebhookPatch]) -> WebhookOut:
    """Change a webhook, enable it again, or give it a new secret."""
    webhook_id = request.path_id("webhook_id", WEBHOOK_NOT_FOUND)
    body = request.body
    wanted = WebhookChange(
        url=body.url,
        description=body.description,
        undescribed="description" in body.model_fields_set and body.description is None,
        kinds=None if body.events is None else frozenset(each.value for each in body.events),
        status=body.status,
        rotate_secret=body.rotate_secret is not None,
        after=None if body.after is None else int(body.after),
    )
    changed = await request.api.webhooks.change(request.tenant.id, webhook_id, wanted)
    return render(changed, secret=wanted.rotate_secret)


async def delete(request: Request[NoQuery, None]) -> None:
    """Remove a webhook; nothing is sent to it from then on."""
    webhook_id = request.path_id("webhook_id", WEBHOOK_NOT_FOUND)
    await request.api.webhooks.remove(request.tenant.id, webhook_id)


async def deliveries(request: Request[DeliveriesQuery, None]) -> Listing[DeliveryOut]:
    """List the deliveries of a webhook, newest event first."""
    webhook_id = request.path_id("webhook_id", WEBHOOK_NOT_FOUND)
    window = request.query
    async with request.api.store.read() as conn:
        if await webhooks.get(conn, request.tenant.id, webhook_id) is None:
            raise refuse(WEBHOOK_NOT_FOUND)
        found, total = await webhooks.deliveries(
            conn,
            webhook_id,
            status=window.status,
            limit=window.limit + 1,
            offset=window.offset,
            after=None if window.after is None else read_delivery_id(window.after) or 0,
        )
    shown = [render_delivery(each) for each in found]
    return Listing[DeliveryOut].of(shown, window, total, [each.id for each in shown])


async def redeliver(request: Request[NoQuery, None]) -> DeliveryOut:
    """Send a delivery once more, now and out of its turn; the answer tells what became of it."""
    webhook_id = request.path_id("webhook_id", WEBHOOK_NOT_FOUND)
    seq = read_delivery_id(request.raw.match_info["delivery_id"]) or 0
    return render_delivery(await request.api.webhooks.redeliver(request.tenant.id, webhook_id, seq))


async def test(request: Request[NoQuery, None]) -> TestOut:
    """Send a message of the type test once, also to a webhook that is disabled."""
    webhook_id = request.path_id("webhook_id", WEBHOOK_NOT_FOUND)
    answer, seconds = await request.api.webhooks.test(request.tenant.id, webhook_id)
    return TestOut(delivered=answer.delivered, status_code=answer.status, error=answer.error, seconds=round(seconds, 3))


_ONE = "/webhooks/{webhook_id}"
ROUTES: tuple[AnyRoute, ...] = (
    Route("GET", "/webhooks", Role.VIEWER, index, Window, NoBody(), Listing[WebhookOut], 200, (INVALID_REQUEST,)),
    Route(
        "POST",
        "/webhooks",
        Role.ADMIN,
        create,
        NoQuery,
        JsonBody(WebhookIn),
        WebhookOut,
        201,
        (INVALID_REQUEST, TOO_MANY_WEBHOOKS),
        secret=True,
    ),
    Route("GET", _ONE, Role.VIEWER, show, NoQuery, NoBody(), WebhookOut, 200, (WEBHOOK_NOT_FOUND,)),
    Route(
        "PATCH",
        _ONE,
        Role.ADMIN,
        change,
        NoQuery,
        JsonBody(WebhookPatch),
        WebhookOut,
        200,
        (INVALID_REQUEST, WEBHOOK_NOT_FOUND),
    ),
    Route("DELETE", _ONE, Role.ADMIN, delete, NoQuery, NoBody(), None, 204, (WEBHOOK_NOT_FOUND,)),
    Route("POST", f"{_ONE}/test", Role.ADMIN, test, NoQuery, NoBody(), TestOut, 200, (WEBHOOK_NOT_FOUND,)),
    Route(
        "GET",
        f"{_ONE}/deliveries",
        Role.VIEWER,
        deliveries,
        DeliveriesQuery,
        NoBody(),
        Listing[DeliveryOut],
        200,
        (INVALID_REQUEST, WEBHOOK_NOT_FOUND),
    ),
    Route(
        "POST",
        f"{_ONE}/deliveries/{{delivery_id}}/redeliver",
        Role.ADMIN,
        redeliver,
        NoQuery,
        NoBody(),
        DeliveryOut,
        200,
        (WEBHOOK_NOT_FOUND, DELIVERY_NOT_FOUND, EVENT_GONE),
    ),
)
