"""Watches a real FreeSWITCH over an event socket connection of its own: which calls left it, and which are over.

It also ends what a scenario left behind, for the driver that placed it may have lost its link.
"""

from __future__ import annotations

import asyncio
import contextlib
from types import TracebackType

from dialerd.pbx.esl_stream import EslFrame, EslStream, parse_event

_DEADLINE = 5.0
_READ_BYTES = 65_536
_LATE_SECONDS = 1.0


class EslObserver:
    """Counts FreeSWITCH's own outbound channels by call id. Use it as an asynchronous context manager."""

    def __init__(self, host: str, port: int, secret: str) -> None:
        self.made: list[str] = []
        """The call id of each outbound channel that was made, as often as it was made."""
        self.over: set[str] = set()
        self._heard = asyncio.Condition()
        self._address = (host, port)
        self._secret = secret
        self._reading: asyncio.Task[None] | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._replies: asyncio.Queue[EslFrame] = asyncio.Queue()

    async def __aenter__(self) -> EslObserver:
        """Log in and subscribe. Raises AssertionError where FreeSWITCH does not let us."""
        reader, self._writer = await asyncio.open_connection(*self._address)
        self._reading = asyncio.create_task(self._read(reader))
        for command in (f"auth {self._secret}", "event plain CHANNEL_ORIGINATE CHANNEL_HANGUP_COMPLETE"):
            answer = await self._ask(command)
            assert answer.reply.startswith("+OK"), f"the real FreeSWITCH refuses: {answer.reply}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Disconnect."""
        assert self._writer is not None
        assert self._reading is not None
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)
        self._writer.close()
        await self._writer.wait_closed()

    async def hear_of(self, call_id: str) -> None:
        """Wait until a call was heard of. Two connections are told of the same event one after the other.

        A call that was never made is waited for in vain, for a second.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LATE_SECONDS), self._heard:
                await self._heard.wait_for(lambda: call_id in self.made)

    async def end(self, call_id: str) -> None:
        """Hang a call up where it was made and is not over, and wait until it is. Raises TimeoutError."""
        if call_id in self.over:
            return
        await self.hear_of(call_id)
        if call_id in self.made and call_id not in self.over:
            await self._ask(f"api uuid_kill {call_id}")
            async with asyncio.timeout(_DEADLINE), self._heard:
                await self._heard.wait_for(lambda: call_id in self.over)

    async def _ask(self, command: str) -> EslFrame:
        assert self._writer is not None
        self._writer.write(f"{command}\n\n".encode())
        async with asyncio.timeout(_DEADLINE):
            return await self._replies.get()

    async def _read(self, reader: asyncio.StreamReader) -> None:
        stream = EslStream()
        while data := await reader.read(_READ_BYTES):
            for frame in stream.feed(data):
                if frame.content_type in ("command/reply", "api/response"):
                    self._replies.put_nowait(frame)
                elif frame.content_type == "text/event-plain":
                    headers = parse_event(frame.body).headers
                    call_id = headers.get("Unique-ID", "")
                    if headers["Event-Name"] == "CHANNEL_ORIGINATE":
                        self.made.append(call_id)
                    else:
                        self.over.add(call_id)
                    async with self._heard:
                        self._heard.notify_all()
