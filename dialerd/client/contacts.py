"""dialerd contacts and calls: listed, shown with their calls, added and cancelled."""

from __future__ import annotations

from typing import Any

import click

from dialerd.client import explain, transfer
from dialerd.client.campaigns import CONTACT_STATUSES, imported
from dialerd.client.commands import Session, api_command, window
from dialerd.client.text import fields, moment, more, table


@click.group()
def contacts() -> None:
    """Contacts of a campaign."""


@api_command(contacts, "list")
@click.argument("campaign")
@click.option("--status", type=click.Choice(CONTACT_STATUSES))
@click.option("--outcome", help="Of the last call, such as no_answer.")
@click.option(
    "-q", "--search", help="A part of the number or of the names; the beginning of a number is found fastest."
)
@click.option("--limit", type=int, default=50, show_default=True, help="At most 1000.")
@click.option("--after", help="Go on behind this contact.")
async def list_contacts(session: Session, campaign: str, search: str | None, **query: Any) -> None:
    """List contacts, in the order they were added."""
    page = await session.api.ask("GET", "campaigns", campaign, "contacts", query={"q": search, **query})
    session.show(page, lambda: _listed(page))


def _listed(page: Any) -> list[str]:
    header = ["ID", "NUMBER", "NAME", "STATUS", "ATTEMPTS", "LAST OUTCOME", "NEXT ATTEMPT"]
    rows = [
        [
            *(each["id"], each["phone_number"], " ".join(filter(None, (each["first_name"], each["last_name"])))),
            *(each["status"], each["attempts"], each["last_outcome"], moment(each["next_attempt_at"])),
        ]
        for each in page["data"]
    ]
    return [*table(header, rows), *more(page, "contacts")]


@api_command(contacts, "show")
@click.argument("campaign")
@click.argument("contact")
async def show(session: Session, campaign: str, contact: str) -> None:
    """Show one contact, its calls, and why it is, or is not, dialled now."""
    found = await session.api.ask("GET", "campaigns", campaign, "contacts", contact)
    session.show(found, lambda: _shown(found))


def _shown(found: Any) -> list[str]:
    names = ("id", "phone_number", "first_name", "last_name", "email", "company", "timezone", "external_id", "priority")
    known = [(name, found[name]) for name in names if found[name] is not None]
    known += [(name, value) for name, value in found["attributes"].items()]
    known += [(name, found[name]) for name in ("status", "attempts", "last_outcome")]
    known.append(("next_attempt_at", moment(found["next_attempt_at"])))
    header = ["ATTEMPT", "PLACED", "TRUNK", "OUTCOME", "FAULT", "CAUSE", "TALK SECONDS"]
    rows = [
        [
            *(each["attempt"], moment(each["originated_at"]), each["trunk"], each["outcome"], each["fault"]),
            *(each["hangup_cause"], each["talk_seconds"]),
        ]
        for each in found["calls"]
    ]
    return [
        *fields(known),
        "",
        *(table(header, rows) if rows else ["no calls yet"]),
        "",
        *explain.lines(found["explain"]),
    ]


@api_command(contacts, "add")
@click.argument("campaign")
@click.argument("file")
@click.option(
    "--on-invalid", type=click.Choice(["skip", "reject"]), help="What a bad row does: itself left out, or all."
)
async def add(session: Session, campaign: str, file: str, on_invalid: str | None) -> None:
    """Add the contacts of a CSV file; - reads standard input."""
    with transfer.to_be_sent(file) as (source, _):
        query = {"on_invalid": on_invalid}
        report = await session.api.ask("POST", "campaigns", campaign, "contacts", query=query, data=source)
    session.show(report, lambda: imported(campaign, report))


@api_command(contacts, "cancel")
@click.argument("campaign")
@click.argument("contact")
async def cancel(session: Session, campaign: str, contact: str) -> None:
    """Cancel a contact that is pending: it is not dialled."""
    await session.api.ask("DELETE", "campaigns", campaign, "contacts", contact)
    session.done(f"contact {contact} is cancelled")


@click.group()
def calls() -> None:
    """Calls: each attempt to reach a contact."""


@api_command(calls, "list")
@click.argument("campaign")
@click.option("--contact", "contact_id", help="Only those to this contact.")
@click.option("--outcome", help="Only those with this outcome, such as no_answer.")
@window
async def list_calls(session: Session, campaign: str, **query: Any) -> None:
    """List the calls of a campaign, in the order they were placed."""
    page = await session.api.ask("GET", "campaigns", campaign, "calls", query=query)
    header = ["PLACED", "NUMBER", "ATTEMPT", "TRUNK", "STATUS", "OUTCOME", "FAULT", "CAUSE", "SIP", "TALK SECONDS"]
    rows = [
        [
            *(moment(each["originated_at"]), each["phone_number"], each["attempt"], each["trunk"], each["status"]),
            *(each["outcome"], each["fault"], each["hangup_cause"], each["sip_status"], each["talk_seconds"]),
        ]
        for each in page["data"]
    ]
    session.show(page, lambda: [*table(header, rows), *more(page, "calls")])
