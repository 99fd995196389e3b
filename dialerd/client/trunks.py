"""dialerd trunks: the ways out, as they are now; and pausing one."""

from __future__ import annotations

from typing import Any

import click

from dialerd.client.commands import Session, api_command
from dialerd.client.text import known, more, percent, printable, table


@click.group()
def trunks() -> None:
    """Trunks: the ways out, which the daemon's configuration names."""


_trunk = click.argument("trunk")


@api_command(trunks, "list")
@click.option("--limit", type=int, help="So many at most.")
@click.option("--after", help="Those after this one.")
async def list_trunks(session: Session, **query: Any) -> None:
    """List the trunks: a tenant's own, or with a system key all of them."""
    page = await session.api.ask("GET", "trunks", query=query)
    rows = [
        [
            *(each["id"], each["pbx"], each["state"]),
            f"{known(each['channels_in_use'])}/{each['max_channels']}",
            f"{known(each['calls_per_second'])}/{each['max_calls_per_second']:g}",
            percent(each["answer_seizure_ratio"]),
            each["reason"],
        ]
        for each in page["data"]
    ]
    header = ["TRUNK", "PBX", "STATE", "CHANNELS", "CALLS/S", "ANSWERED", "WHY"]
    session.show(page, lambda: [*table(header, rows), *more(page, "trunks")])


@api_command(trunks, "pause")
@_trunk
@click.option("--reason", help="Why: explain shows it to everybody whose calls it keeps back.")
async def pause(session: Session, trunk: str, reason: str | None) -> None:
    """Let a trunk carry no new calls until it is resumed, over restarts too; calls in flight finish. (System key.)"""
    body = None if reason is None else {"reason": reason}
    found = await session.api.ask("POST", "trunks", trunk, "pause", body=body)
    session.show(found, lambda: _state(found))


@api_command(trunks, "resume")
@_trunk
async def resume(session: Session, trunk: str) -> None:
    """Let a trunk carry calls again; one that is suspended is tried at once. (System key.)"""
    found = await session.api.ask("POST", "trunks", trunk, "resume")
    session.show(found, lambda: _state(found))


def _state(found: Any) -> list[str]:
    why = "" if found["reason"] is None else f": {printable(found['reason'])}"
    return [f"trunk {found['id']} is {found['state']}{why}"]
