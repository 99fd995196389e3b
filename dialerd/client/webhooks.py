"""Webhooks on the command line: endpoints that are told of events, and what became of each delivery."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from dialerd.client.changes import clearing, to_change
from dialerd.client.commands import Session, api_command, window
from dialerd.client.errors import ClientError
from dialerd.client.text import moment, more, printable, table


@click.group()
def webhooks() -> None:
    """Webhooks: endpoints that are told of events over HTTP."""


@api_command(webhooks, "list")
@window
async def list_webhooks(session: Session, **query: Any) -> None:
    """List the webhooks."""
    page = await session.api.ask("GET", "webhooks", query=query)
    rows = [
        [each["id"], each["status"], ",".join(each["events"]) or "all", each["campaign_id"], each["url"]]
        for each in page["data"]
    ]
    session.show(page, lambda: [*table(["ID", "STATUS", "EVENTS", "CAMPAIGN", "URL"], rows), *more(page, "webhooks")])


@api_command(webhooks, "create")
@click.argument("endpoint", metavar="URL")
@click.option("--event", "events", multiple=True, help="A kind of event, as tail names it; may be repeated. [all]")
@click.option("--campaign", "campaign_id", help="Only the events of this campaign.")
@click.option("--description", help="What it is for.")
async def create_webhook(session: Session, endpoint: str, events: Sequence[str], **given: Any) -> None:
    """Make a webhook, told of what happens from now on, and print its secret, which is never shown again."""
    made = await session.api.ask("POST", "webhooks", body={"url": endpoint, **given, "events": list(events)})
    session.show(made, lambda: [f"webhook {made['id']} is made", f"secret: {made['secret']}"])


@api_command(webhooks, "show")
@click.argument("webhook")
async def show_webhook(session: Session, webhook: str) -> None:
    """Show a webhook, and why it is switched off where it is."""
    session.show(found := await session.api.ask("GET", "webhooks", webhook), lambda: _lines(found))


@api_command(webhooks, "update")
@click.argument("webhook")
@click.option("--to", "endpoint", metavar="URL", help="Where it is told from now on.")
@click.option("--description", help="What it is for.")
@click.option("--event", "events", multiple=True, help="Only this kind of event; may be repeated.")
@clearing("description", "events")
async def update_webhook(
    session: Session, webhook: str, endpoint: str | None, cleared: Sequence[str], **given: Any
) -> None:
    """Change a webhook. The events that are given take the place of those before; cleared, it is told of all."""
    body = to_change({"url": endpoint, **given}, cleared)
    session.show(changed := await session.api.ask("PATCH", "webhooks", webhook, body=body), lambda: _lines(changed))


@api_command(webhooks, "enable")
@click.argument("webhook")
@click.option("--after", help="Go on after the event with this id. [from now on]")
async def enable_webhook(session: Session, webhook: str, after: str | None) -> None:
    """Enable a webhook again."""
    body = {"status": "enabled"} | ({} if after is None else {"after": after})
    session.show(changed := await session.api.ask("PATCH", "webhooks", webhook, body=body), lambda: _lines(changed))


@api_command(webhooks, "disable")
@click.argument("webhook")
async def disable_webhook(session: Session, webhook: str) -> None:
    """Tell a webhook nothing more until it is enabled again."""
    body = {"status": "disabled"}
    session.show(changed := await session.api.ask("PATCH", "webhooks", webhook, body=body), lambda: _lines(changed))


@api_command(webhooks, "rotate-secret")
@click.argument("webhook")
async def rotate_secret(session: Session, webhook: str) -> None:
    """Give a webhook a new secret and print it; the old one signs beside it for 24 hours more."""
    # The wish for a secret, and none.
    body = {"rotate_secret": True}  # nosec B105
    changed = await session.api.ask("PATCH", "webhooks", webhook, body=body)
    session.show(changed, lambda: [f"secret: {changed['secret']}"])


@api_command(webhooks, "delete")
@click.argument("webhook")
async def delete_webhook(session: Session, webhook: str) -> None:
    """Delete a webhook with what is known of its deliveries."""
    await session.api.ask("DELETE", "webhooks", webhook)
    session.done(f"webhook {webhook} is deleted")


@api_command(webhooks, "deliveries")
@click.argument("webhook")
@click.option("--status", type=click.Choice(["retrying", "waiting", "delivered", "failed"]), help="Only these.")
@window
async def list_deliveries(session: Session, webhook: str, **query: Any) -> None:
    """List the deliveries of a webhook, newest event first."""
    page = await session.api.ask("GET", "webhooks", webhook, "deliveries", query=query)
    rows = [
        [
            *(each["id"], each["event"], each["status"], each["attempts"], each["status_code"]),
            *(moment(each["last_attempt_at"]), moment(each["next_attempt_at"]), each["error"]),
        ]
        for each in page["data"]
    ]
    head = ["ID", "EVENT", "STATUS", "ATTEMPTS", "CODE", "LAST", "NEXT", "ERROR"]
    session.show(page, lambda: [*table(head, rows), *more(page, "deliveries")])


@api_command(webhooks, "redeliver")
@click.argument("webhook")
@click.argument("delivery")
async def redeliver(session: Session, webhook: str, delivery: str) -> None:
    """Send a delivery once more, now and out of its turn."""
    told = await session.api.ask("POST", "webhooks", webhook, "deliveries", delivery, "redeliver")
    session.show(told, lambda: [_told(told)])
    _fail_unless_told(told)


@api_command(webhooks, "test")
@click.argument("webhook")
async def test_webhook(session: Session, webhook: str) -> None:
    """Send a message of the type test, and tell what the endpoint made of it."""
    told = await session.api.ask("POST", "webhooks", webhook, "test")
    session.show(told, lambda: [f"{_told(told)}, after {told['seconds']:.3f} s"])
    _fail_unless_told(told)


def _lines(webhook: Any) -> list[str]:
    scope = "all campaigns" if webhook["campaign_id"] is None else f"campaign {webhook['campaign_id']}"
    lines = [
        f"id           {webhook['id']}",
        f"url          {printable(webhook['url'])}",
        f"description  {printable(webhook['description'] or '')}",
        f"events       {', '.join(webhook['events']) or 'all'}, of {scope}",
        f"status       {webhook['status']}",
    ]
    if webhook["disabled_reason"] is not None:
        lines.append(f"reason       {printable(webhook['disabled_reason'])}")
    if webhook["failing_since"] is not None:
        lines.append(f"failing      since {moment(webhook['failing_since'])}")
    return lines


def _told(told: Any) -> str:
    if told["error"] is not None:
        return f"not delivered: {printable(told['error'])}"
    return f"delivered: the answer was {told['status_code']}"


def _fail_unless_told(told: Any) -> None:
    if told["error"] is not None:
        raise ClientError("the endpoint did not take it")
