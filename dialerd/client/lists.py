"""The smaller resources: do-not-call numbers, callbacks and keys."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from dialerd.client import transfer
from dialerd.client.commands import Session, api_command, window
from dialerd.client.errors import ClientError
from dialerd.client.text import moment, more, printable, table


@click.group()
def dnc() -> None:
    """The do-not-call list: numbers that must not be called."""


@api_command(dnc, "list")
@window
async def list_numbers(session: Session, **query: Any) -> None:
    """List the numbers, in their order."""
    page = await session.api.ask("GET", "dnc", query=query)
    rows = [[each["phone_number"], moment(each["created_at"]), each["note"]] for each in page["data"]]
    session.show(page, lambda: [*table(["NUMBER", "SINCE", "NOTE"], rows), *more(page, "numbers")])


@api_command(dnc, "add")
@click.argument("numbers", nargs=-1, required=True)
@click.option("--note", help="Why, or who said so.")
async def add_numbers(session: Session, numbers: Sequence[str], note: str | None) -> None:
    """Put numbers on the list; their pending contacts are cancelled at once."""
    report = await session.api.ask("POST", "dnc", body={"numbers": list(numbers), "note": note})
    session.show(report, lambda: _excluded(report))
    _fail_if_invalid(report)


@api_command(dnc, "remove")
@click.argument("number")
async def remove_number(session: Session, number: str) -> None:
    """Take a number off the list; contacts that were cancelled for it stay so."""
    await session.api.ask("DELETE", "dnc", number)
    session.done(f"{number} is off the list")


@api_command(dnc, "import")
@click.argument("file")
async def import_numbers(session: Session, file: str) -> None:
    """Put the numbers of a CSV file (phone_number, note) on the list; - reads standard input."""
    with transfer.to_be_sent(file) as (source, _):
        report = await session.api.ask("POST", "dnc", data=source)
    session.show(report, lambda: _excluded(report))
    _fail_if_invalid(report)


def _excluded(report: Any) -> list[str]:
    lines = [f"{report['added']} added, {report['duplicates']} on the list already, {report['invalid']} invalid"]
    for each in report["errors"]:
        row = f"row {each['row']}: " if each["row"] is not None else ""
        lines.append(f"  {row}{printable(each['value'])}: {each['message']}")
    return lines


def _fail_if_invalid(report: Any) -> None:
    # Whoever asked not to be called and is not on the list would be called.
    if report["invalid"]:
        raise ClientError(f"{report['invalid']} of them are no numbers, and not on the list")


@click.group()
def callbacks() -> None:
    """Callbacks: calls that were promised for a time."""


@api_command(callbacks, "list")
@click.argument("campaign")
@window
async def list_callbacks(session: Session, campaign: str, **query: Any) -> None:
    """List the pending callbacks, soonest first."""
    page = await session.api.ask("GET", "campaigns", campaign, "callbacks", query=query)
    rows = [
        [each["id"], moment(each["due_at"]), each["phone_number"], each["contact_id"], each["note"]]
        for each in page["data"]
    ]
    session.show(page, lambda: [*table(["ID", "DUE", "NUMBER", "CONTACT", "NOTE"], rows), *more(page, "callbacks")])


@api_command(callbacks, "create")
@click.argument("campaign")
@click.option("--number", "phone_number", help="Whom to call; a number that the campaign has not yet is added.")
@click.option("--contact", "contact_id", help="Or a contact of the campaign, by its id.")
@click.option("--due", "due_at", required=True, help="When, with its offset: 2026-03-05T16:30:00Z or …T17:30:00+01:00.")
@click.option("--note", help="What was promised.")
async def create_callback(session: Session, campaign: str, **given: Any) -> None:
    """Promise a callback: dialled at its time, ahead of all else."""
    if (given["phone_number"] is None) == (given["contact_id"] is None):
        raise click.UsageError("give --number or --contact")
    body = {name: value for name, value in given.items() if value is not None}
    made = await session.api.ask("POST", "campaigns", campaign, "callbacks", body=body)
    line = f"callback {made['id']}: {made['phone_number']} at {moment(made['due_at'])}"
    session.show(made, lambda: [line])


@api_command(callbacks, "cancel")
@click.argument("campaign")
@click.argument("callback")
async def cancel_callback(session: Session, campaign: str, callback: str) -> None:
    """Withdraw a callback."""
    await session.api.ask("DELETE", "campaigns", campaign, "callbacks", callback)
    session.done(f"callback {callback} is withdrawn")


def add_keys(keys: click.Group) -> None:
    """Add the API's commands to the group of keys, which has one of its own for the store."""
    api_command(keys, "list")(_list_keys)
    api_command(keys, "delete")(_delete_key)


@window
async def _list_keys(session: Session, **query: Any) -> None:
    """List the keys, without their secrets."""
    page = await session.api.ask("GET", "keys", query=query)
    rows = [
        [each["id"], each["tenant"], each["role"], each["name"], moment(each["created_at"])] for each in page["data"]
    ]
    session.show(page, lambda: [*table(["ID", "TENANT", "ROLE", "NAME", "CREATED"], rows), *more(page, "keys")])


@click.argument("key_id")
async def _delete_key(session: Session, key_id: str) -> None:
    """Delete a key. It opens nothing from then on."""
    await session.api.ask("DELETE", "keys", key_id)
    session.done(f"key {key_id} is deleted")


async def create_key(session: Session, tenant: str | None, role: str, name: str) -> None:
    """Make a key over the API, and print it alone."""
    made = await session.api.ask("POST", "keys", body={"name": name, "role": role, "tenant": tenant})
    session.show(made, lambda: [made["key"]])
