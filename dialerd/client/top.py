"""dialerd top: what goes on now, on the whole screen: trunks, tenants, campaigns, rates and slots."""

from __future__ import annotations

import asyncio
import os
import re
from typing import TYPE_CHECKING, Any

import click

from dialerd.client import terminal
from dialerd.client.commands import Session, api_command
from dialerd.client.errors import ClientError, Problem, Unreachable
from dialerd.client.text import to_json
from dialerd.client.top_view import Snapshot, View

if TYPE_CHECKING:
    from rich.live import Live

    from dialerd.client.api import Api
    from dialerd.clock import Clock

_MOST_CAMPAIGNS = 200
_MOST_TRUNKS = 1000
_FORBIDDEN = 403
_FILE_COLUMNS = 1000
_PASSING = frozenset({429, 500, 502, 503, 504})
"""Answers that a later look may not get: the daemon starts, stops, or its store fails."""
_SLOTS = re.compile(
    r'^dialerd_slots_(?P<what>used|limit)\{level="tenant",name="(?P<name>(?:[^"\\]|\\.)*)"\} (?P<value>\S+)$',
    re.MULTILINE,
)


def add(main: click.Group) -> None:
    """Add the command."""
    api_command(main, "top")(_top)


@click.option(
    "--interval", type=click.FloatRange(min=0.2), default=1.0, show_default=True, help="Seconds between looks."
)
@click.option("--once", is_flag=True, help="Look once and end; so it does, too, where the output is no terminal.")
async def _top(session: Session, interval: float, once: bool) -> None:
    """Watch trunks, tenants and campaigns on the whole screen. q or Ctrl-C ends it.

    A tenant's key shows its trunks and active campaigns, a system key all trunks and tenants. With --json a line is
    printed for each look.
    """
    from dialerd.clock import SystemClock

    clock = SystemClock()
    if session.as_json:
        while True:
            snapshot = await look(session.api, clock)
            click.echo(to_json(snapshot.to_json(), indent=None))
            if once:
                return
            await clock.sleep(interval)
    from rich.console import Console

    first = await look(session.api, clock)
    console = Console(highlight=False)
    if once or not console.is_terminal or console.is_dumb_terminal:
        # A file is as wide as its lines.
        width = None if console.is_terminal or "COLUMNS" in os.environ else _FILE_COLUMNS
        console.print(View(first), width=width)
        return
    await _until_q(session.api, clock, first, interval)


async def _until_q(api: Api, clock: Clock, first: Snapshot, interval: float) -> None:
    from rich.live import Live

    quitted = asyncio.Event()
    screen = Live(View(first), screen=True, auto_refresh=False)

    def quit_() -> None:
        quitted.set()
        drawing.cancel()

    # The terminal before the screen: a key that is typed at the first sight of it is heard.
    with terminal.watched(on_quit=quit_, on_resize=screen.refresh), screen:
        drawing = asyncio.ensure_future(watch(api, clock, first, interval, screen))
        try:
            await drawing
        except asyncio.CancelledError:
            # Else it was Ctrl-C, which has an exit status of its own.
            if not quitted.is_set():
                raise


async def watch(api: Api, clock: Clock, snapshot: Snapshot, interval: float, screen: Live) -> None:
    """Show one look after another until the task is cancelled. Raises ClientError for what no later look would mend."""
    earlier, trouble = None, None
    while True:
        screen.update(View(snapshot, earlier, trouble), refresh=True)
        await clock.sleep(interval)
        try:
            earlier, snapshot = snapshot, await look(api, clock)
            trouble = None
        except (Unreachable, Problem) as error:
            if isinstance(error, Problem) and error.status not in _PASSING:
                raise
            # What was last seen stays, and says that it is old.
            trouble = str(error)
        if (task := asyncio.current_task()) is not None and task.cancelling():
            # Ctrl-C, which the request under way took for a failure of its own.
            raise asyncio.CancelledError


async def look(api: Api, clock: Clock) -> Snapshot:
    """Ask for everything once. Raises ClientError."""
    trunks = await _allowed(api, "trunks", limit=_MOST_TRUNKS)
    campaigns = await _allowed(api, "campaigns", status="active", per_page=_MOST_CAMPAIGNS)
    tenants = await _allowed(api, "tenants", limit=_MOST_TRUNKS)
    if trunks is None and campaigns is None:
        raise ClientError("this key may see neither trunks nor campaigns")
    slots = read_slots(await api.metrics()) if tenants is not None else {}
    return Snapshot(clock.mono(), trunks, campaigns, tenants, slots)


async def _allowed(api: Api, *path: str, **query: Any) -> Any:
    try:
        return await api.ask("GET", *path, query=query)
    except Problem as problem:
        if problem.status == _FORBIDDEN:
            return None
        raise


def read_slots(metrics: str) -> dict[str, tuple[float, float]]:
    """Slots used and allowed by tenant, from the daemon's metrics."""
    found: dict[str, dict[str, float]] = {}
    for each in _SLOTS.finditer(metrics):
        found.setdefault(each["name"], {})[each["what"]] = float(each["value"])
    return {name: (values.get("used", 0.0), values.get("limit", 0.0)) for name, values in found.items()}
