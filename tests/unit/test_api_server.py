"""The server's own bounds: how many connections it keeps, and what becomes of those that are one too many."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine

import pytest
import trustme
import uvloop
from aiohttp import web

from dialerd.api.server import ApiServer
from dialerd.clock import SystemClock
from dialerd.process import _raise_file_limit
from dialerd.telemetry.metrics import Metrics

DEADLINE = 10.0
HELLO = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
LARGE_ONE = b"GET /large HTTP/1.1\r\nHost: x\r\n"
LARGE = 8 * 2**20
"""Bytes of an answer that no kernel's buffer takes."""
LOOPS = pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
_clock = SystemClock()


def _run(loop: Callable[[], asyncio.AbstractEventLoop], test: Coroutine[None, None, None]) -> None:
    """Run a test on a loop of a kind."""
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(test)


@contextlib.asynccontextmanager
async def _serving(
    *, connections: int = 100, unread_seconds: float = DEADLINE, tls: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[ApiServer, Metrics]]:
    """A server that answers ``hello``, and at ``/large`` more than fits anywhere; with what it counts."""

    async def hello(_raw: web.Request) -> web.Response:
        return web.Response(text="hello")

    async def large(_raw: web.Request) -> web.Response:
        return web.Response(body=bytes(LARGE))

    app, metrics = web.Application(), Metrics()
    app.router.add_get("/", hello)
    app.router.add_get("/large", large)
    server = ApiServer(app, _clock, metrics, connections=connections, unread_seconds=unread_seconds)
    await server.start("127.0.0.1", 0, tls)
    try:
        yield server, metrics
    finally:
        await server.stop(1.0)


def _counted(metrics: Metrics, name: str) -> float:
    return metrics.registry.get_sample_value(f"dialerd_connections_{name}_total") or 0.0


def _descriptors() -> int:
    """Sockets that this process has open."""
    return sum(
        os.readlink(each.path).startswith("socket:") for each in os.scandir("/proc/self/fd") if each.is_symlink()
    )


async def _until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE):
        while not holds():
            await _clock.sleep(0.01)


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
    async with _serving(connections=2) as (server, metrics), contextlib.AsyncExitStack() as kept:
        first, said = await _answered(server.port, kept)
        assert b"200" in said
        _, said = await _answered(server.port, kept)
        assert b"200" in said
        _, said = await _answered(server.port, kept)
        assert (said, _counted(metrics, "turned_away")) == (b"", 1)
        first.close()
        async with asyncio.timeout(DEADLINE):
            while b"200" not in (await _answered(server.port, kept))[1]:
                pass


@LOOPS
@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "tls"])
def test_a_burst_of_clients_that_say_nothing_is_counted(
    loop: Callable[[], asyncio.AbstractEventLoop], *, encrypted: bool
) -> None:
    """They come within one turn of the loop; with TLS, none of them has said hello."""
    shown, trusting = _certificate() if encrypted else (None, None)

    async def test() -> None:
        async with _serving(connections=10, tls=shown) as (server, metrics):
            before, came = _descriptors(), 100
            silent = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(came)]
            try:
                await _until(lambda: _counted(metrics, "turned_away") == came - 10)
                await _until(lambda: _descriptors() <= before + came + 10)
            finally:
                for each in silent:
                    each.close()
            async with asyncio.timeout(DEADLINE):
                while not await asyncio.to_thread(_is_served, server.port, trusting):
                    pass

    _run(loop, test())


@LOOPS
def test_whoever_says_no_hello_is_turned_out_in_time(
    loop: Callable[[], asyncio.AbstractEventLoop], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dialerd.api.listener.HELLO_SECONDS", 0.5)
    shown, trusting = _certificate()

    async def test() -> None:
        async with _serving(connections=1, tls=shown) as (server, _), asyncio.timeout(DEADLINE):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            assert await reader.read() == b""
            while not await asyncio.to_thread(_is_served, server.port, trusting):
                pass
            writer.close()

    _run(loop, test())


def _is_served(port: int, tls: ssl.SSLContext | None) -> bool:
    """Ask like anybody. To be called in a thread."""
    try:
        with socket.create_connection(("127.0.0.1", port), DEADLINE) as made:
            if tls is None:
                made.sendall(HELLO)
                return made.recv(12).endswith(b"200")
            with tls.wrap_socket(made, server_hostname="127.0.0.1") as wrapped:
                wrapped.sendall(HELLO)
                return wrapped.recv(12).endswith(b"200")
    except OSError:
        return False


@LOOPS
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_another_can_listen_as_soon_as_the_door_is_closed(
    loop: Callable[[], asyncio.AbstractEventLoop], host: str
) -> None:
    async def test() -> None:
        async with _serving() as (server, metrics), contextlib.AsyncExitStack() as kept:
            _, said = await _answered(server.port, kept)
            assert b"200" in said
            other = ApiServer(web.Application(), _clock, metrics)
            with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:{server.port}: Address already in use"):
                await other.start("127.0.0.1", server.port)
            server.close_door()
            server.close_door()
            await _clock.sleep(0.05)
            kept.push_async_callback(other.stop, 1.0)
            await other.start(host, server.port)
            assert other.port == server.port
            _, said = await _answered(other.port, kept)
            assert b"404" in said, "it is the other that answers"

    _run(loop, test())


def _deaf(port: int, requests: bytes, tls: ssl.SSLContext | None) -> socket.socket:
    """A client that asks, and never reads. To be called in a thread."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    made.settimeout(DEADLINE)
    made.connect(("127.0.0.1", port))
    if tls is not None:
        made = tls.wrap_socket(made, server_hostname="127.0.0.1")
    made.sendall(requests)
    return made


@LOOPS
@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize(
    "requests",
    [LARGE_ONE + b"\r\n", (HELLO * 400), LARGE_ONE + b"Connection: close\r\n\r\n"],
    ids=["a large answer", "many small ones", "closed behind it"],
)
def test_who_reads_no_answer_is_let_go(
    loop: Callable[[], asyncio.AbstractEventLoop], requests: bytes, *, encrypted: bool
) -> None:
    """Wherever what it does not read has come to lie: in the kernel, the loop, or TLS."""
    shown, trusting = _certificate() if encrypted else (None, None)

    async def test() -> None:
        async with _serving(unread_seconds=1.0, tls=shown) as (server, metrics):
            with await asyncio.to_thread(_deaf, server.port, requests, trusting):
                await _until(lambda: _counted(metrics, "dropped") == 1)

    _run(loop, test())


@LOOPS
def test_who_reads_slowly_is_served_to_the_end(loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    async def test() -> None:
        async with _serving(unread_seconds=0.5) as (server, metrics), asyncio.timeout(3 * DEADLINE):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=2**16)
            writer.write(LARGE_ONE + b"Connection: close\r\n\r\n")
            await reader.readuntil(b"\r\n\r\n")
            read = 0
            while chunk := await reader.read(LARGE // 10):
                read += len(chunk)
                await _clock.sleep(0.01)
            assert (read, _counted(metrics, "dropped")) == (LARGE, 0)
            writer.close()

    _run(loop, test())


def _certificate() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """What the server shows, and what a client that trusts it looks at it with."""
    authority, shown = trustme.CA(), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(shown)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    return shown, trusting


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
