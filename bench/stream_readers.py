"""Very many clients of one event stream, in a process that costs little: counts what each is told, and how late.

Run as ``python -m bench.stream_readers --port … --path … --clients 1000``, with the API key on standard input's first
line. It prints a line when all streams are open, then one JSON line for each further line on standard input: what was
told since the one before. It ends with its standard input.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import resource
import sys
from datetime import datetime
from typing import Any

from dialerd.clock import SystemClock

_HOST = "127.0.0.1"
_EVENT = re.compile(rb'\nid: (\d+)\ndata: [^\n]*"at":"([^"]+)"')
_CHUNK_END = b"\n\n\r\n"
_KEPT = 64


class Readers:
    """What all clients were told."""

    def __init__(self, request: bytes, late_seconds: float) -> None:
        self.request = request
        self.opened = 0
        self.lost = 0
        self._late = late_seconds
        self._clock = SystemClock()
        self._parsed: dict[bytes, list[tuple[int, float]]] = {}
        self.begin()

    def begin(self) -> None:
        """Count from here."""
        self.told = self.in_time = 0
        self.latest = 0.0
        self.seen: dict[int, float] = {}
        """When each event happened (seconds since 1970), by its id."""

    def take(self, chunk: bytes) -> None:
        """A whole chunk of one client's: mostly the very bytes that all others are told, so that it is read once."""
        now = self._clock.wall().timestamp()
        events = self._parsed.get(chunk)
        if events is None:
            found = [(int(number), _seconds(at)) for number, at in _EVENT.findall(chunk)]
            events = sorted(found, key=lambda each: each[1])
            self.seen.update(events)
            self._parsed[chunk] = events
            if len(self._parsed) > _KEPT:
                del self._parsed[next(iter(self._parsed))]
        self.told += len(events)
        if not events:
            return
        oldest = now - events[0][1]
        self.latest = max(self.latest, oldest)
        self.in_time += len(events) if oldest <= self._late else sum(now - at <= self._late for _, at in events)

    def report(self) -> dict[str, Any]:
        """What was told since :meth:`begin`."""
        return {
            "events": len(self.seen),
            "told": self.told,
            "in_time": self.in_time,
            "latest": self.latest,
            "lost": self.lost,
        }


def _seconds(at: bytes) -> float:
    return datetime.fromisoformat(at.decode()).timestamp()


class _Reader(asyncio.Protocol):
    """One client."""

    def __init__(self, readers: Readers) -> None:
        self._readers = readers
        self._rest = b""
        self._open = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(self._readers.request)

    def data_received(self, data: bytes) -> None:
        data, self._rest = self._rest + data, b""
        if not self._open:
            if b"\nretry: " not in data:
                self._rest = data
                return
            assert data.startswith(b"HTTP/1.1 200"), data[:200]
            self._open = True
            self._readers.opened += 1
        whole, end, self._rest = data.rpartition(_CHUNK_END)
        if end:
            self._readers.take(whole + end)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's name
        self._readers.lost += 1


async def _run(port: int, path: str, clients: int, late_seconds: float) -> None:
    loop, lines = asyncio.get_running_loop(), asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    key = (await lines.readline()).decode().strip()
    request = f"GET {path} HTTP/1.1\r\nHost: {_HOST}\r\nAuthorization: Bearer {key}\r\n\r\n"
    readers, clock = Readers(request.encode(), late_seconds), SystemClock()
    for _ in range(clients):
        await loop.create_connection(lambda: _Reader(readers), _HOST, port)
    while readers.opened < clients:
        assert not readers.lost, f"{readers.lost} streams were not opened"
        await clock.sleep(0.05)
    print("open", flush=True)
    while await lines.readline():
        print(json.dumps(readers.report()), flush=True)
        readers.begin()


def main() -> None:
    """Parse the command line and read."""
    parser = argparse.ArgumentParser(prog="bench.stream_readers", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--path", required=True)
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--late", type=float, default=0.25, help="seconds after which an event counts as late")
    wanted = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    asyncio.run(_run(wanted.port, wanted.path, wanted.clients, wanted.late))


if __name__ == "__main__":
    main()
