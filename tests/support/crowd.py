"""Ten thousand clients that misbehave, in a process of their own: ``python -m tests.support.crowd PORT KEY CAMPAIGN``.

Says ``up N`` once all are connected, then goes on misbehaving until its standard input ends. Needs no more than one
descriptor for each; ``resource.setrlimit`` gives it those.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import resource
import socket
import sys

from dialerd.clock import SystemClock

MIXTURE = {"silent": 5300, "head": 2000, "body": 2000, "idle": 500, "unread": 100, "deaf": 100}
"""Connections that say nothing; that trickle a head; that trickle a body; that asked once; that read no stream; that
read no answer, and asked for twenty of the largest that need no key."""
_AT_ONCE = 200
_TRICKLE_SECONDS = 5.0
"""Between two bytes of one connection."""
_TURNS = 500
_clock = SystemClock()


class Crowd:
    """The clients, and how to reach the daemon."""

    def __init__(self, port: int, key: str, campaign: str) -> None:
        self._port = port
        self._key = key
        self._campaign = campaign
        self._places = asyncio.Semaphore(_AT_ONCE)
        self._sockets: list[socket.socket] = []
        self._trickling: list[socket.socket] = []

    async def gather(self) -> int:
        """Connect them all; returns how many are."""
        begins = {
            "silent": b"",
            "head": b"GET /api/v1/campaigns HTTP/1.1\r\nHost: x\r\nX-Slow: ",
            "body": self._request("POST", "/campaigns", "Content-Type: application/json", "Content-Length: 4000")
            + b"{",
            "idle": b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
            "deaf": b"GET /api/v1/openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 20,
            "unread": self._request("GET", f"/campaigns/{self._campaign}/events", "Accept: text/event-stream"),
        }
        await asyncio.gather(*(self._one(kind, begins[kind]) for kind, count in MIXTURE.items() for _ in range(count)))
        return len(self._sockets)

    def _request(self, method: str, path: str, *headers: str) -> bytes:
        lines = [f"{method} /api/v1{path} HTTP/1.1", "Host: x", f"Authorization: Bearer {self._key}", *headers, "", ""]
        return "\r\n".join(lines).encode()

    async def _one(self, kind: str, begin: bytes) -> None:
        loop = asyncio.get_running_loop()
        made = socket.socket()
        made.setblocking(False)
        if kind in ("unread", "deaf"):
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        async with self._places:
            await loop.sock_connect(made, ("127.0.0.1", self._port))
            if begin:
                await loop.sock_sendall(made, begin)
        self._sockets.append(made)
        if kind in ("head", "body"):
            self._trickling.append(made)

    async def misbehave(self) -> None:
        """Send a byte on each connection that trickles, now and then; whoever was thrown out stays out."""
        for turn in itertools.cycle(range(_TURNS)):
            await _clock.sleep(_TRICKLE_SECONDS / _TURNS)
            for each in self._trickling[turn::_TURNS]:
                with contextlib.suppress(OSError):
                    each.send(b" ")


async def _main(port: int, key: str, campaign: str) -> None:
    crowd = Crowd(port, key, campaign)
    print("up", await crowd.gather(), flush=True)
    misbehaving = asyncio.create_task(crowd.misbehave())
    await asyncio.to_thread(sys.stdin.read)
    misbehaving.cancel()


if __name__ == "__main__":
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    asyncio.run(_main(int(sys.argv[1]), sys.argv[2], sys.argv[3]))
