"""/campaigns/{campaign_id}/events: what happens, as it happens, as Server-Sent Events (WHATWG HTML, 9.2)."""

from __future__ import annotations

from aiohttp import web

from dialerd.api.bodies import NoBody
from dialerd.api.context import Request
from dialerd.api.fields import In, Reference
from dialerd.api.problems import CAMPAIGN_NOT_FOUND, INVALID_REQUEST, refuse, unfit
from dialerd.api.routes import AnyRoute, Route
from dialerd.api.streams import Streams
from dialerd.dispatch.errors import FieldError
from dialerd.store import campaigns, events, retention
from dialerd.store.keys import Role

_HEADER = "Last-Event-ID"
_LONGEST = 19


class EventQuery(In):
    """Where to go on; the header Last-Event-ID, which a browser sends when it reconnects, goes before it."""

    after: Reference | None = None


class EventsResource:
    """The one resource that keeps something: its open streams."""

    def __init__(self, streams: Streams) -> None:
        self._streams = streams

    async def follow(self, request: Request[EventQuery, None]) -> web.StreamResponse:
        """Follow a campaign's events, from where the client left off, or from now on."""
        campaign_id = request.path_id("campaign_id", CAMPAIGN_NOT_FOUND)
        header = request.raw.headers.get(_HEADER)
        after = _number(_HEADER, header) if header else _number("after", request.query.after)
        async with request.api.store.read() as conn:
            campaign = await campaigns.get(conn, request.tenant.id, campaign_id)
            if campaign is None:
                raise refuse(CAMPAIGN_NOT_FOUND)
            last = max(request.api.feed.last, await events.last(conn))
            if after is not None and after > last:
                # Following from there would be silent until the numbers had come that far.
                raise unfit([FieldError(_HEADER if header else "after", "is no event's id yet")])
            oldest = await retention.oldest_event(conn)
        missed = None
        if after is not None and oldest is not None and after < oldest[0] - 1 and campaign.created_at < oldest[1]:
            missed = oldest[0] - 1
        return await self._streams.serve(request.raw, request.principal, campaign_id, after, last, missed)

    def routes(self) -> tuple[AnyRoute, ...]:
        """The routes of this resource."""
        return (
            Route(
                "GET",
                "/campaigns/{campaign_id}/events",
                Role.VIEWER,
                self.follow,
                EventQuery,
                NoBody(),
                None,
                200,
                (INVALID_REQUEST, CAMPAIGN_NOT_FOUND),
                answer_media="text/event-stream",
                headers=((_HEADER, "The last event that the client has: what came after it is told first"),),
            ),
        )


def _number(name: str, text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= _LONGEST):
        raise unfit([FieldError(name, "must be the id of an event")])
    return int(text)
