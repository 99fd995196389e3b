"""The real transport against endpoints that behave, and against such as do not, on the loopback."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime

import pytest
import trustme

from dialerd.webhooks.addresses import Rules, networks
from dialerd.webhooks.transport import Answer, HttpTransport

LOOPBACK = Rules(networks(["127.0.0.1/32"]), http=True)
NOW = datetime(2030, 1, 1, tzinfo=UTC)
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Peer:
    """Says fixed bytes to whoever has sent a request, and counts."""

    def __init__(self, said: bytes = b"", *, close: bool = True, goes_on: bytes = b"") -> None:
        self._said, self._close, self._goes_on = said, close, goes_on
        self.requests: list[bytes] = []
        self.connections = 0
        self.left = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
                self.requests.append(head + await reader.readexactly(length))
                writer.write(self._said)
                await writer.drain()
                while self._goes_on:
                    writer.write(self._goes_on)
                    await writer.drain()
                if self._close:
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            self.left.set()
        finally:
            writer.close()


@contextlib.asynccontextmanager
async def served(serve: Serve, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """A server on the loopback; yields its port."""
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def told(port: int, rules: Rules = LOOPBACK, timeout: float = 5.0, scheme: str = "http") -> Answer:
    """One message to a peer."""
    transport = HttpTransport(rules, timeout, "dialerd/test")
    try:
        return await transport.post(f"{scheme}://127.0.0.1:{port}/hook?a=%2F", {"webhook-id": "evt_1"}, b'{"a":1}')
    finally:
        await transport.close()


async def test_a_message_arrives_whole_and_is_taken() -> None:
    peer = Peer(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", close=False)
    async with served(peer.serve) as port:
        transport = HttpTransport(LOOPBACK, 5.0, "dialerd/test")
        for _ in range(3):
            url = f"http://127.0.0.1:{port}/hook?a=%2F"
            assert await transport.post(url, {"webhook-id": "evt_1"}, b'{"a":1}') == Answer(200)
        await transport.close()
        assert peer.connections == 1
        request = peer.requests[0]
        assert request.startswith(b"POST /hook?a=%2F HTTP/1.1\r\n")
        assert request.endswith(b'\r\n\r\n{"a":1}')
        for line in (b"webhook-id: evt_1", b"Content-Type: application/json", b"User-Agent: dialerd/test"):
            assert line in request


@pytest.mark.parametrize(
    ("said", "status", "words"),
    [
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204, None),
        (b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n", 500, "the answer was 500"),
        (b"HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n", 410, "the answer was 410"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", 302, "redirects are not"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nless", 200, None),  # the status is said, and counts
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", None, "could not be understood"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Encoding: gzip\r\n\r\nok", 200, None),
        (b"not HTTP at all\r\n\r\n", None, "could not be understood"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 20_000 + b"\r\n\r\n", None, "could not be understood"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n", None, "could not be understood"),
        (b"", None, "closed before the answer"),
    ],
)
async def test_whatever_an_endpoint_says(said: bytes, status: int | None, words: str | None) -> None:
    peer = Peer(said)
    async with served(peer.serve) as port:
        answer = await told(port)
    assert answer.status == status
    assert answer.delivered == (words is None)
    assert words is None or words in (answer.error or "")


async def test_a_redirect_is_never_followed() -> None:
    inside = Peer(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    async with served(inside.serve) as secret_port:
        location = f"Location: http://127.0.0.1:{secret_port}/\r\n".encode()
        peer = Peer(b"HTTP/1.1 307 Temporary Redirect\r\n" + location + b"Content-Length: 0\r\n\r\n")
        async with served(peer.serve) as port:
            assert (await told(port)).status == 307
    assert inside.connections == 0


async def test_a_huge_answer_is_not_read() -> None:
    peer = Peer(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n", goes_on=b"x" * 65536)
    async with served(peer.serve) as port:
        assert await told(port) == Answer(200)
        await peer.left.wait()  # its connection was closed, whatever it had still to say


async def test_an_answer_that_never_ends_is_cut_off_by_the_deadline() -> None:
    for said in (b"", b"HTTP/1.1 200 OK\r\n"):
        peer = Peer(said, close=False)
        async with served(peer.serve) as port:
            answer = await told(port, timeout=0.2)
            assert (answer.status, answer.error) == (None, "no answer within 0.2 s")


async def test_a_body_that_never_ends_takes_nothing_back() -> None:
    peer = Peer(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nslow", close=False)
    async with served(peer.serve) as port:
        assert await told(port, timeout=0.4) == Answer(200)
        await peer.left.wait()


async def test_nobody_there() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        answer = await told(unused.getsockname()[1])
    assert answer.status is None
    assert "no connection" in (answer.error or "")


@pytest.mark.parametrize("rules", [Rules(http=True), Rules(networks(["127.0.0.1/32"]))])
async def test_nothing_is_sent_where_it_is_not_allowed(rules: Rules) -> None:
    peer = Peer(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    async with served(peer.serve) as port:
        answer = await told(port, rules)
    assert not answer.delivered
    assert answer.status is None
    assert peer.connections == 0


async def test_a_name_that_leads_inside_is_not_connected_to() -> None:
    peer = Peer(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    async with served(peer.serve) as port:
        transport = HttpTransport(Rules(http=True), 5.0, "dialerd/test")
        answer = await transport.post(f"http://localhost:{port}/", {}, b"{}")
        await transport.close()
    assert "private address" in (answer.error or "")
    assert peer.connections == 0


@pytest.mark.parametrize("host", ["2130706433", "0x7f.1", "127.1", "017700000001"])
async def test_other_spellings_of_the_loopback_lead_nowhere(host: str) -> None:
    peer = Peer(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    async with served(peer.serve) as port:
        transport = HttpTransport(Rules(http=True), 5.0, "dialerd/test")
        answer = await transport.post(f"http://{host}:{port}/", {}, b"{}")
        await transport.close()
    assert not answer.delivered
    assert peer.connections == 0


async def test_a_certificate_of_nobodys_is_not_trusted() -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    peer = Peer(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    async with served(peer.serve, context) as port:
        answer = await told(port, scheme="https")
        assert "certificate" in (answer.error or "")
        assert not peer.requests
        trusted = ssl.create_default_context()
        authority.configure_trust(trusted)
        transport = HttpTransport(LOOPBACK, 5.0, "dialerd/test", trusted)
        assert await transport.post(f"https://127.0.0.1:{port}/", {}, b"{}") == Answer(200)
        await transport.close()


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("120", 120.0),
        ("999999999", 3600.0),
        ("99999999999999999999", None),
        ("-5", None),
        ("soon", None),
        ("Tue, 01 Jan 2030 00:02:00 GMT", 120.0),
        ("Tue, 01 Jan 2030 00:02:00 -0000", None),
        ("Mon, 31 Dec 2029 00:00:00 GMT", 0.0),
    ],
)
def test_how_long_an_endpoint_wants_to_be_left_alone(header: str | None, seconds: float | None) -> None:
    assert Answer(503, "the answer was 503", header).pause(NOW) == seconds
