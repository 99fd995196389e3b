"""Which of several daemons on one PostgreSQL database dials: a lock of the session, and an epoch in every commit.

The lock goes with the connection that holds it, so that a standby takes over as soon as its holder's process ends. But
a holder that is frozen, or cut off, does not know that it has lost it. So the new one counts the epoch up, and every
commit of a writer asks in the same transaction whether the epoch is still its own: the old one commits nothing more.
What it had committed before, and not sent yet, it sends only while it has heard of its lease within TTL_SECONDS; and
whoever takes over from a holder that did not give the lease back, and may still be alive, begins that much later.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncpg
import structlog

from dialerd.clock import Clock
from dialerd.store import notices
from dialerd.store.errors import StoreNotReady
from dialerd.store.postgres_link import LOST, in_words, open_connection
from dialerd.store.schema import to_micros

log = structlog.get_logger(__name__)

LOCK = 7_304_211
"""The advisory lock's first half; the second is of the schema."""
TTL_SECONDS = 5.0
"""For so long after its lease was last confirmed a daemon may send what it has committed."""
_MARGIN_SECONDS = 0.5
_BEAT_SECONDS = 1.0
_ANSWER_SECONDS = 2.0
_SETTINGS = {
    "application_name": "dialerd lease",
    "tcp_keepalives_idle": "2",
    "tcp_keepalives_interval": "1",
    "tcp_keepalives_count": "3",
    "timezone": "UTC",
}
_TRY = f"SELECT pg_try_advisory_lock({LOCK}, hashtext(current_schema()))"
_LAST = "SELECT epoch, holder FROM lease WHERE id = 1 FOR UPDATE"
# Its last holder stays named until nothing more can come of it: whoever takes it over in that time waits as well.
_TAKE = """
    INSERT INTO lease (id, epoch, holder, taken_at) VALUES (1, 1, NULL, $1)
    ON CONFLICT (id) DO UPDATE SET epoch = lease.epoch + 1, taken_at = $1 RETURNING epoch
"""
_HOLD = "UPDATE lease SET holder = $2 WHERE id = 1 AND epoch = $1"
_EPOCH = "SELECT epoch FROM lease WHERE id = 1"
_GIVE_BACK = "UPDATE lease SET holder = NULL WHERE id = 1 AND epoch = $1"
# Whoever hears of it finds the lock free: it is given back at once, and the notice goes out with the commit after that.
_UNLOCK = f"""
    SELECT pg_advisory_unlock({LOCK}, hashtext(current_schema())), pg_notify({notices.LEASE}, '{notices.GIVEN_BACK}')
"""


class Lease:
    """The right to dial from a database, which one daemon has at a time."""

    def __init__(self, url: str, clock: Clock) -> None:
        self._url = url
        self._clock = clock
        self._connection: Any = None
        self._task: asyncio.Task[None] | None = None
        self._confirmed = 0.0
        self._trouble: str | None = None
        self._listening: Any = None
        """The connection on which a standby hears that the lease was given back."""
        self._given_back = asyncio.Event()
        self.epoch = 0
        """The number of this holder, once it is one."""
        self._held = False
        """Nobody else can act on the lease: that is ours to give back."""
        self.lost = asyncio.Event()
        """Another daemon has taken over: nothing may be sent or written any more."""
        self.waits_for = "the store is not reached yet"
        """What keeps a standby from dialing."""
        self.on_change: Callable[[], None] = lambda: None

    async def take(self) -> None:
        """Wait until the lease is ours, and until nobody else can act on it any more. Raises StoreNotReady."""
        while True:
            try:
                if await self._try():
                    break
            except asyncpg.UndefinedTableError:
                await self._drop()
                raise StoreNotReady("the store's schema is not of this version: run dialerd migrate") from None
            except LOST as error:
                self._told(f"the store cannot be reached: {in_words(error)}")
                await self._drop()
            # A holder that dies gives nothing back: the lock is tried every second all the same.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_BEAT_SECONDS):
                    await self._given_back.wait()
            self._given_back.clear()
        self._task = asyncio.create_task(self._keep(), name="lease")
        log.info("lease_taken", epoch=self.epoch)

    async def give_back(self) -> None:
        """Let the next one begin at once. To be called when nothing is sent any more. Harmless without a lease."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._connection is not None and self.epoch and not self.lost.is_set():
            with contextlib.suppress(*LOST):
                if self._held:
                    await self._connection.execute(_GIVE_BACK, self.epoch, timeout=_ANSWER_SECONDS)
                await self._connection.execute(_UNLOCK, timeout=_ANSWER_SECONDS)
        await self._drop()

    def doubt(self) -> str | None:
        """Why nothing may be sent now; None while the lease is surely ours."""
        if self.lost.is_set():
            return "another daemon has taken the store over"
        silent = self._clock.since_boot() - self._confirmed
        if silent > TTL_SECONDS:
            return f"the store's lease was not confirmed for {silent:.0f} s: {self._trouble or 'no answer'}"
        return None

    async def _try(self) -> bool:
        if self._connection is None or self._connection.is_closed():
            self._connection = await open_connection(self._url, _SETTINGS, command_seconds=_ANSWER_SECONDS)
        if not await self._connection.fetchval(_TRY):
            self._told("another daemon holds the lease")
            await self._listen()
            return False
        begun = self._clock.mono()
        async with self._connection.transaction():
            # The old holder's last transaction is waited for: it may hold the row until the server ends it.
            last = await self._connection.fetchrow(_LAST, timeout=4 * TTL_SECONDS)
            now = to_micros(self._clock.wall())
            self.epoch = await self._connection.fetchval(_TAKE, now)
        if last is not None and last["holder"] is not None and not _is_dead(last["holder"]):
            self._told("the daemon that held the lease may still be sending")
            await self._clock.sleep(max(0.0, begun + TTL_SECONDS + _MARGIN_SECONDS - self._clock.mono()))
        await self._connection.execute(_HOLD, self.epoch, _myself())
        self._held = await self._confirm()
        return self._held

    async def _listen(self) -> None:
        if self._listening is self._connection:
            return
        channel = await self._connection.fetchval(f"SELECT {notices.LEASE}")
        await self._connection.add_listener(channel, lambda *_: self._given_back.set())
        self._listening = self._connection
        # It may have been given back just before.
        self._given_back.set()

    async def _confirm(self) -> bool:
        begun = self._clock.since_boot()
        if await self._connection.fetchval(_EPOCH) != self.epoch:
            return False
        self._confirmed, self._trouble = begun, None
        return True

    async def _keep(self) -> None:
        """Confirm the lease again and again, and take up its lock anew where the connection was lost."""
        while True:
            await self._clock.sleep(_BEAT_SECONDS)
            was = self.doubt()
            try:
                await self._beat()
            except LOST as error:
                self._trouble = in_words(error)
                await self._drop()
            except Exception:
                log.exception("lease_not_confirmed")
                await self._drop()
            if (self.doubt() is None) != (was is None):
                log.warning("lease_doubtful" if was is None else "lease_confirmed", reason=self.doubt())
                self.on_change()
            if self.lost.is_set():
                return

    async def _beat(self) -> None:
        anew = self._connection is None or self._connection.is_closed()
        if anew:
            self._connection = await open_connection(self._url, _SETTINGS, command_seconds=_ANSWER_SECONDS)
        if anew and not await self._connection.fetchval(_TRY):
            # Our own old session, which the server still believes alive, or somebody else's: the epoch tells.
            if await self._connection.fetchval(_EPOCH) != self.epoch:
                self._lose()
            await self._drop()
            return
        if not await self._confirm():
            self._lose()

    def _lose(self) -> None:
        log.error("lease_lost", epoch=self.epoch)
        self.lost.set()

    async def _drop(self) -> None:
        connection, self._connection, self._listening = self._connection, None, None
        if connection is not None:
            # Ended by force where it does not end in time.
            with contextlib.suppress(*LOST):
                await connection.close(timeout=_BEAT_SECONDS)

    def _told(self, waits_for: str) -> None:
        if waits_for != self.waits_for:
            self.waits_for = waits_for
            log.info("standby", reason=waits_for)


def _myself() -> str:
    return f"{_boot()} {os.getpid()}"


def _boot() -> str:
    """This run of this machine, and the space that its process ids are of."""
    try:
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return "unknown"


def _is_dead(holder: str) -> bool:
    """Whether a holder surely sends nothing more: its process was on this machine, and is gone."""
    place, _, pid = holder.rpartition(" ")
    return place == _boot() and place != "unknown" and pid.isdigit() and not Path(f"/proc/{pid}").exists()
