"""/campaigns/{campaign_id}/calls: every call attempt."""

from __future__ import annotations

from datetime import datetime

from dialerd.api.bodies import NoBody
from dialerd.api.context import Request
from dialerd.api.fields import Listing, Out, Reference, Window
from dialerd.api.problems import CAMPAIGN_NOT_FOUND, INVALID_REQUEST, refuse
from dialerd.api.routes import AnyRoute, Route
from dialerd.clock import read_id, show_id
from dialerd.core.model import Call, CallStatus, HungUpBy
from dialerd.core.outcome import Fault, Outcome
from dialerd.store import calls, campaigns
from dialerd.store.keys import Role


class CallQuery(Window):
    """Which call attempts, in the order they were placed."""

    contact_id: Reference | None = None
    outcome: Outcome | None = None


class CallOut(Out):
    """A call attempt."""

    id: str
    contact_id: str
    attempt: int
    pbx: str
    trunk: str
    caller_id: str | None
    phone_number: str
    status: CallStatus
    outcome: Outcome | None
    fault: Fault | None
    hangup_cause: int | None
    """ITU-T Q.850."""
    hangup_text: str | None
    sip_status: int | None
    hung_up_by: HungUpBy | None
    originated_at: datetime
    ringing_at: datetime | None
    answered_at: datetime | None
    handed_over_at: datetime | None
    ended_at: datetime | None
    talk_seconds: float | None
    recording: str | None


def render(call: Call) -> CallOut:
    """A call as the API shows it."""
    return CallOut(
        id=call.id,
        contact_id=show_id(call.contact_id),
        attempt=call.attempt,
        pbx=call.pbx,
        trunk=call.trunk,
        caller_id=call.caller_id,
        phone_number=call.phone_number,
        status=call.status,
        outcome=call.outcome,
        fault=call.fault,
        hangup_cause=call.hangup_cause,
        hangup_text=call.hangup_text,
        sip_status=call.sip_status,
        hung_up_by=call.hung_up_by,
        originated_at=call.originated_at,
        ringing_at=call.ringing_at,
        answered_at=call.answered_at,
        handed_over_at=call.handed_over_at,
        ended_at=call.ended_at,
        talk_seconds=call.talk_seconds,
        recording=call.recording,
    )


async def index(request: Request[CallQuery, None]) -> Listing[CallOut]:
    """List the call attempts of a campaign, in the order they were placed."""
    campaign_id = request.path_id("campaign_id", CAMPAIGN_NOT_FOUND)
    query = request.query
    # What never was an id is the id of nobody.
    contact_id = None if query.contact_id is None else read_id(query.contact_id) or 0
    async with request.api.store.read() as conn:
        if await campaigns.get(conn, request.tenant.id, campaign_id) is None:
            raise refuse(CAMPAIGN_NOT_FOUND)
        stats = (await campaigns.stats(conn, [campaign_id]))[campaign_id]
        found = await calls.page(
            conn,
            campaign_id,
            contact_id=contact_id,
            outcome=query.outcome,
            limit=query.limit + 1,
            offset=query.offset,
            after=query.after,
        )
        if contact_id is not None:
            total = await calls.count_of(conn, campaign_id, contact_id, query.outcome)
        else:
            total = stats.attempts(query.outcome)
    return Listing[CallOut].of([render(each) for each in found], query, total, [each.id for each in found])


ROUTES: tuple[AnyRoute, ...] = (
    Route(
        "GET",
        "/campaigns/{campaign_id}/calls",
        Role.VIEWER,
        index,
        CallQuery,
        NoBody(),
        Listing[CallOut],
        200,
        (INVALID_REQUEST, CAMPAIGN_NOT_FOUND),
    ),
)
