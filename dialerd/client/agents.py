"""dialerd agents: where answered calls go."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from dialerd.client.changes import clearing, to_change
from dialerd.client.commands import Session, api_command, window
from dialerd.client.errors import ClientError
from dialerd.client.text import fields, more, printable, table

_PAGE = 1000
_FIELDS = {"dialplan": ("context", "exten", "priority"), "queue": ("queue",), "application": ("application", "data")}


@click.group()
def agents() -> None:
    """Agents: where answered calls go."""


_agent = click.argument("agent")


def _place_options(function: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option("--max-calls", type=int, help="Calls that it takes at once."),
        click.option("--application", metavar="NAME[,DATA]", help="Or an application that the configuration allows."),
        click.option("--queue", help="Or a queue of the PBX."),
        click.option("--dialplan", metavar="CONTEXT,EXTEN[,PRIORITY]", help="A place in the dialplan."),
    ):
        function = option(function)
    return function


@api_command(agents, "list")
@window
async def list_agents(session: Session, **query: Any) -> None:
    """List the agents."""
    page = await session.api.ask("GET", "agents", query=query)
    rows = [
        [each["id"], each["name"], each["kind"], _place(each), each["max_concurrent_calls"]] for each in page["data"]
    ]
    session.show(page, lambda: [*table(["ID", "NAME", "KIND", "PLACE", "MAX CALLS"], rows), *more(page, "agents")])


@api_command(agents, "show")
@_agent
async def show_agent(session: Session, agent: str) -> None:
    """Show one agent, by its id or its name."""
    found = await session.api.ask("GET", "agents", str(await agent_id(session, agent)))
    session.show(found, lambda: _shown(found))


@api_command(agents, "create")
@click.argument("name")
@_place_options
async def create_agent(session: Session, name: str, max_calls: int | None, **place: str | None) -> None:
    """Make an agent."""
    given = _read_place(**place)
    if not given:
        raise click.UsageError("give one of --dialplan, --queue and --application")
    body = {"name": name, "max_concurrent_calls": max_calls, **given}
    made = await session.api.ask("POST", "agents", body=body)
    session.show(made, lambda: [f"agent {made['id']}: {printable(_place(made))}"])


@api_command(agents, "update")
@_agent
@click.option("--name", help="What it is called from now on.")
@_place_options
@clearing("max-calls")
async def update_agent(
    session: Session, agent: str, name: str | None, max_calls: int | None, cleared: tuple[str, ...], **place: str | None
) -> None:
    """Change an agent, by its id or its name: calls are handed to it as it then is."""
    body = to_change({"name": name, "max_calls": max_calls} | _read_place(**place), cleared)
    if "max_calls" in body:
        body["max_concurrent_calls"] = body.pop("max_calls")
    changed = await session.api.ask("PATCH", "agents", str(await agent_id(session, agent)), body=body)
    session.show(changed, lambda: _shown(changed))


@api_command(agents, "delete")
@_agent
async def delete_agent(session: Session, agent: str) -> None:
    """Delete an agent, by its id or its name, that no unfinished campaign uses."""
    await session.api.ask("DELETE", "agents", str(await agent_id(session, agent)))
    session.done(f"agent {agent} is deleted")


async def agent_id(session: Session, wanted: str | None) -> str | None:
    """The id of an agent that was named by its id or its name. Raises ClientError where the name is ambiguous."""
    if wanted is None:
        return None
    after, named = None, []
    while True:
        page = await session.api.ask("GET", "agents", query={"limit": _PAGE, "after": after})
        if any(each["id"] == wanted for each in page["data"]):
            return wanted
        named += [each["id"] for each in page["data"] if each["name"] == wanted]
        after = page["next"]
        if after is None:
            break
    if len(named) > 1:
        raise ClientError(f"several agents are called {wanted!r}: {', '.join(named)}")
    # What is no agent's name goes as it is: the daemon says that there is none.
    return named[0] if named else wanted


def _read_place(dialplan: str | None, queue: str | None, application: str | None) -> dict[str, Any]:
    """The fields of the one place that was given; none where none was. Raises click.UsageError."""
    if sum(each is not None for each in (dialplan, queue, application)) > 1:
        raise click.UsageError("give one of --dialplan, --queue and --application")
    if dialplan is not None:
        parts = dialplan.split(",")
        if len(parts) not in (2, 3) or (len(parts) == 3 and not parts[2].isdecimal()):
            raise click.UsageError("--dialplan wants CONTEXT,EXTEN or CONTEXT,EXTEN,PRIORITY")
        priority = int(parts[2]) if len(parts) == 3 else 1
        return {"kind": "dialplan", "context": parts[0], "exten": parts[1], "priority": priority}
    if queue is not None:
        return {"kind": "queue", "queue": queue}
    if application is not None:
        called, _, data = application.partition(",")
        return {"kind": "application", "application": called, "data": data or None}
    return {}


def _place(agent: Any) -> str:
    values = (agent.get(name) for name in _FIELDS.get(agent["kind"], ()))
    return ",".join(str(value) for value in values if value is not None)


def _shown(agent: Any) -> list[str]:
    known = [(name, agent[name]) for name in ("id", "name", "kind")]
    return fields([*known, ("place", _place(agent)), ("max calls", agent["max_concurrent_calls"])])
