"""The server's own bounds: how many connections it keeps, and what becomes of those that are one too many."""

from __future__ import annotations

import asyncio
import contextlib
import resource

from aiohttp import web

from dialerd.api.server import ApiServer
from dialerd.process import _raise_file_limit

DEADLINE = 10.0
HELLO = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


async def _answered(port: int, kept: contextlib.AsyncExitStack) -> tuple[asyncio.StreamWriter, bytes]:
    """Connect and ask; returns the connection, and the first line of the answer (empty: it was closed)."""
    async with asyncio.timeout(DEADLINE):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        kept.callback(writer.close)
        writer.write(HELLO)
        try:
            return writer, await reader.readline()
        except ConnectionResetError:
            return writer, b""


async def test_a_connection_too_many_is_turned_away_and_the_others_are_served() -> None:
    async def hello(_raw: web.Request) -> web.Response:
        return web.Response(text="hello")

    app = web.Application()
    app.router.add_get("/", hello)
    server = ApiServer(app, connections=2)
    await server.start("127.0.0.1", 0)
    async with contextlib.AsyncExitStack() as kept:
        kept.push_async_callback(server.stop, 1.0)
        first, said = await _answered(server.port, kept)
        assert b"200" in said
        _, said = await _answered(server.port, kept)
        assert b"200" in said
        _, said = await _answered(server.port, kept)
        assert (said, server.turned_away) == (b"", 1)
        first.close()
        async with asyncio.timeout(DEADLINE):
            while b"200" not in (await _answered(server.port, kept))[1]:
                pass


def test_a_process_takes_the_open_files_that_it_may_have() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
        _raise_file_limit()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        assert hard == before[1]
        assert soft == (65_536 if hard == resource.RLIM_INFINITY else min(hard, 65_536))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
