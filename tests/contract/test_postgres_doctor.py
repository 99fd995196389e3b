"""What the doctor says of a store on a real PostgreSQL, well and ill."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from dialerd.clock import SystemClock
from dialerd.doctor import postgres as doctor
from dialerd.doctor.findings import Finding, Level
from dialerd.store import schema
from dialerd.store.migrate import migrate
from tests.support.postgres import PASSWORD, Cluster

pytestmark = pytest.mark.postgres

WELL = doctor.PostgresFacts(
    "d at h", None, 150_018, "UTF8", "on", "on", False, "r", "public", True, True, (), schema.REVISION, False, 0.3
)


async def findings(url: str) -> dict[str, Finding]:
    facts, _ = await doctor.examine(url, SystemClock())
    return {each.check: each for each in doctor.check(facts)}


@pytest.fixture
def guest(postgres: Cluster, postgres_url: str) -> Iterator[str]:
    """The database's URL for a role that was granted nothing."""
    name = postgres_url.rpartition("/")[2]
    postgres.sql(f"CREATE ROLE guest_{name} LOGIN PASSWORD 'guest'")
    yield postgres_url.replace(f"dialerd:{PASSWORD}@", f"guest_{name}:guest@")
    postgres.sql(f"DROP OWNED BY guest_{name}", database=name)
    postgres.sql(f"DROP ROLE guest_{name}")


async def test_an_empty_database_and_a_store(postgres_url: str) -> None:
    found = await findings(postgres_url)
    assert found["store.schema"].message == "the database is empty: dialerd serve makes the tables"
    migrate(postgres_url)
    found = await findings(postgres_url)
    # The tests' own server flushes nothing.
    assert found.pop("store.durability").level is Level.ERROR
    # How long an answer takes is this machine's affair; the word on it is tested by itself.
    assert "store.latency" in found
    del found["store.latency"]
    assert {each.level for each in found.values()} == {Level.OK}, found
    assert "PostgreSQL 1" in found["store.database"].message


async def test_a_server_that_cannot_be_reached(postgres: Cluster, postgres_url: str) -> None:
    (only,) = (await findings(postgres_url.replace(f":{postgres.port}/", ":1/"))).values()
    assert (only.check, only.level) == ("store.database", Level.ERROR)
    assert PASSWORD not in only.message


async def test_a_role_that_lacks_rights(postgres: Cluster, postgres_url: str, guest: str) -> None:
    name = postgres_url.rpartition("/")[2]
    found = await findings(guest)
    assert "may not make tables" in found["store.rights"].message
    migrate(postgres_url)
    found = await findings(guest)
    assert "lacks SELECT on agent, INSERT on agent, UPDATE on agent, and " in found["store.rights"].message
    role = f"guest_{name}"
    postgres.sql(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}", database=name)
    found = await findings(guest)
    assert found["store.rights"].level is Level.OK
    postgres.sql(f"REVOKE TEMPORARY ON DATABASE {name} FROM public", database=name)
    found = await findings(guest)
    assert "temporary tables" in found["store.rights"].message


@pytest.mark.parametrize(
    ("change", "check", "level"),
    [
        ({"version": 130_011}, "store.database", Level.ERROR),
        ({"replica": True}, "store.database", Level.ERROR),
        ({"encoding": "SQL_ASCII"}, "store.encoding", Level.ERROR),
        ({"fsync": "off"}, "store.durability", Level.ERROR),
        ({"synchronous_commit": "off"}, "store.durability", Level.OK),
        ({"schema": None}, "store.rights", Level.ERROR),
        ({"revision": "0000"}, "store.schema", Level.ERROR),
        ({"trip_ms": 30.0}, "store.latency", Level.WARNING),
        ({}, "store.latency", Level.OK),
    ],
)
def test_each_illness(change: dict[str, object], check: str, level: Level) -> None:
    facts = replace(WELL, **change)  # type: ignore[arg-type] # a table of changes
    found = {each.check: each for each in doctor.check(facts)}
    assert found[check].level is level
    assert (found[check].mend is None) == (level is Level.OK)
