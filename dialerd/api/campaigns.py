"""/campaigns: made, shown, listed, deleted, and taken through their states."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field
from sqlalchemy.ext.asyncio import AsyncConnection

from dialerd.api.bodies import JsonBody, NoBody
from dialerd.api.campaign_forms import CampaignBody, CampaignIn, CampaignPatch, NewCampaignRequest
from dialerd.api.contacts import ImportOut, render_report
from dialerd.api.context import Request
from dialerd.api.fields import In, NoQuery, Out, Reference, Search
from dialerd.api.problems import (
    AGENT_UNKNOWN,
    CAMPAIGN_ACTIVE,
    CAMPAIGN_ALREADY_ACTIVE,
    CAMPAIGN_FINISHED,
    CAMPAIGN_NOT_ACTIVE,
    CAMPAIGN_NOT_FOUND,
    CAMPAIGN_NOT_PAUSED,
    INVALID_CSV,
    INVALID_REQUEST,
    NO_CONTACTS,
    refuse,
)
from dialerd.api.routes import AnyRoute, Route
from dialerd.clock import read_id, show_id
from dialerd.core.model import Campaign, CampaignStatus
from dialerd.core.outcome import Outcome
from dialerd.core.settings import CampaignSettings
from dialerd.dispatch.errors import FieldError, Rejected
from dialerd.dispatch.requests import NewCampaign
from dialerd.store import campaigns
from dialerd.store.campaigns import CampaignStats
from dialerd.store.keys import Role


class CampaignQuery(In):
    """Which campaigns, by default newest first."""

    status: CampaignStatus | Literal["running"] | None = None
    agent_id: Reference | None = None
    q: Search | None = None
    """A part of the name or the description."""
    sort: Literal["created_at", "-created_at", "name", "-name", "started_at", "-started_at"] = "-created_at"
    """With a minus from the last on; campaigns never started come first by `started_at`."""
    page: Annotated[int, Field(ge=1, le=10**6)] = 1
    per_page: Annotated[int, Field(ge=1, le=200)] = 20


class StopIn(In):
    """How to stop."""

    hangup: bool = False
    """Hang up the calls in flight, too."""


class StatsOut(Out):
    """A campaign's statistics; a share of nothing is 0."""

    total: int
    pending: int
    originated: int
    connected: int
    completed: int
    failed: int
    cancelled: int
    calls_placed: int
    calls_in_flight: int
    answer_rate: float
    """Answered calls among those that ended."""
    abandon_rate: float
    """Abandoned calls among those that a person answered."""
    average_talk_seconds: float
    """Of the answered calls; how long an interrupted one talked is not known, and counts for nothing."""
    outcomes: dict[Outcome, int]
    estimated_completion_at: datetime | None
    """At the rate of the last minutes, with the calling hours ahead; null where that is not known."""


class CampaignOut(Out):
    """A campaign with its statistics."""

    id: str
    name: str
    description: str | None
    agent_id: str | None
    status: CampaignStatus
    settings: CampaignSettings
    stats: StatsOut
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None


class CampaignCreated(CampaignOut):
    """A new campaign, and what became of the file that came with it (null where none came)."""

    import_: Annotated[ImportOut | None, Field(alias="import")] = None


class CampaignGoing(CampaignOut):
    """A campaign that was started or resumed, and what keeps it silent now."""

    warnings: list[str]


class Pagination(Out):
    """Which page of how many."""

    page: int
    per_page: int
    total: int
    total_pages: int


class CampaignPage(Out):
    """A page of campaigns."""

    data: list[CampaignOut]
    pagination: Pagination


async def index(request: Request[CampaignQuery, None]) -> CampaignPage:
    """List the campaigns."""
    query = request.query
    status = CampaignStatus.ACTIVE if query.status == "running" else query.status
    async with request.api.store.read() as conn:
        found, total = await campaigns.page(
            conn,
            request.tenant.id,
            status=status,
            # What never was an id is the id of nobody.
            agent_id=None if query.agent_id is None else read_id(query.agent_id) or 0,
            page=query.page,
            per_page=query.per_page,
            search=query.q,
            sort=query.sort,
        )
        stats = await campaigns.stats(conn, [each.id for each in found])
        shown = [CampaignOut(**await _values(request, conn, each, stats[each.id])) for each in found]
    pages = -(-total // query.per_page)
    pagination = Pagination(page=query.page, per_page=query.per_page, total=total, total_pages=pages)
    return CampaignPage(data=shown, pagination=pagination)


async def create(request: Request[NoQuery, NewCampaignRequest]) -> CampaignCreated:
    """Make a campaign in draft, from JSON, or from a form with its contacts as a CSV file."""
    given, upload = request.body.campaign, request.body.upload
    agent_id = None
    if given.agent_id is not None:
        agent_id = read_id(given.agent_id)
        if agent_id is None:
            raise refuse(AGENT_UNKNOWN)
    settings = request.body.settings_over(request.tenant.settings)
    new = NewCampaign(name=given.name, description=given.description, agent_id=agent_id, settings=settings)
    try:
        made, report = await request.api.control.create(request.tenant, new, upload)
    except Rejected as rejected:
        raise _named_as_sent(rejected, request.body) from None
    values = await _with_stats(request, made)
    return CampaignCreated(**values, **{"import": None if report is None else render_report(report)})


async def show(request: Request[NoQuery, None]) -> CampaignOut:
    """Show one campaign with its statistics."""
    campaign_id = request.path_id("campaign_id", CAMPAIGN_NOT_FOUND)
    async with request.api.store.read() as conn:
        found = await campaigns.get(conn, request.tenant.id, campaign_id)
        if found is None:
            raise refuse(CAMPAIGN_NOT_FOUND)
        stats = await campaigns.stats(conn, [campaign_id])
        return CampaignOut(**await _values(request, conn, found, stats[campaign_id]))


async def change(request: Request[NoQuery, CampaignPatch]) -> CampaignOut:
    """Change a campaign that is not finished; a running one obeys from its next call on."""
    campaign_id = request.path_id("campaign_id", CAMPAIGN_NOT_FOUND)
    try:
        changed = await request.api.control.change(request.tenant, campaign_id, request.body.over)
    except Rejected as rejected:
        raise _under_settings(rejected) from None
    return CampaignOut(**await _with_stats(request, changed))


async def delete(request: Request[NoQuery, None]) -> None:
    """Delete a campaign that is not active."""
    campaign_id = request.path_id("campaign_id", CAMPAIGN_NOT_FOUND)
    await request.api.control.delete(request.tenant.id, campaign_id)


async def start(request: Request[NoQuery, None]) -> CampaignGoing:
    """Start a campaign that is draft or paused."""
    campaign_id = request.path_id("campaign_id", CAMPAIGN_NOT_FOUND)
    campaign, warnings = await request.api.control.start(request.tenant.id, campaign_id)
    return CampaignGoing(**await _with_stats(request, campaign), warnings=warnings)


async def pause(request: Request[NoQuery, None]) -> CampaignOut:
    """Pause an active campaign: no new calls, and calls in flight finish."""
    campaign_id = request.path_id("campaign_id", CAMPAIGN_NOT_FOUND)
    campaign = await request.api.control.pause(request.tenant.id, campaign_id)
    return CampaignOut(**await _with_stats(request, campaign))


async def resume(request: Request[NoQuery, None]) -> CampaignGoing:
    """Resume a paused campaign."""
    campaign_id = request.path_id("campaign_id", CAMPAIGN_NOT_FOUND)
    campaign, warnings = await request.api.control.resume(request.tenant.id, campaign_id)
    return CampaignGoing(**await _with_stats(request, campaign), warnings=warnings)


async def stop(request: Request[NoQuery, StopIn]) -> CampaignOut:
    """Stop a campaign for good: what is pending is cancelled, and calls in flight finish or are hung up."""
    campaign_id = request.path_id("campaign_id", CAMPAIGN_NOT_FOUND)
    campaign = await request.api.control.stop(request.tenant.id, campaign_id, hangup=request.body.hangup)
    return CampaignOut(**await _with_stats(request, campaign))


async def _with_stats(request: Request[Any, Any], campaign: Campaign) -> dict[str, Any]:
    async with request.api.store.read() as conn:
        stats = await campaigns.stats(conn, [campaign.id])
        return await _values(request, conn, campaign, stats[campaign.id])


async def _values(
    request: Request[Any, Any], conn: AsyncConnection, campaign: Campaign, stats: CampaignStats
) -> dict[str, Any]:
    through = await request.api.forecasts.completion(conn, campaign, stats)
    return {
        "id": show_id(campaign.id),
        "name": campaign.name,
        "description": campaign.description,
        "agent_id": None if campaign.agent_id is None else show_id(campaign.agent_id),
        "status": campaign.status,
        "settings": campaign.settings,
        "stats": _stats(stats, through),
        "created_at": campaign.created_at,
        "started_at": campaign.started_at,
        "completed_at": campaign.completed_at,
    }


def _stats(stats: CampaignStats, through: datetime | None) -> StatsOut:
    abandoned = stats.outcomes[Outcome.ABANDONED]
    return StatsOut(
        total=stats.total,
        **{status.value: count for status, count in stats.contacts.items()},
        calls_placed=stats.calls_placed,
        calls_in_flight=stats.in_flight,
        answer_rate=_share(stats.calls_answered, stats.calls_placed - stats.in_flight),
        abandon_rate=_share(abandoned, abandoned + stats.outcomes[Outcome.ANSWERED]),
        average_talk_seconds=_share(stats.talk_seconds, stats.calls_answered),
        outcomes=dict(stats.outcomes),
        estimated_completion_at=through,
    )


def _share(part: float, whole: int) -> float:
    return round(part / whole, 4) if whole > 0 else 0.0


def _named_as_sent(rejected: Rejected, body: NewCampaignRequest) -> Rejected:
    """Settings that do not fit the tenant are named where the client sent them."""
    return _renamed(rejected, body.place_of)


def _under_settings(rejected: Rejected) -> Rejected:
    return _renamed(rejected, lambda name: f"settings.{name}")


def _renamed(rejected: Rejected, place_of: Callable[[str], str]) -> Rejected:
    errors = [
        FieldError(place_of(each.field), each.message) if each.field in CampaignSettings.model_fields else each
        for each in rejected.errors
    ]
    if errors == list(rejected.errors):
        return rejected
    return Rejected(rejected.code, rejected.detail, errors)


_ONE = "/campaigns/{campaign_id}"
_OPERATOR, _VIEWER = Role.OPERATOR, Role.VIEWER
_NOTHING = NoBody()
ROUTES: tuple[AnyRoute, ...] = (
    Route("GET", "/campaigns", _VIEWER, index, CampaignQuery, _NOTHING, CampaignPage, 200, (INVALID_REQUEST,)),
    Route(
        "POST",
        "/campaigns",
        _OPERATOR,
        create,
        NoQuery,
        CampaignBody(CampaignIn),
        CampaignCreated,
        201,
        (INVALID_REQUEST, INVALID_CSV, AGENT_UNKNOWN),
    ),
    Route("GET", _ONE, _VIEWER, show, NoQuery, _NOTHING, CampaignOut, 200, (CAMPAIGN_NOT_FOUND,)),
    Route(
        "PATCH",
        _ONE,
        _OPERATOR,
        change,
        NoQuery,
        JsonBody(CampaignPatch),
        CampaignOut,
        200,
        (INVALID_REQUEST, AGENT_UNKNOWN, CAMPAIGN_NOT_FOUND, CAMPAIGN_FINISHED),
    ),
    Route("DELETE", _ONE, _OPERATOR, delete, NoQuery, _NOTHING, None, 204, (CAMPAIGN_NOT_FOUND, CAMPAIGN_ACTIVE)),
    Route(
        "POST",
        f"{_ONE}/start",
        _OPERATOR,
        start,
        NoQuery,
        _NOTHING,
        CampaignGoing,
        200,
        (CAMPAIGN_NOT_FOUND, CAMPAIGN_ALREADY_ACTIVE, CAMPAIGN_FINISHED, NO_CONTACTS),
    ),
    Route(
        "POST",
        f"{_ONE}/pause",
        _OPERATOR,
        pause,
        NoQuery,
        _NOTHING,
        CampaignOut,
        200,
        (CAMPAIGN_NOT_FOUND, CAMPAIGN_NOT_ACTIVE),
    ),
    Route(
        "POST",
        f"{_ONE}/resume",
        _OPERATOR,
        resume,
        NoQuery,
        _NOTHING,
        CampaignGoing,
        200,
        (CAMPAIGN_NOT_FOUND, CAMPAIGN_NOT_PAUSED, CAMPAIGN_FINISHED),
    ),
    Route(
        "POST",
        f"{_ONE}/stop",
        _OPERATOR,
        stop,
        NoQuery,
        JsonBody(StopIn, optional=True),
        CampaignOut,
        200,
        (INVALID_REQUEST, CAMPAIGN_NOT_FOUND, CAMPAIGN_FINISHED),
    ),
)
