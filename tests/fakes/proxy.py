"""A TCP proxy between a driver and its PBX, by which a test cuts, holds and resumes the link."""

from __future__ import annotations

import asyncio
from types import TracebackType

_CHUNK = 65_536
_CONNECT_SECONDS = 5.0


class Proxy:
    """Passes connections on to one address. Use it as an asynchronous context manager."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._transports: set[asyncio.WriteTransport] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._cut = False
        self._cut_inside = False
        self._kept_back = b""
        self._more_kept_back = asyncio.Event()
        self.connections = 0
        """Connections passed on so far."""
        self.turned_away = 0
        """Connections ended at once because the link was cut."""

    @property
    def host(self) -> str:
        """Where the proxy listens."""
        return "127.0.0.1"

    @property
    def port(self) -> int:
        """The port at which the proxy listens; it stays the same as long as the proxy runs."""
        assert self._server is not None, "the proxy is not started"
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def __aenter__(self) -> Proxy:
        """Begin to listen."""
        self._server = await asyncio.start_server(self._accept, self.host, 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop listening and end every connection."""
        assert self._server is not None
        self._server.close()
        self.cut()
        # The pumps see the ends and return; asyncio's streams complain of a cancelled handler.
        self._flowing.set()
        if self._tasks:
            _, stuck = await asyncio.wait(self._tasks, timeout=_CONNECT_SECONDS)
            assert not stuck, "a connection of the proxy did not end"

    def cut(self) -> None:
        """End every connection at once, and each new one, until :meth:`restore`. What is under way is lost."""
        self._cut = True
        self._cut_inside = False
        for transport in tuple(self._transports):
            transport.abort()

    def cut_inside_message(self) -> None:
        """Cut in the middle of the next bytes from the PBX: their first half arrives, then the end."""
        self._cut_inside = True

    def restore(self) -> None:
        """Let connections pass again."""
        self._cut = self._cut_inside = False

    def hold(self) -> None:
        """Pass nothing on, in either direction, but keep the connections: the link is silent, not down."""
        self._kept_back = b""
        self._flowing.clear()

    async def holds(self, part: bytes) -> None:
        """Wait until what is held on its way to the PBX has this in it. The waiter sets the deadline."""
        while part not in self._kept_back:
            self._more_kept_back.clear()
            await self._more_kept_back.wait()

    def resume(self) -> None:
        """Pass on what was held, in order, and all that follows."""
        self._flowing.set()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self._transports.add(writer.transport)
        try:
            await self._pass(reader, writer)
        except (OSError, TimeoutError):
            pass  # either end went away; the other is told by the abort below
        finally:
            writer.transport.abort()
            self._transports.discard(writer.transport)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._cut:
            self.turned_away += 1
            return
        async with asyncio.timeout(_CONNECT_SECONDS):
            far_reader, far_writer = await asyncio.open_connection(*self._target)
        if self._cut:
            far_writer.transport.abort()
            return
        self.connections += 1
        self._transports.add(far_writer.transport)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pump(reader, far_writer))
                both.create_task(self._pump(far_reader, writer, from_pbx=True))
        except* OSError:
            pass
        finally:
            far_writer.transport.abort()
            self._transports.discard(far_writer.transport)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, from_pbx: bool = False) -> None:
        while data := await source.read(_CHUNK):
            if not from_pbx and not self._flowing.is_set():
                self._kept_back += data
                self._more_kept_back.set()
            await self._flowing.wait()
            if from_pbx and self._cut_inside and len(data) > 1:
                sink.write(data[: len(data) // 2])
                # Closed, not aborted: the half must arrive before the end does.
                self._transports.discard(sink.transport)
                sink.close()
                self.cut()
                await sink.wait_closed()
                return
            sink.write(data)
            await sink.drain()
        await self._flowing.wait()
        if not sink.is_closing():
            sink.write_eof()
