"""What all commands of the client share: their options, how they run, and how they end."""

from __future__ import annotations

import asyncio
import functools
import os
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from dialerd.client import access
from dialerd.client.errors import INTERRUPTED, USAGE, ClientError
from dialerd.client.text import printable, to_json

if TYPE_CHECKING:
    from dialerd.client.api import Api

_OPTIONS = (
    click.option("--url", help=f"Where the daemon is. [{access.VARIABLES['url']}; default: {access.DEFAULT_URL}]"),
    click.option("--key", help=f"The key. Other users can see it here: rather set {access.VARIABLES['key']}."),
    click.option("--key-file", help=f"A file with the key alone in it. [{access.VARIABLES['key_file']}]"),
    click.option("--ca-file", help=f"Whom to trust for the daemon's certificate. [{access.VARIABLES['ca_file']}]"),
)


@dataclass(frozen=True, slots=True)
class Session:
    """What a command works with."""

    api: Api
    as_json: bool

    def show(self, value: Any, lines: Callable[[], list[str]]) -> None:
        """Print an answer: as JSON where that was asked for, else as lines."""
        if self.as_json:
            click.echo(to_json(value))
            return
        for line in lines():
            click.echo(line)

    def done(self, message: str) -> None:
        """Tell that something without an answer of its own was done; programs see it by the exit status."""
        if not self.as_json:
            click.echo(message)


Command = Callable[..., Awaitable[None]]


def window(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options by which a list is had in parts."""
    function = click.option("--after", help="Go on behind this one.")(function)
    return click.option("--limit", type=int, default=100, show_default=True, help="At most 1000.")(function)


def api_options(*, as_json: bool) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add the options by which a command finds the daemon."""

    def add(function: Callable[..., None]) -> Callable[..., None]:
        options = (*_OPTIONS, click.option("--json", "as_json", is_flag=True, help="Print the API's own JSON."))
        for option in reversed(options if as_json else _OPTIONS):
            function = option(function)
        return function

    return add


def api_command(group: click.Group, name: str, *, as_json: bool = True) -> Callable[[Command], click.Command]:
    """Add a command that talks to the daemon: a coroutine function that takes a Session and its own options."""

    def add(function: Command) -> click.Command:
        @functools.wraps(function)
        def run(**given: Any) -> None:
            connection = {option: given.pop(option) for option in access.VARIABLES}
            run_command(connection, given.pop("as_json", False), functools.partial(function, **given))

        made: Any = api_options(as_json=as_json)(run)
        return group.command(name)(made)

    return add


def run_command(connection: dict[str, str | None], as_json: bool, work: Callable[[Session], Awaitable[None]]) -> None:
    """Run one command to its end. Ends the process with the exit status that its failure gives."""
    try:
        found = access.find(connection, os.environ)
    except access.AccessError as error:
        click.echo(f"dialerd: {error}", err=True)
        sys.exit(USAGE)
    for warning in found.warnings:
        click.echo(f"warning: {warning}", err=True)

    async def main() -> None:
        from dialerd.client.api import Api

        async with Api(found) as api:
            await work(Session(api, as_json))

    try:
        asyncio.run(main())
    except ClientError as error:
        for index, line in enumerate(str(error).splitlines()):
            click.echo(f"dialerd: {printable(line)}" if not index else printable(line), err=True)
        sys.exit(error.exit_status)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
