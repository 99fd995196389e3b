"""dialerd campaigns: made from a file, listed, shown, and taken through their states."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import click

from dialerd.client import explain, transfer
from dialerd.client.agents import agent_id
from dialerd.client.changes import clearing, read_settings, settings_as_json, to_change
from dialerd.client.commands import Session, api_command
from dialerd.client.text import fields, moment, percent, printable, table, to_json

STATUSES = ("draft", "active", "paused", "completed", "cancelled")
SORTS = ("created_at", "-created_at", "name", "-name", "started_at", "-started_at")
CONTACT_STATUSES = ("pending", "originated", "connected", "completed", "failed", "cancelled")
_OWN_OPTIONS = ("name", "description", "agent_id", "contacts", "on_invalid")


@click.group()
def campaigns() -> None:
    """Campaigns: lists of contacts with their settings."""


_campaign = click.argument("campaign")


@api_command(campaigns, "list")
@click.option("--status", type=click.Choice(STATUSES), help="Only those in this state.")
@click.option("--agent", help="Only those of this agent: its id, or its name.")
@click.option("-q", "--search", help="A part of the name or the description.")
@click.option("--sort", type=click.Choice(SORTS), default="-created_at", show_default=True)
@click.option("--page", type=int, default=1, show_default=True)
@click.option("--per-page", type=int, default=50, show_default=True, help="At most 200.")
async def list_campaigns(session: Session, **given: Any) -> None:
    """List campaigns, newest first."""
    query = {"q": given.pop("search"), "agent_id": await agent_id(session, given.pop("agent")), **given}
    page = await session.api.ask("GET", "campaigns", query=query)
    session.show(page, lambda: _listed(page))


def _listed(page: Any) -> list[str]:
    rows = []
    for each in page["data"]:
        stats = each["stats"]
        rows.append(
            [
                *(each["id"], each["name"], each["status"]),
                *(stats[name] for name in ("total", "pending", "calls_in_flight", "completed", "failed")),
                percent(stats["answer_rate"]),
                moment(stats["estimated_completion_at"]),
            ]
        )
    header = ["ID", "NAME", "STATUS", "TOTAL", "PENDING", "IN FLIGHT", "COMPLETED", "FAILED", "ANSWERED", "ENDS ABOUT"]
    where = page["pagination"]
    last = [f"page {where['page']} of {where['total_pages']}, {where['total']} campaigns"]
    return [*table(header, rows), *(last if where["total_pages"] > 1 else [])]


@api_command(campaigns, "create")
@click.option("--name", required=True, help="What it is called.")
@click.option("--contacts", help="A CSV file with a column phone_number; - reads standard input.")
@click.option("--agent", help="Where answered calls go: an agent's id or name. Without: the tenant's default agent.")
@click.option("--description")
@click.option("--setting", "settings", multiple=True, metavar="NAME=VALUE", help="A setting; may be given many times.")
@click.option(
    "--on-invalid", type=click.Choice(["skip", "reject"]), help="What a bad row does: itself left out, or all."
)
async def create(
    session: Session, contacts: str | None, agent: str | None, settings: Sequence[str], **own: Any
) -> None:
    """Make a campaign in draft, with its contacts from a CSV file.

    A setting's value is written as in the API: --setting concurrent_calls=20 --setting calling_days=mon,tue,wed. Lists
    are separated by commas, tables are JSON.
    """
    import aiohttp

    given = {"agent_id": await agent_id(session, agent), **own, **read_settings(settings, _OWN_OPTIONS)}
    form = aiohttp.FormData(default_to_multipart=True)
    for name, value in given.items():
        if value is not None:
            form.add_field(name, value)
    if contacts is None:
        made = await session.api.ask("POST", "campaigns", data=form)
    else:
        with transfer.to_be_sent(contacts) as (source, name):
            form.add_field("contacts", source, filename=name, content_type="text/csv")
            made = await session.api.ask("POST", "campaigns", data=form)
    session.show(made, lambda: [f"campaign {made['id']} is made, in draft", *imported(made["id"], made["import"])])


def imported(campaign: str, report: Any) -> list[str]:
    """What became of an upload."""
    if report is None:
        return []
    names = {
        "added": "added",
        "duplicates": "duplicates",
        "invalid": "invalid",
        "do_not_call": "on the do-not-call list",
    }
    lines = [", ".join(f"{report[key]} {words}" for key, words in names.items())]
    for each in report["errors"]:
        row = f"row {each['row']}" if each["row"] is not None else "a row"
        lines.append(f"  {row}: {printable(each['value'])}: {each['message']}")
    if report["invalid"] > len(report["errors"]):
        lines.append(f"  all of them: dialerd results {campaign} --rejects {report['import_id']}")
    return lines


@api_command(campaigns, "show")
@_campaign
async def show(session: Session, campaign: str) -> None:
    """Show one campaign with its statistics."""
    found = await session.api.ask("GET", "campaigns", campaign)
    session.show(found, lambda: _shown(found))


def _shown(found: Any) -> list[str]:
    stats = found["stats"]
    outcomes = ", ".join(f"{count} {name}" for name, count in stats["outcomes"].items() if count)
    return fields(
        [
            *((name, found[name]) for name in ("id", "name", "description", "status", "agent_id")),
            *((name, moment(found[name])) for name in ("created_at", "started_at", "completed_at")),
            ("contacts", ", ".join(f"{stats[name]} {name}" for name in ("total", *CONTACT_STATUSES))),
            ("calls", f"{stats['calls_placed']} placed, {stats['calls_in_flight']} in flight"),
            ("outcomes", outcomes),
            ("answer_rate", percent(stats["answer_rate"])),
            ("abandon_rate", percent(stats["abandon_rate"])),
            ("average_talk", f"{stats['average_talk_seconds']:.0f} s"),
            ("ends about", moment(stats["estimated_completion_at"])),
        ]
    )


@api_command(campaigns, "update")
@_campaign
@click.option("--name", help="What it is called from now on.")
@click.option("--description")
@click.option("--agent", help="Where answered calls go from now on: an agent's id or name.")
@click.option(
    "--setting",
    "settings",
    multiple=True,
    metavar="NAME=VALUE",
    help="A setting; NAME= takes it away.",
)
@clearing("description")
async def update(
    session: Session, campaign: str, agent: str | None, settings: Sequence[str], cleared: Sequence[str], **given: Any
) -> None:
    """Change a campaign that is not finished: one that is running obeys from its next call on.

    Settings that are not given stay as they are; their values are written as for create.
    """
    typed = settings_as_json(read_settings(settings, _OWN_OPTIONS))
    body = to_change({**given, "agent_id": agent, "settings": typed or None}, cleared)
    if agent is not None:
        body["agent_id"] = await agent_id(session, agent)
    changed = await session.api.ask("PATCH", "campaigns", campaign, body=body)
    session.show(changed, lambda: [f"campaign {changed['id']} is changed", *_settings_of(changed, typed)])


def _settings_of(campaign: Any, names: Iterable[str]) -> list[str]:
    return fields([(name, to_json(campaign["settings"][name], indent=None)) for name in names])


@api_command(campaigns, "delete")
@_campaign
async def delete(session: Session, campaign: str) -> None:
    """Delete a campaign that is not active, with its contacts and results. Calls in flight finish."""
    await session.api.ask("DELETE", "campaigns", campaign)
    session.done(f"campaign {campaign} is deleted")


def _transition(action: str, does: str) -> None:
    @api_command(campaigns, action)
    @_campaign
    async def act(session: Session, campaign: str) -> None:
        gone = await session.api.ask("POST", "campaigns", campaign, action)
        session.show(gone, lambda: _gone(gone))

    act.help = does


def _gone(campaign: Any) -> list[str]:
    lines = [f"campaign {campaign['id']} is {campaign['status']}"]
    return lines + [f"warning: {printable(each)}" for each in campaign.get("warnings", [])]


_transition("start", "Start a campaign that is draft or paused. What keeps it silent now is told.")
_transition("pause", "Pause an active campaign: no new calls, and calls in flight finish.")
_transition("resume", "Resume a paused campaign.")


@api_command(campaigns, "stop")
@_campaign
@click.option("--hangup", is_flag=True, help="Hang up the calls in flight, too.")
async def stop(session: Session, campaign: str, hangup: bool) -> None:
    """Stop a campaign for good: what is pending is cancelled."""
    stopped = await session.api.ask("POST", "campaigns", campaign, "stop", body={"hangup": hangup})
    session.show(stopped, lambda: _gone(stopped))


@api_command(campaigns, "explain")
@_campaign
async def explain_campaign(session: Session, campaign: str) -> None:
    """Explain why calls are, or are not, going out now."""
    told = await session.api.ask("GET", "campaigns", campaign, "explain")
    session.show(told, lambda: explain.lines(told))
