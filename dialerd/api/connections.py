"""One connection: let go of where its client takes nothing of what is sent to it."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable
from http import HTTPStatus

import structlog
from aiohttp import web

from dialerd.api import problems
from dialerd.api.problems import INVALID_REQUEST
from dialerd.api.wrapper import put_headers

log = structlog.get_logger(__name__)


class Connection(web.RequestHandler):
    """A connection whose errors before any route say as little as all others, and carry the same headers."""

    __slots__ = ("_ended", "_unread_seconds", "unread")

    def __init__(
        self, server: web.Server, unread_seconds: float, ended: Callable[[Connection], None], **how: object
    ) -> None:
        """``unread_seconds``: how long its client may take nothing of what waits for it.

        ``ended`` hears of its end. ``how`` it is served: aiohttp's words.
        """
        super().__init__(server, loop=asyncio.get_running_loop(), **how)  # type: ignore[arg-type]
        self._unread_seconds = unread_seconds
        self._ended = ended
        self.unread = False
        """It was closed because its client took nothing."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Have the kernel end it where nothing of what was sent is taken for too long (RFC 5482).

        Nobody else sees that: what waits may lie in the kernel's buffer, in the loop's or in that of TLS, and a
        connection that is closed is kept until all of it is gone.
        """
        plain = transport.get_extra_info("socket")
        milliseconds = max(1, round(self._unread_seconds * 1000))
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Tell of the end."""
        self.unread = isinstance(exc, OSError) and exc.errno == errno.ETIMEDOUT
        super().connection_lost(exc)
        self._ended(self)

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """Answer what could not be read, or what failed where no middleware of ours was."""
        if status == HTTPStatus.BAD_REQUEST and not request.writer.output_size:
            # Scanners send anything; aiohttp would log a traceback for each, at no cost to whoever sends.
            log.debug("request_unreadable", remote=request.remote)
            response: web.StreamResponse = problems.answer(INVALID_REQUEST, "this is no request that can be read")
        else:
            response = super().handle_error(request, status, exc, message)
        put_headers(response)
        response.force_close()
        return response


def left_unread(raw: web.Request) -> bool:
    """Whether the request's connection was closed because its client took nothing."""
    return isinstance(raw.protocol, Connection) and raw.protocol.unread
