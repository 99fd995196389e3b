"""Everything that the API can do can be done on the command line: a command for every route, or a reason why not."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import click
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from click.testing import CliRunner

from dialerd.api.auth import Doorkeeper
from dialerd.api.server import all_routes
from dialerd.api.streams import Streams
from dialerd.cli import main
from tests.contract.api.house import DEADLINE
from tests.contract.client.test_docs import commands

WITHOUT_A_COMMAND: dict[tuple[str, str], str] = {}
"""Routes that no command calls, each with its reason."""

NOT_OF_THE_API = {"serve", "check-config", "doctor", "migrate", "simulate"}
"""Commands that work on this machine."""

NEEDED = {
    "campaigns create": ["--name", "x"],
    "campaigns update": ["x", "--name", "x"],
    "contacts add": ["x", "-"],
    "callbacks create": ["x", "--number", "+12025550101", "--due", "2030-01-01T00:00:00Z"],
    "agents create": ["x", "--queue", "x"],
    "agents update": ["x", "--name", "x"],
    "dnc import": ["-"],
    "keys create": ["--api", "--role", "viewer"],
    "tenants create": ["x", "--max-calls-per-second", "1", "--max-concurrent-calls", "1", "--trunk", "x"],
    "tenants update": ["x", "--weight", "2"],
    "webhooks update": ["x", "--description", "x"],
    "top": ["--once"],
}
"""Arguments without which a command asks nothing; of all others the positional ones are filled in."""

BESIDE = (["results", "x", "--rejects", "x"],)
"""Commands that with an option ask for something else."""


@dataclass
class Clerk:
    """A server that writes down what it is asked for, and knows nothing."""

    asked: set[tuple[str, str]] = field(default_factory=set)
    url: str = ""

    async def take(self, request: web.Request) -> web.Response:
        await request.read()
        self.asked.add((request.method, request.path.removeprefix("/api/v1")))
        if request.method == "GET" and request.path == "/api/v1/agents":
            # Agents are looked up by their names before anything is asked of them.
            return web.json_response({"data": [], "total": 0, "next": None})
        problem = {"code": "not_found", "detail": "nothing is here", "errors": []}
        return web.json_response(problem, status=404, content_type="application/problem+json")


@pytest.fixture
async def clerk() -> AsyncIterator[Clerk]:
    made = Clerk()
    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", made.take)
    async with TestServer(app) as served:
        made.url = str(served.make_url("")).rstrip("/")
        yield made


def arguments(whole: str) -> list[str]:
    """The least that a command must be given."""
    if whole in NEEDED:
        return NEEDED[whole]
    command: click.Command = main
    for name in whole.split():
        assert isinstance(command, click.Group)
        command = command.commands[name]
    return ["x" for each in command.params if isinstance(each, click.Argument) and each.required]


def routes() -> set[tuple[str, str]]:
    """Method and path of every route."""
    # Nothing is served here: the registry is only read.
    return {
        (route.method, route.path) for route in all_routes(Streams.__new__(Streams), Doorkeeper.__new__(Doorkeeper))
    }


def route_of(method: str, path: str) -> tuple[str, str]:
    """The route that a request goes to; one that none takes goes to itself."""
    fitting = [
        each for each in routes() if each[0] == method and re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", each[1]), path)
    ]
    return fitting[0] if fitting else (method, path)


async def test_every_route_has_a_command_or_a_reason(clerk: Clerk, tmp_path: Path) -> None:
    environ = {"DIALER_URL": clerk.url, "DIALER_KEY": "k", "XDG_CONFIG_HOME": str(tmp_path)}
    typed_lines = [[*whole.split(), *arguments(whole)] for whole in commands(main) if whole not in NOT_OF_THE_API]
    for typed in (*typed_lines, *BESIDE):
        async with asyncio.timeout(DEADLINE):
            result = await asyncio.to_thread(CliRunner().invoke, main, typed, input="phone_number\n", env=environ)
        # Whatever was asked for is not there, and the command says so.
        assert result.exit_code in (0, 1), (typed, result.output)
    asked = {route_of(*each) for each in clerk.asked}
    assert asked <= routes(), "a command asks for what the API has not"
    assert routes() - asked == WITHOUT_A_COMMAND.keys()
