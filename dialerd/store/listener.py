"""Hears what is told on a channel of PostgreSQL (LISTEN), however often the connection to the server is lost."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import structlog

from dialerd.clock import Clock
from dialerd.store.postgres_link import LOST, in_words, open_connection

log = structlog.get_logger(__name__)

LOOK_SECONDS = 15.0
"""How often the store is looked at though nothing was told. What is committed is told, unless by a daemon of a version
that does not; and a link that is dead without a word (a firewall forgot it) shows only when it is asked something."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 10.0
_ANSWER_SECONDS = 5.0
_CLOSE_SECONDS = 1.0
_SETTINGS = {
    "application_name": "dialerd listener",
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "3",
    "timezone": "UTC",
}


class Listener:
    """Listens on one channel until cancelled."""

    def __init__(
        self, url: str, channel: str, clock: Clock, *, heard: Callable[[str], None], look: Callable[[], None]
    ) -> None:
        """``channel`` is an expression of SQL. ``heard`` takes each payload.

        ``look``: something may have been told that was not heard, as whenever the connection was made anew.
        """
        self._url = url
        self._channel = channel
        self._clock = clock
        self._heard = heard
        self._look = look

    async def run(self) -> None:
        """Listen, and connect again whenever the connection is lost, at once and then ever less often."""
        pause = 0.0
        while True:
            begun = self._clock.mono()
            try:
                await self._listen()
            except LOST as error:
                log.warning("listening_lost", reason=in_words(error))
            except Exception:
                log.exception("listening_lost")
            if self._clock.mono() - begun > _LONGEST_PAUSE:
                pause = 0.0
            await self._clock.sleep(pause)
            pause = min(max(_FIRST_PAUSE, 2 * pause), _LONGEST_PAUSE)

    async def _listen(self) -> None:
        """Listen until the connection is lost. Raises OSError, asyncpg.PostgresError, asyncpg.InterfaceError."""
        connection = await open_connection(self._url, _SETTINGS, command_seconds=_ANSWER_SECONDS)
        try:
            gone = asyncio.Event()
            connection.add_termination_listener(lambda *_: gone.set())
            channel = await connection.fetchval(f"SELECT {self._channel}")
            await connection.add_listener(channel, self._take)
            log.info("listening")
            while not gone.is_set():
                self._look()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_SECONDS):
                        await gone.wait()
                await connection.execute("SELECT 1")
        finally:
            with contextlib.suppress(*LOST):
                await connection.close(timeout=_CLOSE_SECONDS)

    def _take(self, _connection: Any, _pid: int, _channel: str, payload: str) -> None:
        self._heard(payload)
