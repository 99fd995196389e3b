"""/trunks: the state of the ways out, and pausing one. They belong to the configuration file."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from dialerd.api.bodies import JsonBody, NoBody
from dialerd.api.context import Request
from dialerd.api.fields import In, Listing, NoQuery, Out, Window
from dialerd.api.problems import INVALID_REQUEST, TRUNK_NOT_FOUND, refuse
from dialerd.api.routes import AnyRoute, Route
from dialerd.dispatch.trunks import TrunkState, TrunkView
from dialerd.store.keys import Role


class PauseIn(In):
    """Why a trunk is paused."""

    reason: Annotated[str, StringConstraints(min_length=1, max_length=200)] = "paused by hand"


class TrunkOut(Out):
    """A trunk and what it carries now."""

    id: str
    pbx: str
    state: TrunkState
    reason: str | None
    """Why it is not up, or what slows it."""
    channels_in_use: int | None
    """Calls from journal to hangup; null, as what else is measured, on a standby."""
    max_channels: int
    calls_per_second: float | None
    """Sent in the last second, or in as long as one call takes where the limit is below one a second."""
    max_calls_per_second: float
    answer_seizure_ratio: Annotated[float, Field(ge=0, le=1)] | None
    """Answered calls among the last 100 that seized a channel since the daemon started; null before the first."""


def render(view: TrunkView) -> TrunkOut:
    """A trunk as the API shows it."""
    ratio, speed = view.answer_seizure_ratio, view.calls_per_second
    return TrunkOut(
        id=view.trunk.id,
        pbx=view.trunk.pbx,
        state=view.state,
        reason=view.reason,
        channels_in_use=view.channels_in_use,
        max_channels=view.trunk.max_channels,
        calls_per_second=None if speed is None else round(speed, 3),
        max_calls_per_second=view.trunk.max_calls_per_second,
        answer_seizure_ratio=None if ratio is None else round(ratio, 4),
    )


async def index(request: Request[Window, None]) -> Listing[TrunkOut]:
    """List the trunks: a tenant's own, in its order of choice, or all of them for a system key."""
    trunks, window, own = request.api.trunks, request.query, request.own_tenant
    names = list(trunks.names if own is None else own.trunks)
    shown = [render(view) for name in names if (view := trunks.view(name)) is not None]
    begin = window.offset
    if window.after is not None:
        begin += names.index(window.after) + 1 if window.after in names else len(names)
    part = shown[begin : begin + window.limit + 1]
    return Listing[TrunkOut].of(part, window, len(shown), [each.id for each in part])


async def pause(request: Request[NoQuery, PauseIn]) -> TrunkOut:
    """Let a trunk carry no new calls until it is resumed, over restarts too; calls in flight finish."""
    found = _found(request)
    await request.api.trunks.pause(found.trunk.id, request.body.reason)
    return render(_found(request))


async def resume(request: Request[NoQuery, None]) -> TrunkOut:
    """Let a trunk carry calls again."""
    found = _found(request)
    await request.api.trunks.resume(found.trunk.id)
    return render(_found(request))


def _found(request: Request[NoQuery, PauseIn] | Request[NoQuery, None]) -> TrunkView:
    view = request.api.trunks.view(request.raw.match_info["trunk_id"])
    if view is None:
        raise refuse(TRUNK_NOT_FOUND)
    return view


_ONE = "/trunks/{trunk_id}"
ROUTES: tuple[AnyRoute, ...] = (
    Route(
        "GET",
        "/trunks",
        Role.VIEWER,
        index,
        Window,
        NoBody(),
        Listing[TrunkOut],
        200,
        (INVALID_REQUEST,),
        for_system=True,
    ),
    Route(
        "POST",
        f"{_ONE}/pause",
        Role.SYSTEM,
        pause,
        NoQuery,
        JsonBody(PauseIn, optional=True),
        TrunkOut,
        200,
        (INVALID_REQUEST, TRUNK_NOT_FOUND),
    ),
    Route("POST", f"{_ONE}/resume", Role.SYSTEM, resume, NoQuery, NoBody(), TrunkOut, 200, (TRUNK_NOT_FOUND,)),
)
