"""A PostgreSQL of the benchmark's own, flushed to disk as an administrator's is."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from bench.context import Bench
from bench.house import Tables
from tests.integration.daemon import Stock
from tests.support.postgres import Cluster


@contextlib.asynccontextmanager
async def on_postgres(bench: Bench) -> AsyncIterator[tuple[Stock, Tables]]:
    """Run a server with an empty database; what a daemon on it is given: its stock, and the table of its store."""
    cluster = await asyncio.to_thread(Cluster.make, fsync=True)
    try:
        bench.versions["PostgreSQL"] = cluster.sql("SHOW server_version")
        url = await asyncio.to_thread(cluster.create, "dialerd")
        folder = bench.folder / "postgres"
        folder.mkdir()
        yield await asyncio.to_thread(Stock.make, folder, url), {"store": {"url": url}}
    finally:
        await asyncio.to_thread(cluster.remove)
