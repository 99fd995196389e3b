"""dialerd tenants: the dialer's customers, made and changed with a system key."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import click

from dialerd.client.changes import clearing, read_settings, settings_as_json, to_change
from dialerd.client.commands import Session, api_command, window
from dialerd.client.text import fields, more, table, to_json

_CLEARABLE = (
    *("default-agent", "default-region", "caller-ids", "allowed-prefixes"),
    *("max-calls-per-day", "max-calls-per-number", "settings"),
)


@click.group()
def tenants() -> None:
    """Tenants: customers of the dialer. All of it takes a system key."""


_tenant = click.argument("tenant")


def _limits(*, required: bool) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The options for what a tenant is; three of them a new one cannot do without."""

    def add(function: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(
            (
                click.option("--max-calls-per-second", type=float, required=required, help="Over all its campaigns."),
                click.option("--max-concurrent-calls", type=int, required=required, help="Over all its campaigns."),
                click.option(
                    *("--trunk", "trunks"),
                    multiple=True,
                    required=required,
                    help="A trunk that it may use, the first choice first; may be repeated.",
                ),
                click.option("--default-agent", help="The name of the agent of campaigns that name none."),
                click.option("--default-region", help="How national numbers are read, such as US."),
                click.option("--weight", type=float, help="Its share of a trunk that is scarce, beside others'."),
                click.option("--caller-id", "caller_ids", multiple=True, help="A number of its own; may be repeated."),
                click.option(
                    *("--allowed-prefix", "allowed_prefixes"),
                    multiple=True,
                    help="A beginning of the numbers that it may dial, such as +1; may be repeated.",
                ),
                click.option("--max-calls-per-day", type=int, help="Over all its campaigns."),
                click.option("--max-calls-per-number", type=int, help="In any --number-period-hours."),
                click.option("--number-period-hours", type=float, help="168 are a week."),
                click.option(
                    *("--setting", "settings"),
                    multiple=True,
                    metavar="NAME=VALUE",
                    help="A default of its campaigns' settings; may be repeated.",
                ),
            )
        ):
            function = option(function)
        return function

    return add


@api_command(tenants, "list")
@window
async def list_tenants(session: Session, **query: Any) -> None:
    """List the tenants."""
    page = await session.api.ask("GET", "tenants", query=query)
    rows = [
        [
            *(each["id"], each["max_concurrent_calls"], f"{each['max_calls_per_second']:g}", each["max_calls_per_day"]),
            *(",".join(each["trunks"]), "file" if each["configured_in_file"] else "API"),
        ]
        for each in page["data"]
    ]
    header = ["TENANT", "CALLS AT ONCE", "CALLS/S", "CALLS/DAY", "TRUNKS", "MADE IN"]
    session.show(page, lambda: [*table(header, rows), *more(page, "tenants")])


@api_command(tenants, "show")
@_tenant
async def show_tenant(session: Session, tenant: str) -> None:
    """Show one tenant."""
    found = await session.api.ask("GET", "tenants", tenant)
    session.show(found, lambda: _shown(found))


@api_command(tenants, "create")
@_tenant
@_limits(required=True)
async def create_tenant(session: Session, tenant: str, settings: Sequence[str], **given: Any) -> None:
    """Make a tenant. It takes effect at once; its first key: dialerd keys create --tenant."""
    typed = settings_as_json(read_settings(settings))
    body = to_change({"id": tenant, **given, "settings": typed or None}, ())
    made = await session.api.ask("POST", "tenants", body=body)
    session.show(made, lambda: [f"tenant {made['id']} is made"])


@api_command(tenants, "update")
@_tenant
@_limits(required=False)
@clearing(*_CLEARABLE)
async def update_tenant(
    session: Session, tenant: str, settings: Sequence[str], cleared: Sequence[str], **given: Any
) -> None:
    """Change a tenant that the configuration file has not: the next call obeys.

    What may be repeated takes the place of what was there, but for settings: those that are not given stay, and NAME=
    takes one away.
    """
    typed = settings_as_json(read_settings(settings))
    body = to_change({**given, "settings": typed or None}, cleared)
    if typed:
        # The API replaces them as a whole.
        found = await session.api.ask("GET", "tenants", tenant)
        both = {**found["settings"], **typed}
        body["settings"] = {name: value for name, value in both.items() if value is not None}
    elif "settings" in body:
        body["settings"] = {}
    changed = await session.api.ask("PATCH", "tenants", tenant, body=body)
    session.show(changed, lambda: _shown(changed))


def _shown(tenant: Any) -> list[str]:
    def written(value: Any) -> Any:
        return ", ".join(value) if isinstance(value, list) else value

    own = [(name, written(value)) for name, value in tenant.items() if name not in ("settings", "configured_in_file")]
    where = "the configuration file: it is changed there" if tenant["configured_in_file"] else "the API"
    return fields([*own, ("made in", where), ("settings", to_json(tenant["settings"], indent=None))])
