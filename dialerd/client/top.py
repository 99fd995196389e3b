"""dialerd top: what goes on now, on the whole screen: trunks, tenants, campaigns, rates and slots."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click

from dialerd.client.commands import Session, api_command
from dialerd.client.errors import ClientError, Problem, Unreachable
from dialerd.client.text import known, moment, percent, printable, to_json

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

    from dialerd.client.api import Api
    from dialerd.clock import Clock

_MOST_CAMPAIGNS = 200
_MOST_TRUNKS = 1000
_FORBIDDEN = 403
_SLOTS = re.compile(
    r'^dialerd_slots_(?P<what>used|limit)\{level="tenant",name="(?P<name>(?:[^"\\]|\\.)*)"\} (?P<value>\S+)$',
    re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What was seen at one moment. A list that the key may not see is None."""

    at: float
    """Monotonic seconds."""
    trunks: Any
    campaigns: Any
    """A tenant's own, those that are active."""
    tenants: Any
    """All of them, for a system key."""
    tenant_slots: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """By tenant, slots used and allowed; of the daemon's metrics."""

    def to_json(self) -> dict[str, Any]:
        """The API's own answers, side by side."""
        return {"trunks": self.trunks, "campaigns": self.campaigns, "tenants": self.tenants}


def add(main: click.Group) -> None:
    """Add the command."""
    api_command(main, "top")(_top)


@click.option(
    "--interval", type=click.FloatRange(min=0.2), default=1.0, show_default=True, help="Seconds between looks."
)
@click.option("--once", is_flag=True, help="Look once and end; so it does, too, where the output is no terminal.")
async def _top(session: Session, interval: float, once: bool) -> None:
    """Watch trunks, tenants and campaigns on the whole screen. Ctrl-C ends it.

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
    first = await look(session.api, clock)
    if once or not sys.stdout.isatty():
        from rich.console import Console

        Console(highlight=False).print(render(first, None, None))
        return
    await watch(session.api, clock, first, interval)


async def watch(api: Api, clock: Clock, snapshot: Snapshot, interval: float) -> None:
    """Show one look after another until the task is cancelled. Raises ClientError for what no later look would mend."""
    from rich.live import Live

    earlier, trouble = None, None
    with Live(render(snapshot, None, None), screen=True, auto_refresh=False) as screen:
        while True:
            await clock.sleep(interval)
            try:
                earlier, snapshot = snapshot, await look(api, clock)
                trouble = None
            except Unreachable as error:
                # What was last seen stays, and says that it is old.
                trouble = str(error)
            if (task := asyncio.current_task()) is not None and task.cancelling():
                # Ctrl-C, which the request under way took for a failure of its own.
                raise asyncio.CancelledError
            screen.update(render(snapshot, earlier, trouble), refresh=True)


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


def render(snapshot: Snapshot, earlier: Snapshot | None, trouble: str | None) -> Group:
    """The screen. ``earlier`` is the look before, for rates; ``trouble`` is why this one is old."""
    from rich.console import Group
    from rich.text import Text

    parts: list[Any] = [Text(headline(snapshot), style="bold")]
    if trouble is not None:
        parts.append(Text(f"NO CONNECTION: {printable(trouble)}", style="bold red"))
    if snapshot.trunks is not None:
        parts += [Text(""), _trunks(snapshot.trunks["data"])]
    if snapshot.tenants is not None:
        parts += [Text(""), _tenants(snapshot)]
    if snapshot.campaigns is not None:
        parts += [Text(""), _campaigns(snapshot, earlier)]
    return Group(*parts)


def headline(snapshot: Snapshot) -> str:
    """Everything in one line."""
    parts = []
    if snapshot.trunks is not None:
        data = snapshot.trunks["data"]
        if any(each["state"] == "unknown" for each in data):
            parts.append("STANDBY: another daemon dials")
        else:
            parts.append(f"{sum(each['calls_per_second'] for each in data):.1f} calls/s")
            used, most = (sum(each[name] for each in data) for name in ("channels_in_use", "max_channels"))
            parts.append(f"{used} of {most} channels in use")
        if ill := sum(each["state"] not in ("up", "unknown") for each in data):
            parts.append(f"{ill} of {len(data)} trunks not up")
    if snapshot.campaigns is not None:
        parts.append(f"{snapshot.campaigns['pagination']['total']} active campaigns")
    return ", ".join(parts)


def _table(*columns: tuple[str, bool]) -> Table:
    from rich.table import Table

    made = Table(box=None, pad_edge=False, header_style="dim")
    for name, to_right in columns:
        made.add_column(name, justify="right" if to_right else "left", no_wrap=True)
    return made


def _trunks(data: Any) -> Table:
    made = _table(
        *(("TRUNK", False), ("PBX", False), ("STATE", False), ("CHANNELS", True), ("CALLS/S", True)),
        *(("ANSWERED", True), ("REASON", False)),
    )
    for each in data:
        _row(
            made,
            *(each["id"], each["pbx"], each["state"], f"{known(each['channels_in_use'])}/{each['max_channels']}"),
            f"{known(each['calls_per_second'], '.1f')}/{each['max_calls_per_second']:g}",
            *(percent(each["answer_seizure_ratio"]), each["reason"]),
            style=None if each["state"] == "up" else "red",
        )
    return made


def _tenants(snapshot: Snapshot) -> Table:
    made = _table(("TENANT", False), ("SLOTS", True), ("CALLS/S AT MOST", True), ("TRUNKS", False))
    for each in snapshot.tenants["data"]:
        used = snapshot.tenant_slots.get(each["id"])
        slots = f"{known(None if used is None else used[0])}/{each['max_concurrent_calls']}"
        _row(made, each["id"], slots, f"{each['max_calls_per_second']:g}", ", ".join(each["trunks"]))
    return made


def _campaigns(snapshot: Snapshot, earlier: Snapshot | None) -> Table:
    made = _table(
        *(("CAMPAIGN", False), ("NAME", False), ("IN FLIGHT", True), ("CALLS/S", True), ("CALLS", True)),
        *(("PENDING", True), ("DONE", True), ("ANSWERED", True), ("ENDS ABOUT", False)),
    )
    before = (
        {} if earlier is None or earlier.campaigns is None else {each["id"]: each for each in earlier.campaigns["data"]}
    )
    seconds = 0.0 if earlier is None else snapshot.at - earlier.at
    for each in sorted(snapshot.campaigns["data"], key=lambda one: (-one["stats"]["calls_in_flight"], one["name"])):
        stats, old = each["stats"], before.get(each["id"])
        rate = None
        if old is not None and seconds > 0:
            rate = f"{(stats['calls_placed'] - old['stats']['calls_placed']) / seconds:.1f}"
        done = sum(stats[name] for name in ("completed", "failed", "cancelled"))
        _row(
            made,
            *(each["id"], each["name"], f"{stats['calls_in_flight']}/{each['settings']['concurrent_calls']}", rate),
            *(stats["calls_placed"], stats["pending"], percent(done / stats["total"]) if stats["total"] else None),
            *(percent(stats["answer_rate"]), moment(stats["estimated_completion_at"])),
        )
    return made


def _row(made: Table, *values: object, style: str | None = None) -> None:
    from rich.text import Text

    # As text: what a campaign is called is no markup.
    made.add_row(*(Text(printable(value)) for value in values), style=style)
