"""The registry of routes: each declares all that the contract says of it, and nothing is served beside it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from aiohttp import web
from pydantic import BaseModel

from dialerd.api.context import Limits, Request
from dialerd.api.problems import COMMON, IDEMPOTENCY_CONFLICT, Code
from dialerd.store.keys import Role

PREFIX = "/api/v1"

Q = TypeVar("Q", bound=BaseModel)
B = TypeVar("B")
B_co = TypeVar("B_co", covariant=True)


class Body(Protocol[B_co]):
    """How a request's body is read."""

    @property
    def media(self) -> dict[str, type[BaseModel] | None]:
        """The media types that are understood, each with its model where it is JSON or a form."""

    def open(self, raw: web.Request, limits: Limits) -> AbstractAsyncContextManager[B_co]:
        """Read the body; what it left on disk is removed at the end of the block. Raises Rejected."""


@dataclass(frozen=True, slots=True)
class Route(Generic[Q, B]):
    """One method on one path."""

    method: str
    path: str
    """Below /api/v1, with ``{names}`` for what varies."""
    role: Role
    """The least role that may call it."""
    handler: Callable[[Request[Q, B]], Awaitable[BaseModel | web.StreamResponse | None]]
    query: type[Q]
    body: Body[B]
    answers: type[BaseModel] | None
    """The model of the answer; None where there is no body, or no JSON."""
    status: int = 200
    codes: tuple[Code, ...] = ()
    """What it may answer beside :data:`dialerd.api.problems.COMMON`."""
    answer_media: str | None = None
    """The media type of an answer that is no JSON."""
    headers: tuple[tuple[str, str], ...] = ()
    """Headers of the request that it reads, each with what it means."""
    for_system: bool = False
    """A system key may call it, too; it belongs to no tenant."""
    secret: bool = False
    """The answer holds a secret: it is never written to the store."""

    @property
    def all_codes(self) -> tuple[Code, ...]:
        """Every error that it may answer."""
        return (*self.codes, *((IDEMPOTENCY_CONFLICT,) if self.method == "POST" else ()), *COMMON)

    @property
    def summary(self) -> str:
        """The first line of the handler's docstring."""
        return (self.handler.__doc__ or "").strip().partition("\n")[0]


AnyRoute = Route[Any, Any]


def route_template(raw: web.Request) -> str | None:
    """The path of the route that a request found, with ``{names}`` for what varies: the path may hold a number."""
    resource = raw.match_info.route.resource
    return None if resource is None else resource.canonical
