"""One ESL connection as asyncio sees it: connected, asked with a deadline, lost once, and then of no further use."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from dialerd.pbx import wire
from dialerd.pbx.driver import LinkLost
from dialerd.pbx.esl_session import EslSession
from dialerd.pbx.esl_stream import MAX_BODY_BYTES, EslEvent, EslFrame, EslStream
from dialerd.pbx.esl_thread import EslThread
from dialerd.pbx.linked import LinkSettings, LoginRefused

MAX_ASKED = 2_000
"""Commands whose answers are outstanding on one connection."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EslSettings(LinkSettings):
    """How to reach one FreeSWITCH. All times in seconds."""

    port: int = 8021
    max_body_bytes: int = MAX_BODY_BYTES


class NotSent(LinkLost):
    """The command did not leave, for sure."""


class EslLink:
    """A connection that is logged in. Made by :meth:`connect`; of no further use once :attr:`lost` is set.

    A missed deadline ends the connection: its answer may still come, and FreeSWITCH's answers are told apart by nothing
    but their order.
    """

    def __init__(self, thread: EslThread, on_event: Callable[[EslEvent], object], max_body: int) -> None:
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        """Done with the reason when the connection is gone."""
        self._thread = thread
        self._on_event = on_event
        self._stream = EslStream(max_body)
        self._session: EslSession | None = None
        self._asked: set[asyncio.Future[EslFrame]] = set()
        self._refused = False
        self._reason: str | None = None

    @classmethod
    async def connect(
        cls,
        thread: EslThread,
        settings: EslSettings,
        on_event: Callable[[EslEvent], object],
    ) -> EslLink:
        """Connect and log in. Raises LinkLost or LoginRefused with the reason, in ``connect_deadline`` seconds.

        Raises WireError where the secret may not be sent.
        """
        login = wire.esl_auth(settings.secret)
        host, port, deadline = settings.host, settings.port, settings.connect_deadline
        link = cls(thread, on_event, settings.max_body_bytes)
        try:
            async with asyncio.timeout(deadline):
                connected = await _connect(host, port)
                await link._log_in(connected, login, deadline)
        except TimeoutError as error:
            link.drop("too slow")
            raise LinkLost(f"no connection to {host}:{port} within {deadline:g} s") from error
        except OSError as error:
            raise LinkLost(f"no connection to {host}:{port}: {error.strerror or error}") from error
        except BaseException:
            link.drop("closed by us")
            raise
        return link

    @property
    def closed(self) -> bool:
        """Whether the connection is gone, or given up by us."""
        return self._reason is not None

    @property
    def garbage(self) -> int:
        """Lines and frames of the PBX dropped because they make no sense."""
        return self._stream.garbage

    async def ask(
        self, command: wire.EslCommand, deadline: float, each: Callable[[EslFrame], object] | None = None
    ) -> EslFrame:
        """Send a command and wait for its answer.

        ``each`` is told the answer as it is read, in order with the events around it. Raises LinkLost where the
        connection goes first, or ``each`` fails, NotSent where nothing was sent; TimeoutError at the deadline
        (seconds), which ends the connection.
        """
        if self._reason is not None:
            raise NotSent(self._reason)
        if len(self._asked) >= MAX_ASKED:
            raise NotSent(f"{MAX_ASKED} commands wait for their answers already")
        future: asyncio.Future[EslFrame] = asyncio.get_running_loop().create_future()
        self._asked.add(future)
        future.add_done_callback(self._asked.discard)
        self._thread.post(partial(self._submit, command, partial(self._answered, future, each)))
        try:
            async with asyncio.timeout(deadline):
                return await future
        except TimeoutError:
            self.drop(f"no answer within {deadline:g} s")
            raise

    def drop(self, reason: str) -> None:
        """Close at once; everything that was asked fails with LinkLost."""
        self._thread.post(partial(self._end, reason))
        self._gone(reason, refused=False)

    async def _log_in(self, connected: socket.socket, login: wire.EslCommand, deadline: float) -> None:
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if not self._thread.post(partial(self._open, connected, login, deadline, ready)):
            connected.close()
            raise LinkLost("the driver stops")
        await asyncio.wait((ready, self.lost), return_when=asyncio.FIRST_COMPLETED)
        if self.lost.done():
            raise LoginRefused(self.lost.result()) if self._refused else LinkLost(self.lost.result())

    # In the thread. The session is made there: gevent's events belong to the hub in which they were made.

    def _open(
        self, connected: socket.socket, login: wire.EslCommand, deadline: float, ready: asyncio.Future[None]
    ) -> None:
        tell = self._thread.tell
        self._session = EslSession(
            login,
            deadline,
            self._stream,
            lambda event, size: tell(partial(self._heard, event), size),
            lambda reason, refused: tell(partial(self._gone, reason, refused), always=True),
        )
        self._session.open(connected, lambda: tell(partial(_set, ready), always=True))

    def _submit(self, command: wire.EslCommand, answered: Callable[[EslFrame], object]) -> None:
        if self._session is not None:
            tell = self._thread.tell
            self._session.submit(command, lambda frame: tell(partial(answered, frame), len(frame.body), always=True))

    def _end(self, reason: str) -> None:
        if self._session is not None:
            self._session.end(reason)

    # Told by the thread, in order.

    def _heard(self, event: EslEvent) -> None:
        if self._reason is None:
            self._on_event(event)

    def _answered(
        self, future: asyncio.Future[EslFrame], each: Callable[[EslFrame], object] | None, frame: EslFrame
    ) -> None:
        if future.done():
            return
        try:
            if each is not None:
                each(frame)
        except Exception as error:
            # Half read it proves nothing, least of all that there is nothing in it.
            future.set_exception(LinkLost(f"fault in the driver: {type(error).__name__}"))
            raise
        future.set_result(frame)

    def _gone(self, reason: str, refused: bool) -> None:
        if self.lost.done():
            return
        self._reason, self._refused = reason, refused
        self.lost.set_result(reason)
        for future in list(self._asked):
            if not future.done():
                future.set_exception(LinkLost(reason))


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


async def _connect(host: str, port: int) -> socket.socket:
    """Open a connection to the first address that takes one. Raises OSError."""
    loop = asyncio.get_running_loop()
    failure: OSError | None = None
    for family, kind, protocol, _, address in await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        connected = socket.socket(family, kind, protocol)
        try:
            connected.setblocking(False)
            await loop.sock_connect(connected, address)
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            connected.close()
            failure = error
        except BaseException:
            connected.close()
            raise
        else:
            return connected
    raise failure or OSError(f"no address for {host}")
