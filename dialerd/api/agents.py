"""/agents: the places that answered calls are handed to."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    RootModel,
    SerializerFunctionWrapHandler,
    StringConstraints,
    model_serializer,
)

from dialerd.api.bodies import JsonBody, NoBody
from dialerd.api.context import Api, Request
from dialerd.api.fields import Change, In, Listing, Name, NoQuery, NotNull, Out, Window, validate
from dialerd.api.problems import AGENT_IN_USE, AGENT_NOT_FOUND, INVALID_REQUEST, refuse, unfit
from dialerd.api.routes import AnyRoute, Route
from dialerd.clock import read_id, show_id
from dialerd.core.model import Agent, AgentKind
from dialerd.dispatch.errors import FieldError
from dialerd.store import agents, campaigns
from dialerd.store.keys import Role
from dialerd.store.tx import Tx


def _no_expression(value: str) -> str:
    if "${" in value or "$[" in value:
        raise ValueError("must not hold ${ or $[: a PBX would evaluate it")
    return value


# What an extension, a context or a queue may be called: nothing in it separates arguments or starts an expression.
_Word = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.*#+-]{1,79}$")]
_Queue = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.*#+@-]{1,79}$")]
"""mod_callcenter's queues are named like sales@default."""
_Application = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,62}$")]
_Data = Annotated[str, StringConstraints(max_length=500), AfterValidator(_no_expression)]
_Calls = Annotated[int, Field(ge=1, le=100_000)]
_Priority = Annotated[int, Field(ge=1, le=10_000)]


class _Common(In):
    name: Name
    max_concurrent_calls: _Calls | None = None


class DialplanAgent(_Common):
    """Answered calls go to an extension of the dialplan, in a context that the configuration allows."""

    kind: Literal["dialplan"]
    context: _Word
    exten: _Word
    priority: _Priority = 1


class QueueAgent(_Common):
    """Answered calls go to a queue of the PBX."""

    kind: Literal["queue"]
    queue: _Queue


class ApplicationAgent(_Common):
    """Answered calls run one application, of those that the configuration allows."""

    kind: Literal["application"]
    application: _Application
    data: _Data | None = None


AnyAgent = DialplanAgent | QueueAgent | ApplicationAgent


class AgentIn(RootModel[Annotated[AnyAgent, Field(discriminator="kind")]]):
    """A new agent."""

    TAGS: ClassVar = frozenset(each.value for each in AgentKind)


class AgentPatch(Change):
    """What is to change; what is left out stays. A new ``kind`` needs that kind's own fields."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"max_concurrent_calls": 40}]})

    name: Annotated[Name | None, NotNull()] = None
    max_concurrent_calls: _Calls | None = None
    kind: Annotated[Literal["dialplan", "queue", "application"] | None, NotNull()] = None
    context: Annotated[_Word | None, NotNull()] = None
    exten: Annotated[_Word | None, NotNull()] = None
    priority: Annotated[_Priority | None, NotNull()] = None
    queue: Annotated[_Queue | None, NotNull()] = None
    application: Annotated[_Application | None, NotNull()] = None
    data: _Data | None = None


class AgentOut(Out):
    """An agent; of the fields of a kind, only those of its own."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "09m4x2h3vn6pb",
                    "name": "Sales",
                    "kind": "queue",
                    "max_concurrent_calls": 40,
                    "queue": "sales",
                }
            ]
        }
    )

    id: str
    name: str
    kind: AgentKind
    max_concurrent_calls: int | None
    context: str | None = None
    exten: str | None = None
    priority: int | None = None
    queue: str | None = None
    application: str | None = None
    data: str | None = None

    @model_serializer(mode="wrap")
    def _given(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in handler(self).items() if name in self.model_fields_set}


_OWN_FIELDS = {
    AgentKind.DIALPLAN: ("context", "exten", "priority"),
    AgentKind.QUEUE: ("queue",),
    AgentKind.APPLICATION: ("application", "data"),
}


def render(agent: Agent) -> AgentOut:
    """An agent as the API shows it."""
    own = {name: getattr(agent, name) for name in _OWN_FIELDS[agent.kind]}
    return AgentOut(
        id=show_id(agent.id),
        name=agent.name,
        kind=agent.kind,
        max_concurrent_calls=agent.max_concurrent_calls,
        **own,
    )


async def index(request: Request[Window, None]) -> Listing[AgentOut]:
    """List the agents."""
    window = request.query
    async with request.api.store.read() as conn:
        found, total = await agents.page(
            conn,
            request.tenant.id,
            limit=window.limit + 1,
            offset=window.offset,
            after=None if window.after is None else read_id(window.after) or 0,
        )
    shown = [render(each) for each in found]
    return Listing[AgentOut].of(shown, window, total, [each.id for each in shown])


async def create(request: Request[NoQuery, AgentIn]) -> AgentOut:
    """Make an agent."""
    made = _agent(request.api, request.api.clock.number(), request.tenant.id, request.body.root)

    async def insert(tx: Tx) -> None:
        await _expect_free_name(tx, made)
        await agents.save(tx, made)

    await request.api.store.write(insert)
    request.api.control.agent_changed(made)
    return render(made)


async def show(request: Request[NoQuery, None]) -> AgentOut:
    """Show one agent."""
    agent_id = request.path_id("agent_id", AGENT_NOT_FOUND)
    async with request.api.store.read() as conn:
        found = await agents.get(conn, request.tenant.id, agent_id)
    if found is None:
        raise refuse(AGENT_NOT_FOUND)
    return render(found)


async def change(request: Request[NoQuery, AgentPatch]) -> AgentOut:
    """Change an agent; calls are handed to it as it then is."""
    agent_id = request.path_id("agent_id", AGENT_NOT_FOUND)
    given = request.body.model_dump(exclude_unset=True)

    async def update(tx: Tx) -> Agent:
        found = await agents.get(tx.conn, request.tenant.id, agent_id)
        if found is None:
            raise refuse(AGENT_NOT_FOUND)
        changed = _agent(request.api, found.id, found.tenant, validate(AgentIn, _merged(found, given)).root)
        await _expect_free_name(tx, changed)
        await agents.save(tx, changed)
        return changed

    changed = await request.api.store.write(update)
    request.api.control.agent_changed(changed)
    return render(changed)


async def delete(request: Request[NoQuery, None]) -> None:
    """Remove an agent that no unfinished campaign uses."""
    agent_id = request.path_id("agent_id", AGENT_NOT_FOUND)

    async def remove(tx: Tx) -> None:
        if await agents.get(tx.conn, request.tenant.id, agent_id) is None:
            raise refuse(AGENT_NOT_FOUND)
        if await campaigns.agent_in_use(tx.conn, agent_id):
            raise refuse(AGENT_IN_USE)
        await agents.remove(tx, agent_id)

    await request.api.store.write(remove)
    request.api.control.agent_removed(agent_id)


def _agent(api: Api, agent_id: int, tenant: str, given: AnyAgent) -> Agent:
    values: dict[str, Any] = given.model_dump(exclude={"kind"})
    agent = replace(Agent(id=agent_id, tenant=tenant, name=given.name, kind=AgentKind(given.kind)), **values)
    if (objection := api.places().objection(agent)) is not None:
        raise unfit([FieldError(*objection)])
    return agent


def _merged(found: Agent, given: dict[str, Any]) -> dict[str, Any]:
    kind = given.get("kind") or found.kind.value
    stays = ["name", "max_concurrent_calls", *(_OWN_FIELDS[found.kind] if kind == found.kind else ())]
    return {name: getattr(found, name) for name in stays} | given | {"kind": kind}


async def _expect_free_name(tx: Tx, agent: Agent) -> None:
    other = await agents.by_name(tx.conn, agent.tenant, agent.name)
    if other is not None and other.id != agent.id:
        raise unfit([FieldError("name", "is taken by another agent")])


_ONE = "/agents/{agent_id}"
ROUTES: tuple[AnyRoute, ...] = (
    Route("GET", "/agents", Role.VIEWER, index, Window, NoBody(), Listing[AgentOut], 200, (INVALID_REQUEST,)),
    Route("POST", "/agents", Role.ADMIN, create, NoQuery, JsonBody(AgentIn), AgentOut, 201, (INVALID_REQUEST,)),
    Route("GET", _ONE, Role.VIEWER, show, NoQuery, NoBody(), AgentOut, 200, (AGENT_NOT_FOUND,)),
    Route(
        "PATCH",
        _ONE,
        Role.ADMIN,
        change,
        NoQuery,
        JsonBody(AgentPatch),
        AgentOut,
        200,
        (INVALID_REQUEST, AGENT_NOT_FOUND),
    ),
    Route("DELETE", _ONE, Role.ADMIN, delete, NoQuery, NoBody(), None, 204, (AGENT_NOT_FOUND, AGENT_IN_USE)),
)
