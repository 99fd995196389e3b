"""What the drivers of real PBXs do alike: keep one link, connect it again and again, and tell what is heard."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import structlog

from dialerd.clock import Clock
from dialerd.pbx import wire
from dialerd.pbx.driver import (
    Accepted,
    CallEvent,
    Dialling,
    InDoubt,
    LinkDown,
    LinkLost,
    LinkState,
    PbxEvent,
    Sink,
)

_STEADY_SECONDS = 10.0
"""A link that held this long starts its back-off afresh when it is lost."""
_MOST_AFTER_LOGIN = 3
"""Doublings of the back-off behind a link that had come up: a PBX that lets us in is there, and has calls of ours."""


def send_nothing_more(connection: socket.socket) -> None:
    """Let a connection end with what has left by now (socket(7), SO_LINGER).

    The kernel would go on for minutes to send what was not acknowledged: an order would reach the PBX long after its
    listings were taken for proof that there is no such call.
    """
    with contextlib.suppress(OSError):  # it is closed already
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class LoginRefused(Exception):
    """The PBX answers, and refuses the login or the rights we need; the message says which, for its administrator."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkSettings:
    """How to reach one PBX. All times in seconds."""

    host: str
    secret: str = field(repr=False)
    port: int
    connect_deadline: float = 5.0
    action_deadline: float = 10.0
    ping_every: float = 10.0
    ping_deadline: float = 5.0
    retry_first: float = 0.5
    retry_most: float = 30.0
    """The back-off after a lost link doubles from the first to the most, each with jitter down to its half."""
    refused_retry: float = 60.0

    def backoff(self, failures: int, chance: float) -> float:
        """The pause after so many failures in a row; ``chance`` is a draw from [0, 1)."""
        longest = min(self.retry_most, self.retry_first * 2.0 ** min(failures, 20))
        return longest * (0.5 + 0.5 * chance)


class Link(Protocol):
    """A connection that is lost once, and then of no further use."""

    lost: asyncio.Future[str]
    """Done with the reason when the connection is gone."""

    @property
    def closed(self) -> bool:
        """Whether the connection is gone, or given up by us."""


class Followed(Protocol):
    """The calls that a driver follows."""

    def __contains__(self, call_id: object) -> bool: ...

    def has_channel(self, call_id: str) -> bool:
        """Whether a call is known to have a channel."""

    def asked(self, call_id: str, asked: bool = True) -> None:
        """Note that a call's hangup is asked for (or that there is no such channel)."""

    def forget(self, call_id: str) -> None:
        """Drop what is remembered of a call."""


L = TypeVar("L", bound=Link)


class LinkedDriver(ABC, Generic[L]):
    """The part of a :class:`dialerd.pbx.driver.PbxDriver` that does not depend on what the link speaks."""

    _protocol: ClassVar[str]
    """Its name in the log."""
    _calls: Followed

    def __init__(self, name: str, settings: LinkSettings, clock: Clock, log: structlog.stdlib.BoundLogger) -> None:
        self._settings = settings
        self._clock = clock
        self._log = log.bind(pbx=name)
        self._state = LinkState.STOPPED
        self._reason: str | None = "not started"
        self._sink: Sink | None = None
        self._link: L | None = None
        self._run_task: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._hang_up_when_made: set[str] = set()
        self._counts: Counter[str] = Counter()
        self._try_now = asyncio.Event()

    @property
    def state(self) -> LinkState:
        """The link's state now."""
        return self._state

    @property
    def reason(self) -> str | None:
        """Why the link is not up; None while it is up."""
        return self._reason

    async def start(self, sink: Sink) -> None:
        """Begin to connect, and return at once."""
        if self._run_task is not None:
            raise RuntimeError("the driver is started already")
        self._sink = sink
        self._state, self._reason = LinkState.CONNECTING, "connecting"
        self._run_task = asyncio.create_task(self._run(), name=f"{self._protocol}-link")

    async def stop(self) -> None:
        """Close the link; calls go on. No event comes after this returns."""
        self._sink = None
        tasks = [*self._tasks, *([self._run_task] if self._run_task is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._run_task = None
        self._state, self._reason = LinkState.STOPPED, "stopped"

    def use(self, settings: LinkSettings) -> None:
        """Connect by these settings from now on. The link that is up stays; one that was refused is tried at once."""
        self._settings = settings
        if self._state is LinkState.REFUSED:
            self._try_now.set()

    async def hangup(self, call_id: str) -> bool:
        """Ask the PBX to hang a call up, or as soon as its channel is made. Raises LinkLost."""
        self._calls.asked(call_id)
        for _ in range(2):
            if await self._ask_hangup(call_id):
                return True
            if call_id in self._calls and not self._calls.has_channel(call_id):
                # The PBX took the order and has not made the channel yet. If it never will, that ends the call as well.
                self._hang_up_when_made.add(call_id)
                return True
            # It may have been made between the question and the answer: asked once more.
        self._calls.asked(call_id, False)
        return False

    def forget(self, call_id: str) -> None:
        """Drop what is remembered of a call that was settled without an Ended."""
        self._calls.forget(call_id)
        self._hang_up_when_made.discard(call_id)

    # The link.

    @abstractmethod
    async def _ask_hangup(self, call_id: str) -> bool:
        """Ask the PBX once to hang a channel up; False: it knows none of this id. Raises LinkLost."""

    @abstractmethod
    async def _connect(self) -> L:
        """Connect, log in, and tell LinkUp. Raises LinkLost, TimeoutError, LoginRefused, WireError."""

    @abstractmethod
    async def _serve(self, link: L) -> str:
        """Watch the link until it is lost; return why."""

    @abstractmethod
    def _close_link(self) -> None:
        """Let go of the link, if there is one, and of what was known by it."""

    async def _run(self) -> None:
        """Connect again and again, until stopped."""
        failures = 0
        while True:
            was_up, refused = None, False
            try:
                link = await self._connect()
                was_up = self._clock.mono()
                reason = await self._serve(link)
            except (LinkLost, TimeoutError) as error:
                reason = str(error) or "no answer in time"
            except (LoginRefused, wire.WireError) as error:
                reason, refused = str(error), True
            except Exception as error:
                self._log.exception(f"{self._protocol}_session_failed")
                self._counts["sessions_failed"] += 1
                reason = f"fault in the driver: {type(error).__name__}"
            finally:
                self._close_link()
            if was_up is not None:
                steady = self._clock.mono() - was_up >= _STEADY_SECONDS
                failures = 0 if steady else min(failures, _MOST_AFTER_LOGIN)
            self._down(reason, refused)
            pause = self._settings.backoff(failures, self._clock.chance())
            await self._pause(self._settings.refused_retry if refused else pause)
            failures += 1

    async def _pause(self, seconds: float) -> None:
        waits = {asyncio.ensure_future(self._clock.sleep(seconds)), asyncio.ensure_future(self._try_now.wait())}
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waits:
                each.cancel()
        self._try_now.clear()

    def _down(self, reason: str, refused: bool) -> None:
        self._state = LinkState.REFUSED if refused else LinkState.CONNECTING
        if reason == self._reason:
            return
        self._reason = reason
        self._log.warning("pbx_link_down", reason=reason, refused=refused)
        self._tell(LinkDown(reason, refused))

    def _ready_link(self) -> L | None:
        link = self._link
        return link if link is not None and self._state is LinkState.UP and not link.closed else None

    def _linked(self) -> L:
        """The link, while it is up. Raises LinkLost."""
        link = self._ready_link()
        if link is None:
            raise LinkLost(f"no link to the PBX: {self._reason}")
        return link

    def _unanswered(self, call_id: str, reason: str) -> Accepted | InDoubt:
        if self._calls.has_channel(call_id):
            return Accepted()  # the receipt is lost, but the call was seen
        self._counts["originates_in_doubt"] += 1
        return InDoubt(reason)

    # What is told.

    def _tell_call(self, event: CallEvent) -> None:
        self._tell(event)
        if event.call_id in self._hang_up_when_made:
            self._hang_up_when_made.discard(event.call_id)
            if isinstance(event, Dialling):
                self._spawn(self._hang_up_made(event.call_id))

    async def _hang_up_made(self, call_id: str) -> None:
        try:
            await self.hangup(call_id)
        except LinkLost as error:
            self._log.warning("late_hangup_failed", call_id=call_id, reason=str(error))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _tell(self, event: PbxEvent) -> None:
        if self._sink is None:
            return
        try:
            self._sink(event)
        except Exception:
            self._counts["sink_errors"] += 1
            self._log.exception("pbx_sink_failed", told=type(event).__name__)
