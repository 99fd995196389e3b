"""/campaigns/{campaign_id}/explain: why calls are, or are not, going out now."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from dialerd.api.bodies import NoBody
from dialerd.api.context import Request
from dialerd.api.fields import NoQuery, Out
from dialerd.api.problems import CAMPAIGN_NOT_FOUND, refuse
from dialerd.api.routes import AnyRoute, Route
from dialerd.core.explain import Explanation
from dialerd.store import campaigns
from dialerd.store.keys import Role


class RuleOut(Out):
    """One rule of the planner, with its answer."""

    rule: str
    level: Literal["contact", "campaign", "tenant", "trunk", "pbx", "agent", "system"]
    holds: bool
    """Whether it lets calls through."""
    detail: str
    until: datetime | None
    """When a rule that does not hold lets go; null where that is no question of time."""


class ExplainOut(Out):
    """Why calls are, or are not, going out now. The rules stand in the order in which the planner asks."""

    dialing: bool
    summary: str
    """The first rule that keeps calls back, in words. Of the trunks, one that lets calls through is enough."""
    next_moment: datetime | None
    rules: list[RuleOut]


class CountsOut(Out):
    """The contacts of a campaign that are not through yet."""

    due: int
    waiting: int
    """Pending, and not due yet."""
    in_flight: int


class CampaignExplainOut(ExplainOut):
    """Why calls of a campaign are, or are not, going out now."""

    counts: CountsOut


def render(told: Explanation) -> ExplainOut:
    """An explanation as the API shows it."""
    return ExplainOut(dialing=told.dialing, summary=told.summary, next_moment=told.next_moment, rules=_rules(told))


def _rules(told: Explanation) -> list[RuleOut]:
    return [
        RuleOut.model_validate(
            {"rule": each.rule, "level": each.level, "holds": each.holds, "detail": each.detail, "until": each.until}
        )
        for each in told.rules
    ]


async def show(request: Request[NoQuery, None]) -> CampaignExplainOut:
    """Explain why calls are, or are not, going out now."""
    campaign_id = request.path_id("campaign_id", CAMPAIGN_NOT_FOUND)
    async with request.api.store.read() as conn:
        found = await campaigns.get(conn, request.tenant.id, campaign_id)
        if found is None:
            raise refuse(CAMPAIGN_NOT_FOUND)
        told, counts = await request.api.explanations.campaign(conn, found)
    return CampaignExplainOut(
        dialing=told.dialing,
        summary=told.summary,
        next_moment=told.next_moment,
        rules=_rules(told),
        counts=CountsOut(due=counts.due, waiting=counts.waiting, in_flight=counts.in_flight),
    )


ROUTES: tuple[AnyRoute, ...] = (
    Route(
        "GET",
        "/campaigns/{campaign_id}/explain",
        Role.VIEWER,
        show,
        NoQuery,
        NoBody(),
        CampaignExplainOut,
        200,
        (CAMPAIGN_NOT_FOUND,),
    ),
)
