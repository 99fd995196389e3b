"""A served daemon and the command line that talks to it."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import structlog
from click.testing import CliRunner, Result

from dialerd.cli import main
from tests.contract.api.house import DEADLINE, House, Template, make_template, open_house


@pytest.fixture(scope="package")
def template(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Template]:
    """The store that each test's is a copy of; its keys are cheap to check."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dialerd.store.keys._SCRYPT_N", 2)
        yield asyncio.run(make_template(tmp_path_factory.mktemp("client")))


CSV = "phone_number,first_name,plan\n+12025550101,Ann,gold\n2025550102,Bob,\n+12025550101,Ann,gold\nnonsense,Eve,\n"
"""A list of two contacts, a duplicate and a row that is none."""


@dataclass
class Terminal:
    """A user at a command line."""

    house: House
    home: Path

    def environ(self, key: str = "operator") -> dict[str, str]:
        """The user's variables, with one of the house's keys."""
        return {
            "DIALER_URL": self.house.base,
            "DIALER_KEY": self.house.keys[key],
            "XDG_CONFIG_HOME": str(self.home),
            "COLUMNS": "160",
        }

    async def run(self, *arguments: str, key: str = "operator", stdin: str | None = None) -> Result:
        """Run a command to its end."""
        async with asyncio.timeout(DEADLINE):
            # In a thread: the daemon lives in this loop, and a command runs one of its own.
            return await asyncio.to_thread(
                CliRunner().invoke, main, list(arguments), input=stdin, env=self.environ(key)
            )

    async def says(self, *arguments: str, key: str = "operator", stdin: str | None = None) -> str:
        """What a command prints; it must succeed."""
        result = await self.run(*arguments, key=key, stdin=stdin)
        assert result.exit_code == 0, (result.output, result.exception)
        return result.stdout

    async def json(self, *arguments: str, key: str = "operator") -> Any:
        """What a command prints with --json."""
        return json.loads(await self.says(*arguments, "--json", key=key))

    async def json_lines(self, *arguments: str, key: str = "operator") -> list[Any]:
        """What a command prints with --json, a line for each thing."""
        return [json.loads(line) for line in (await self.says(*arguments, "--json", key=key)).splitlines()]


@pytest.fixture(autouse=True)
def _daemon_logs_elsewhere(restored_logs: None) -> None:
    """The daemon lives in this process, and a command's standard output is the command's alone."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))


@pytest.fixture
async def terminal(template: Template, tmp_path: Path) -> AsyncIterator[Terminal]:
    """A daemon without calls, and a command line for it."""
    async with open_house(template, tmp_path) as house:
        yield Terminal(house, tmp_path)


@pytest.fixture
async def dialing(template: Template, tmp_path: Path) -> AsyncIterator[Terminal]:
    """A daemon whose simulated PBX answers every call, and a command line for it."""
    async with open_house(template, tmp_path, dials=True) as house:
        yield Terminal(house, tmp_path)


async def made(terminal: Terminal, *more: str) -> str:
    """A campaign with two contacts, made on the command line; returns its id."""
    await terminal.says("agents", "create", "desk", "--dialplan", "dialerd,answered", key="admin")
    (terminal.home / "list.csv").write_text(CSV)
    arguments = ("--name", "Spring", "--agent", "desk", "--contacts", str(terminal.home / "list.csv"), *more)
    return str((await terminal.json("campaigns", "create", *arguments))["id"])
