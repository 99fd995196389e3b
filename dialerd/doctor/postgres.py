"""A store on PostgreSQL: can it be reached, is it of a kind that we can use, may we write, and how far away is it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median

import sqlalchemy as sa
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import NullPool

from dialerd.clock import Clock
from dialerd.doctor.findings import Finding, error, ok, warning
from dialerd.doctor.store import Kept, read_kept
from dialerd.store import schema
from dialerd.store.faults import as_store_error
from dialerd.store.postgres_link import connector

OLDEST = 14
_FAR_MS = 5.0
"""A commit of the journal takes some ten trips: from here on they are what a call waits for."""
_TRIPS = 7
_ASKED = sa.text(
    """
    SELECT current_setting('server_version_num')::int AS version, current_setting('server_encoding') AS encoding,
        current_setting('fsync') AS fsync, current_setting('synchronous_commit') AS synchronous_commit,
        pg_is_in_recovery() AS replica, current_user AS role, current_schema() AS schema,
        current_schema() IS NOT NULL AND has_schema_privilege(current_schema(), 'CREATE') AS may_create,
        has_database_privilege(current_database(), 'TEMP') AS may_stage
    """
)
_RIGHTS = ("SELECT", "INSERT", "UPDATE", "DELETE")


@dataclass(frozen=True, slots=True)
class PostgresFacts:
    """A PostgreSQL store as it was found; of one that could not be reached, only where and why."""

    place: str
    """Host and database, without a password."""
    trouble: str | None = None
    version: int = 0
    """As PostgreSQL counts: 150018 is 15.18."""
    encoding: str = ""
    fsync: str = ""
    synchronous_commit: str = ""
    replica: bool = False
    role: str = ""
    schema: str | None = None
    may_create: bool = False
    may_stage: bool = False
    missing: tuple[str, ...] = ()
    """Rights on our tables that the role has not."""
    revision: str | None = None
    empty: bool = False
    """The schema has no tables at all."""
    trip_ms: float = 0.0


async def examine(url: str, clock: Clock) -> tuple[PostgresFacts, Kept]:
    """Look at the store. Nothing in it is changed."""
    parsed = make_url(url)
    place = f"{parsed.database} at {parsed.host or parsed.query.get('host') or 'localhost'}"
    engine = create_async_engine(
        "postgresql+asyncpg://", async_creator=connector(url, writing=False), poolclass=NullPool
    )
    try:
        async with engine.connect() as conn:
            facts = await _look(conn, place, clock)
            ours = facts.revision == schema.REVISION and "SELECT" not in {
                each.partition(" ")[0] for each in facts.missing
            }
            return facts, await read_kept(conn) if ours else Kept()
    except (SQLAlchemyError, OSError) as failure:
        return PostgresFacts(place, trouble=str(as_store_error(failure))), Kept()
    finally:
        await engine.dispose()


async def _look(conn: AsyncConnection, place: str, clock: Clock) -> PostgresFacts:
    row = (await conn.execute(_ASKED)).one()._mapping
    trips = []
    for _ in range(_TRIPS):
        begun = clock.mono()
        await conn.execute(sa.text("SELECT 1"))
        trips.append(1000 * (clock.mono() - begun))
    tables = await conn.run_sync(lambda plain: set(sa.inspect(plain).get_table_names()))
    missing = [
        f"{right} on {table}"
        for table in sorted(tables & schema.metadata.tables.keys())
        for right in _RIGHTS
        if not await conn.scalar(sa.select(sa.func.has_table_privilege(f'"{table}"', right)))
    ]
    readable = "alembic_version" in tables and await conn.scalar(
        sa.select(sa.func.has_table_privilege("alembic_version", "SELECT"))
    )
    revision = await conn.scalar(sa.text("SELECT version_num FROM alembic_version")) if readable else None
    return PostgresFacts(
        place, **row, missing=tuple(missing), revision=revision, empty=not tables, trip_ms=median(trips)
    )


def check(facts: PostgresFacts) -> Iterator[Finding]:
    """Tell all that is wrong with it."""
    if facts.trouble is not None:
        yield error("store.database", f"{facts.place} cannot be used: {facts.trouble}", "dialerd.toml [store] url")
        return
    yield from _check_server(facts)
    yield from _check_rights(facts)
    if facts.empty:
        yield ok("store.schema", "the database is empty: dialerd serve makes the tables")
    elif facts.revision != schema.REVISION:
        yield error(
            "store.schema",
            f"the store is at schema {facts.revision or 'none'}, this version needs {schema.REVISION}",
            "stop the daemon, then run: dialerd migrate",
        )
    else:
        yield ok("store.schema", f"schema {facts.revision}")
    told = f"a trip to the server takes {facts.trip_ms:.2f} ms"
    if facts.trip_ms > _FAR_MS:
        yield warning("store.latency", f"{told}, and a call waits for some ten", "put the daemon beside its database")
    else:
        yield ok("store.latency", told)


def _check_server(facts: PostgresFacts) -> Iterator[Finding]:
    shown = f"PostgreSQL {facts.version // 10000}.{facts.version % 10000}"
    if facts.version < OLDEST * 10000:
        yield error("store.database", f"{shown} is too old", f"PostgreSQL {OLDEST} or later")
    elif facts.replica:
        yield error("store.database", f"{facts.place} is a replica, which takes no writes", "dialerd.toml [store] url")
    else:
        yield ok("store.database", f"{facts.place}: {shown}")
    if facts.encoding == "UTF8":
        yield ok("store.encoding", facts.encoding)
    else:
        yield error(
            "store.encoding",
            f"the database's encoding is {facts.encoding}: names of many languages cannot be kept",
            "run: createdb --encoding=UTF8 --template=template0 …",
        )
    if facts.fsync != "on":
        yield error(
            "store.durability",
            "the server does not flush to disk: after a power failure, who was called may be called again",
            "postgresql.conf: fsync = on",
        )
    elif facts.synchronous_commit == "off":
        yield ok("store.durability", "synchronous_commit is off for this role; the daemon asks for it by itself")
    else:
        yield ok("store.durability", f"fsync on, synchronous_commit {facts.synchronous_commit}")


def _check_rights(facts: PostgresFacts) -> Iterator[Finding]:
    if facts.schema is None:
        yield error(
            "store.rights",
            f"no schema of the search path is there for {facts.role}",
            f"run: CREATE SCHEMA AUTHORIZATION {facts.role}",
        )
    elif facts.missing:
        more = f", and {len(facts.missing) - 3} more" if len(facts.missing) > 3 else ""
        yield error(
            "store.rights",
            f"{facts.role} lacks {', '.join(facts.missing[:3])}{more}",
            f"run: GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {facts.schema} TO {facts.role}",
        )
    elif not facts.may_stage:
        yield error(
            "store.rights",
            f"{facts.role} may not make temporary tables, which lists are imported through",
            f"run: GRANT TEMPORARY ON DATABASE … TO {facts.role}",
        )
    elif not facts.may_create:
        told = f"{facts.role} may not make tables in schema {facts.schema}"
        if facts.revision == schema.REVISION:
            yield ok("store.rights", f"{told}; a later version's migration needs a role that may")
        else:
            yield error("store.rights", told, f"run: GRANT CREATE ON SCHEMA {facts.schema} TO {facts.role}")
    else:
        yield ok("store.rights", f"{facts.role} may read, write and make tables in schema {facts.schema}")
