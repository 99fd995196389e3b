"""The door: accepts connections, so many at once, and turns away who is one too many before it costs anything."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable

import structlog

from dialerd.api.connections import Connection
from dialerd.clock import Clock
from dialerd.telemetry.metrics import Metrics

log = structlog.get_logger(__name__)

HELLO_SECONDS = 10.0
"""How long a client may take for TLS's handshake."""
_BACKLOG = 128
"""Clients that the kernel keeps until they are accepted."""
_AGAIN = 1.0


class Listener:
    """Listens, and knows of every connection from the moment that it is accepted.

    The loop's own server tells of none before it speaks TLS, and of none that never does.
    """

    def __init__(
        self,
        make: Callable[[Callable[[Connection], None]], Connection],
        most: int,
        tls: ssl.SSLContext | None,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        """``make`` makes what serves a connection, and is given who is to hear of its end; ``most`` may be open."""
        self._make = make
        self._most = most
        self._tls = tls
        self._clock = clock
        self._metrics = metrics
        self._accepting: list[asyncio.Task[None]] = []
        self._beginning: set[asyncio.Task[None]] = set()
        self._open: set[Connection] = set()
        """Those in their handshake, too."""
        self._turned_away = 0

    async def open(self, host: str, port: int) -> int:
        """Listen; returns the port. Raises OSError."""
        found = await asyncio.get_running_loop().getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        sockets: list[socket.socket] = []
        try:
            for family, kind, protocol, _, address in found:
                sockets.append(_listening(socket.socket(family, kind, protocol), address))
        except OSError as error:
            for each in sockets:
                each.close()
            raise OSError(error.errno, f"cannot listen on {host}:{port}: {error.strerror}") from None
        self._accepting = [asyncio.create_task(self._accept(each), name="accept") for each in sockets]
        await self._clock.sleep(0)  # they accept by when their port is told
        return int(sockets[0].getsockname()[1])

    def close(self) -> None:
        """Accept no more: as soon as the loop has turned another may listen here. Harmless when repeated."""
        for task in self._accepting:
            task.cancel()

    async def stop(self) -> None:
        """Give up whoever has not said hello yet."""
        self.close()
        ending = (*self._accepting, *self._beginning)
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)

    async def _accept(self, listening: socket.socket) -> None:
        # Closed only here, where the loop has let go of it: the next file may have its number.
        with listening:
            while True:
                await self._accept_one(listening)
                await self._clock.sleep(0)  # however many come, others have their turn

    async def _accept_one(self, listening: socket.socket) -> None:
        try:
            made, _ = await asyncio.get_running_loop().sock_accept(listening)
        except ConnectionError:
            return  # it has left already
        except OSError as error:  # no descriptors, no memory
            log.warning("connection_not_accepted", reason=str(error))
            await self._clock.sleep(_AGAIN)
            return
        if len(self._open) >= self._most:
            made.close()
            self._told_away()
        else:
            self._begin(made)

    def _told_away(self) -> None:
        if self._turned_away % 1000 == 0:
            log.warning("connections_turned_away", most=self._most)
        self._turned_away += 1
        self._metrics.connections_turned_away.inc()

    def _begin(self, made: socket.socket) -> None:
        connection = self._make(self._ended)
        self._open.add(connection)
        task = asyncio.create_task(self._connect(connection, made), name="connection")
        self._beginning.add(task)
        task.add_done_callback(self._beginning.discard)

    async def _connect(self, connection: Connection, made: socket.socket) -> None:
        begun = False
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: connection,
                made,
                ssl=self._tls,
                ssl_handshake_timeout=None if self._tls is None else HELLO_SECONDS,
            )
            begun = True
        except OSError as error:
            log.debug("connection_not_begun", reason=str(error))
        finally:
            if not begun:
                made.close()
                self._open.discard(connection)

    def _ended(self, connection: Connection) -> None:
        self._open.discard(connection)
        if connection.unread:
            self._metrics.connections_dropped.inc()
            log.debug("connection_dropped", reason="the client took nothing of what was sent")


def _listening(made: socket.socket, address: object) -> socket.socket:
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if made.family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind(address)  # type: ignore[arg-type]  # as getaddrinfo tells it
        made.listen(_BACKLOG)
        made.setblocking(False)
    except BaseException:
        made.close()
        raise
    return made
