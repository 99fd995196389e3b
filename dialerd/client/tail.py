"""dialerd tail: a campaign's events as they happen, without gap or repeat over lost connections."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from dialerd.client.commands import Session, api_command
from dialerd.client.errors import Problem, Unreachable
from dialerd.client.sse import EventStream, ServerEvent
from dialerd.client.text import moment, printable, to_json

if TYPE_CHECKING:
    from dialerd.client.api import Api
    from dialerd.clock import Clock

KINDS = (
    *("originated", "ringing", "connected", "completed", "failed", "cancelled"),
    *("retry_scheduled", "callback_scheduled", "campaign"),
)
_ENDS = ("completed", "cancelled")
_SILENCE_SECONDS = 45.0
"""The daemon says something every 15 s; three times that, and the connection is dead."""
_CONNECT_SECONDS = 10.0
_RETRY_SECONDS = 2.0
_RETRY_MOST = 30.0
_RETRIABLE = 429


def add(main: click.Group) -> None:
    """Add the command."""
    api_command(main, "tail")(_tail)


@click.argument("campaigns", nargs=-1, required=True, metavar="CAMPAIGN...")
@click.option("--event", "kinds", multiple=True, type=click.Choice(KINDS), help="Only these; may be given many times.")
@click.option("--outcome", "outcomes", multiple=True, help="Only these outcomes; may be given many times.")
@click.option(
    "--after", type=click.IntRange(min=0), help="Begin behind this event's id; 0 tells all from the first on."
)
@click.option("--until-end", is_flag=True, help="End when every campaign is completed or cancelled.")
@click.option(
    "--patience",
    type=click.FloatRange(min=0),
    default=600.0,
    show_default=True,
    help="Seconds that a lost connection is tried again.",
)
async def _tail(
    session: Session,
    campaigns: Sequence[str],
    kinds: Sequence[str],
    outcomes: Sequence[str],
    after: int | None,
    until_end: bool,
    patience: float,
) -> None:
    """Follow what happens in campaigns, live. A lost connection is taken up where it broke."""
    from dialerd.clock import SystemClock

    clock = SystemClock()

    async def follow_one(campaign: str) -> None:
        events = follow(session.api, campaign, None if after is None else str(after), clock, patience, _tell)
        async with contextlib.aclosing(events):
            async for event in events:
                data = json.loads(event.data)
                if (not kinds or event.kind in kinds) and (not outcomes or data.get("outcome") in outcomes):
                    click.echo(_as_json(event, data) if session.as_json else line(event.kind, data))
                if until_end and event.kind == "campaign" and data["status"] in _ENDS:
                    return

    following = [asyncio.ensure_future(follow_one(each)) for each in dict.fromkeys(campaigns)]
    try:
        # The first failure ends all, as itself: it is one command.
        await asyncio.gather(*following)
    finally:
        for each in following:
            each.cancel()
        await asyncio.gather(*following, return_exceptions=True)


async def follow(
    api: Api, campaign: str, after: str | None, clock: Clock, patience: float, tell: Callable[[str], None]
) -> AsyncGenerator[ServerEvent, None]:
    """Every event of a campaign, from ``after`` on (None: from now on), over lost connections.

    ``tell`` hears of lost connections. Raises Problem, and Unreachable where there was no connection at all, or none
    for ``patience`` seconds.
    """
    place = _Place(after)
    lost_at: float | None = None
    delay = _RETRY_SECONDS
    while True:
        stream = EventStream(last_id=place.last_id)
        try:
            async with contextlib.aclosing(_connection(api, campaign, place, stream)) as events:
                async for event in events:
                    lost_at, delay = None, stream.retry_seconds or _RETRY_SECONDS
                    if event is not None:
                        yield event
            reason = "the daemon ended the stream"
        except (Problem, Unreachable) as error:
            final = isinstance(error, Problem) and error.status < 500 and error.status != _RETRIABLE
            if final or not place.connected:
                raise
            reason = str(error)
        if lost_at is None:
            lost_at = clock.mono()
            tell(f"connection lost ({reason}); trying again")
        elif clock.mono() - lost_at >= patience:
            raise Unreachable(f"no connection for {patience:g} s: {reason}")
        await clock.sleep(delay)
        delay = min(_RETRY_MOST, delay * 2)


@dataclass(slots=True)
class _Place:
    """Where in the stream we are."""

    last_id: str | None
    connected: bool = False
    """There was a connection once."""


async def _connection(
    api: Api, campaign: str, place: _Place, stream: EventStream
) -> AsyncGenerator[ServerEvent | None, None]:
    """The events of one connection; None first, when it stands. Raises Problem, Unreachable."""
    import aiohttp

    timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS, sock_read=_SILENCE_SECONDS)
    query = {"after": place.last_id}
    async with api.open("GET", "campaigns", campaign, "events", query=query, timeout=timeout) as answer:
        place.connected = True
        yield None
        async for chunk in answer.content.iter_any():
            try:
                events = stream.feed(chunk)
            except ValueError as error:
                raise Unreachable(f"the stream makes no sense: {error}") from None
            for event in events:
                place.last_id = event.id
                yield event
            # The stream opens with an id and no event: the place from which to go on.
            place.last_id = stream.last_id


def line(kind: str, data: Any) -> str:
    """An event for people."""
    parts = [moment(data["at"]) or "", f"{kind:<18}", data.get("phone_number") or f"campaign {data['campaign_id']}"]
    parts += [data[name] for name in ("status", "outcome", "reason") if data.get(name)]
    return "  ".join(printable(part) for part in parts)


def _as_json(event: ServerEvent, data: Any) -> str:
    return to_json({"id": event.id, "event": event.kind, **data}, indent=None)


def _tell(message: str) -> None:
    click.echo(f"dialerd: {printable(message)}", err=True)
