"""The proxy that tests cut links with: it passes, cuts, cuts inside a message, holds and resumes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.fakes.proxy import Proxy

DEADLINE = 5.0
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Echo:
    """A far end that sends back what it gets, and counts its connections."""

    def __init__(self) -> None:
        self.open = 0
        self.heard = asyncio.Event()
        self.gone = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Echo one connection."""
        self.open += 1
        try:
            while data := await reader.read(1000):
                self.heard.set()
                writer.write(data)
        except ConnectionError:
            pass
        finally:
            writer.close()
            self.open -= 1
            self.gone.set()


@pytest.fixture
def echo() -> Echo:
    return Echo()


@pytest.fixture
async def proxy(echo: Echo) -> AsyncIterator[Proxy]:
    server = await asyncio.start_server(echo.serve, "127.0.0.1", 0)
    async with server, Proxy("127.0.0.1", server.sockets[0].getsockname()[1]) as proxy, asyncio.timeout(DEADLINE):
        yield proxy


async def _connect(proxy: Proxy) -> Streams:
    return await asyncio.open_connection(proxy.host, proxy.port)


async def _say(streams: Streams, text: bytes) -> bytes:
    streams[1].write(text)
    return await asyncio.wait_for(streams[0].readexactly(len(text)), DEADLINE)


async def _end(streams: Streams) -> bytes:
    """Read until the link's end, by EOF or by reset; return what came before it."""
    got = b""
    try:
        while data := await asyncio.wait_for(streams[0].read(1000), DEADLINE):
            got += data
    except ConnectionError:
        pass
    streams[1].close()
    return got


async def test_bytes_pass_both_ways(proxy: Proxy) -> None:
    streams = await _connect(proxy)
    assert await _say(streams, b"ping") == b"ping"
    assert proxy.connections == 1
    streams[1].close()


async def test_the_end_of_one_side_reaches_the_other(proxy: Proxy, echo: Echo) -> None:
    streams = await _connect(proxy)
    await _say(streams, b"ping")
    streams[1].write_eof()
    assert await _end(streams) == b""
    await asyncio.wait_for(echo.gone.wait(), DEADLINE)
    assert echo.open == 0


async def test_a_cut_ends_both_sides_and_turns_new_ones_away_until_restored(proxy: Proxy, echo: Echo) -> None:
    streams = await _connect(proxy)
    await _say(streams, b"ping")
    proxy.cut()
    assert await _end(streams) == b""
    await asyncio.wait_for(echo.gone.wait(), DEADLINE)
    assert await _end(await _connect(proxy)) == b""
    assert (proxy.connections, proxy.turned_away) == (1, 1)
    proxy.restore()
    streams = await _connect(proxy)
    assert await _say(streams, b"again") == b"again"
    streams[1].close()


async def test_a_cut_inside_a_message_lets_half_of_it_through(proxy: Proxy) -> None:
    streams = await _connect(proxy)
    await _say(streams, b"ping")
    proxy.cut_inside_message()
    streams[1].write(b"0123456789")
    assert await _end(streams) == b"01234"
    assert await _end(await _connect(proxy)) == b""


async def test_what_is_held_arrives_after_resume_and_in_order(proxy: Proxy) -> None:
    streams = await _connect(proxy)
    await _say(streams, b"ping")
    proxy.hold()
    streams[1].write(b"first ")
    streams[1].write(b"second")
    # A connection that is not held shows that the loop went round and the far end is well.
    proxy.resume()
    assert await asyncio.wait_for(streams[0].readexactly(12), DEADLINE) == b"first second"
    streams[1].close()


async def test_a_cut_while_held_loses_what_was_held(proxy: Proxy, echo: Echo) -> None:
    streams = await _connect(proxy)
    await _say(streams, b"ping")
    echo.heard.clear()
    proxy.hold()
    streams[1].write(b"lost")
    proxy.cut()
    assert await _end(streams) == b""
    proxy.resume()
    await asyncio.wait_for(echo.gone.wait(), DEADLINE)
    assert not echo.heard.is_set()


async def test_a_dead_target_ends_the_connection() -> None:
    server = await asyncio.start_server(Echo().serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    async with Proxy("127.0.0.1", port) as proxy:
        assert await _end(await _connect(proxy)) == b""
        assert proxy.connections == 0
