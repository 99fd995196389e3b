"""The store: is it there, is it ours to write, is it of this version, and is there room for it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import aiosqlite
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import NullPool

from dialerd.core.model import Agent, Campaign, CampaignStatus, Tenant
from dialerd.doctor import host
from dialerd.doctor.findings import Finding, error, note, ok, warning
from dialerd.store import agents, campaigns, schema, tenants

_LOCK_SECONDS = 5.0
_FREE_WARNING = 1 << 30
_FREE_ERROR = 100 << 20
_ENTER_AND_WRITE = os.W_OK | os.X_OK


@dataclass(frozen=True, slots=True)
class Kept:
    """What the store holds that other checks go by."""

    agents: tuple[Agent, ...] = ()
    tenants: tuple[Tenant, ...] = ()
    campaigns: tuple[Campaign, ...] = ()


@dataclass(frozen=True, slots=True)
class StoreFacts:
    """A SQLite store as it was found."""

    path: Path
    exists: bool
    folder_writable: bool
    file: host.FileMode | None = None
    revision: str | None = None
    free: int | None = None
    as_root: bool = False
    """The doctor runs as root, whom no permission stops."""
    trouble: str | None = None
    """Why it could not be opened or locked for writing, in SQLite's words."""


async def examine(url: str) -> tuple[StoreFacts, Kept]:
    """Look at the store. Nothing in it is changed: the write lock is taken and given back."""
    facts = await asyncio.to_thread(_look, Path(make_url(url).database or ""))
    if facts.revision != schema.REVISION or facts.trouble is not None:
        return facts, Kept()
    try:
        return facts, await _kept(facts.path)
    except SQLAlchemyError as failure:
        return replace(facts, trouble=str(getattr(failure, "orig", failure))), Kept()


async def _kept(path: Path) -> Kept:
    async def connect() -> aiosqlite.Connection:
        return await aiosqlite.connect(_uri(path), uri=True, timeout=_LOCK_SECONDS)

    # Not the daemon's own Store: that one sets the file's journal mode where it is not set yet.
    engine = create_async_engine("sqlite+aiosqlite://", async_creator=connect, poolclass=NullPool)
    try:
        async with engine.connect() as conn:
            return await read_kept(conn)
    finally:
        await engine.dispose()


async def read_kept(conn: AsyncConnection) -> Kept:
    """Read what other checks go by, from a store of whatever kind."""
    unfinished = (CampaignStatus.DRAFT, CampaignStatus.ACTIVE, CampaignStatus.PAUSED)
    return Kept(
        tuple(await agents.everyone(conn)),
        tuple(await tenants.everyone(conn)),
        tuple(await campaigns.of_status(conn, *unfinished)),
    )


def _uri(path: Path) -> str:
    # mode=rw never makes a file.
    return f"{path.absolute().as_uri()}?mode=rw"


def check(facts: StoreFacts) -> Iterator[Finding]:
    """Tell all that is wrong with it."""
    yield from _check_space(facts)
    if not facts.exists:
        if facts.folder_writable:
            yield ok("store.file", f"{facts.path} is not there yet: dialerd serve makes it")
        else:
            yield error(
                "store.file",
                f"{facts.path} is not there, and its folder cannot be written by this user",
                f"dialerd.toml [store] url, or run: install -d -o dialerd -m 0700 {facts.path.parent}",
            )
        return
    if facts.trouble is not None:
        yield error(
            "store.file",
            f"{facts.path} cannot be used: {facts.trouble}",
            f"dialerd.toml [store] url, or run the doctor as the file's owner"
            f"{f' ({facts.file.owner})' if facts.file else ''}",
        )
        return
    if not facts.folder_writable:
        # SQLite keeps its journal beside the file.
        yield error(
            "store.file",
            f"the folder {facts.path.parent} cannot be written by this user",
            f"run: chown dialerd: {facts.path.parent}",
        )
    else:
        yield ok("store.file", f"{facts.path} can be read and written")
    if facts.revision != schema.REVISION:
        yield error(
            "store.schema",
            f"the store is at schema {facts.revision or 'none'}, this version needs {schema.REVISION}",
            "stop the daemon, then run: dialerd migrate",
        )
    else:
        yield ok("store.schema", f"schema {facts.revision}")
    if facts.as_root and facts.file is not None and facts.file.owner != "root":
        yield note(
            "store.user",
            f"seen as root, whom no permission stops; the store is {facts.file.owner}'s",
            f"run: sudo -u {facts.file.owner} dialerd doctor …",
        )
    if facts.file is not None:
        yield host.check_private("store.permissions", facts.file, "contacts' data")


def _check_space(facts: StoreFacts) -> Iterator[Finding]:
    if facts.free is None:
        yield note("store.space", f"free space cannot be told: {facts.path.parent} is not there")
        return
    told = f"{facts.free / 2**30:.1f} GiB free at {facts.path.parent}"
    if facts.free < _FREE_ERROR:
        yield error(
            "store.space", f"{told}: the next calls cannot be written down", "free space, or dialerd.toml [store] url"
        )
    elif facts.free < _FREE_WARNING:
        yield warning("store.space", f"{told}: a large upload fills it", "free space, or dialerd.toml [store] url")
    else:
        yield ok("store.space", told)


def _look(path: Path) -> StoreFacts:
    facts = StoreFacts(
        path,
        exists=path.exists(),
        folder_writable=os.access(path.parent, _ENTER_AND_WRITE),
        file=host.file_mode(path),
        free=host.free_bytes(path.parent),
        as_root=os.geteuid() == 0,
    )
    if not facts.exists:
        return facts
    try:
        with contextlib.closing(sqlite3.connect(_uri(path), uri=True, timeout=_LOCK_SECONDS)) as conn:
            conn.isolation_level = None
            conn.execute("BEGIN IMMEDIATE")
            conn.execute("ROLLBACK")
            return replace(facts, revision=_revision(conn))
    except sqlite3.Error as failure:
        return replace(facts, trouble=str(failure))


def _revision(conn: sqlite3.Connection) -> str | None:
    if conn.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone() is None:
        return None
    row = conn.execute("SELECT version_num FROM alembic_version").fetchone()
    return None if row is None else str(row[0])
