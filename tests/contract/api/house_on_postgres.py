"""The house on PostgreSQL: a database for each test, and a standby beside the daemon that dials."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest

from dialerd.api.server import ApiServer
from dialerd.clock import SystemClock
from dialerd.process import web_app
from dialerd.service import Daemon
from dialerd.telemetry.metrics import Metrics
from tests.contract.api.house import DEADLINE, TOML, House, Template, make_store, read_toml
from tests.support.endpoint import Endpoint
from tests.support.postgres import Cluster

WAITS_FOR = "another daemon holds the lease"

_numbers = itertools.count()


@dataclass
class PostgresTemplate(Template):
    """A database with the keys, copied for each test by the server itself."""

    cluster: Cluster
    name: str
    made: dict[Path, str] = field(default_factory=dict)
    """The database of each test, by its folder."""

    def url(self, folder: Path, *, fresh: bool) -> str:
        if fresh:
            self.made[folder] = f"api_{os.getpid()}_{next(_numbers)}"
            self.cluster.create(self.made[folder], self.name)
        return self.cluster.url(self.made[folder])

    def sql(self, folder: Path, *statements: str) -> str:
        """Run statements on a test's database, as a person with psql does."""
        return self.cluster.sql(*statements, database=self.made[folder])


@pytest.fixture(scope="module")
def postgres_keys(postgres: Cluster) -> Iterator[PostgresTemplate]:
    """The database that each test's is a copy of."""
    name = f"api_{os.getpid()}_{next(_numbers)}"
    url = postgres.create(name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dialerd.store.keys._SCRYPT_N", 2)
        yield PostgresTemplate(Path(), asyncio.run(make_store(url)), postgres, name)
    postgres.drop(name)


@pytest.fixture
def postgres_template(postgres_keys: PostgresTemplate) -> Iterator[PostgresTemplate]:
    """In the place of the SQLite file that the other modules' stores are copies of."""
    yield postgres_keys
    for name in postgres_keys.made.values():
        postgres_keys.cluster.drop(name)
    postgres_keys.made.clear()


@contextlib.asynccontextmanager
async def open_standby(template: PostgresTemplate, folder: Path) -> AsyncIterator[House]:
    """Serve what is in the store of a test, as a daemon does that waits for its turn."""
    toml = TOML.format(store=template.url(folder, fresh=False))
    daemon = Daemon(read_toml(toml), SystemClock(), Metrics(), waits_for=lambda: WAITS_FOR)
    server = ApiServer(web_app(daemon.api), daemon.api.clock, daemon.metrics)
    async with daemon.standing_by():
        await server.start("127.0.0.1", 0)
        try:
            async with aiohttp.ClientSession() as session:
                yield House(daemon, server, Endpoint(), session, template.keys, f"http://127.0.0.1:{server.port}", toml)
        finally:
            async with asyncio.timeout(DEADLINE):
                await server.stop(1)
