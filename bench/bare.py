"""The baseline on a real Asterisk: a script that fires Originates over AMI and does nothing else."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from types import TracebackType

from dialerd.clock import SystemClock
from tests.lab.lab import FULL, Lab

_SECONDS = 10.0
_CHUNK = 65_536
_HANGUP = b"Event: Hangup\r\n"
_clock = SystemClock()


class BareScript:
    """One AMI connection. ``events``: whether Asterisk tells it of calls."""

    def __init__(self, lab: Lab, *, events: bool) -> None:
        self._lab = lab
        self._mask = "call" if events else "off"
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def __aenter__(self) -> BareScript:
        async with asyncio.timeout(_SECONDS):
            self._reader, self._writer = await asyncio.open_connection(self._lab.host, self._lab.ports.ami)
            login = f"Action: Login\r\nUsername: {FULL.name}\r\nSecret: {FULL.secret}\r\nEvents: {self._mask}\r\n\r\n"
            self._writer.write(login.encode())
            await self._reader.readuntil(b"Authentication accepted")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._writer is not None
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    def originate(self, number: str, exten: str) -> None:
        """Fire one Originate to a number; who answers goes to this place of the lab's context ``dialer``."""
        assert self._writer is not None
        self._writer.write(
            f"Action: Originate\r\nChannel: PJSIP/{number}@trunk\r\nContext: dialer\r\nExten: {exten}\r\n"
            f"Priority: 1\r\nTimeout: 30000\r\nAsync: true\r\n\r\n".encode()
        )

    async def fire(self, numbers: Sequence[str], exten: str, per_second: float) -> None:
        """Fire all, evenly at a rate, whatever becomes of them."""
        assert self._reader is not None
        draining = asyncio.create_task(self._drain(self._reader))
        begun = _clock.mono()
        for index, number in enumerate(numbers):
            await _clock.sleep(max(0.0, begun + index / per_second - _clock.mono()))
            self.originate(number, exten)
        draining.cancel()

    async def refill(self, numbers: Sequence[str], exten: str, slots: int) -> None:
        """Keep so many calls up: each Hangup that Asterisk tells of fires the next Originate at once."""
        waiting = iter(numbers)
        for number in (next(waiting) for _ in range(slots)):
            self.originate(number, exten)
        async for _ in self._hangups():
            following = next(waiting, None)
            if following is None:
                return
            self.originate(following, exten)

    async def _hangups(self) -> AsyncIterator[None]:
        assert self._reader is not None
        buffer = b""
        while chunk := await self._reader.read(_CHUNK):
            *events, buffer = (buffer + chunk).split(b"\r\n\r\n")
            for event in events:
                if event.startswith(_HANGUP):
                    yield

    @staticmethod
    async def _drain(reader: asyncio.StreamReader) -> None:
        while await reader.read(_CHUNK):
            pass
