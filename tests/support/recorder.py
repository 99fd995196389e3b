"""A sink that keeps what a driver tells, and lets a test wait for what it needs to see."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from dialerd.pbx.driver import Answered, CallEvent, Dialling, Ended, HandedOver, LinkDown, LinkUp, PbxEvent, Ringing

E = TypeVar("E", bound=PbxEvent)

_ORDER = (Dialling, Ringing, Answered, HandedOver, Ended)

DEADLINE = 10.0
"""Seconds that a test waits for an event by default, on its loop's clock."""


class Recorder:
    """Keeps every event in order, with the loop's time; it is itself the sink."""

    def __init__(self) -> None:
        self.events: list[PbxEvent] = []
        self.times: list[float] = []
        self._changed: set[asyncio.Future[None]] = set()

    def __call__(self, event: PbxEvent) -> None:
        """Keep an event and wake whoever waits."""
        self.events.append(event)
        self.times.append(asyncio.get_running_loop().time())
        for future in self._changed:
            if not future.done():
                future.set_result(None)
        self._changed.clear()

    @property
    def mark(self) -> int:
        """A place in the record: pass it as ``after`` to look only at what comes later."""
        return len(self.events)

    async def until(
        self, predicate: Callable[[PbxEvent], bool], deadline: float = DEADLINE, *, after: int = 0
    ) -> PbxEvent:
        """Return the first event that fulfils the predicate, told already or yet to come.

        Raises AssertionError with the record where none comes within the deadline (seconds).
        """
        seen = after
        try:
            async with asyncio.timeout(deadline):
                while True:
                    for event in self.events[seen:]:
                        if predicate(event):
                            return event
                    seen = max(seen, self.mark)
                    future = asyncio.get_running_loop().create_future()
                    self._changed.add(future)
                    await future
        except TimeoutError:
            raise AssertionError(f"not told within {deadline:g} s; told was:\n{self}") from None

    async def heard(self, kind: type[E], call_id: str, deadline: float = DEADLINE) -> E:
        """Return the event of this kind of one call."""
        event = await self.until(lambda told: isinstance(told, kind) and self._of(told) == call_id, deadline)
        assert isinstance(event, kind)
        return event

    async def ended(self, call_id: str, deadline: float = DEADLINE) -> Ended:
        """Return the end of a call."""
        return await self.heard(Ended, call_id, deadline)

    async def link(self, kind: type[LinkUp] | type[LinkDown], deadline: float = DEADLINE, *, after: int = 0) -> None:
        """Wait for news of the link."""
        await self.until(lambda told: isinstance(told, kind), deadline, after=after)

    def of(self, call_id: str) -> list[CallEvent]:
        """List the events of one call."""
        return [event for event in self.events if isinstance(event, CallEvent) and event.call_id == call_id]

    def check_order(self) -> None:
        """Check what every driver promises of each call: its steps in order and each once, Ended last and once.

        Raises AssertionError with the record.
        """
        for call_id in {self._of(event): None for event in self.events}:
            if call_id is not None:
                ranks = [_ORDER.index(type(event)) for event in self.of(call_id)]
                assert ranks == sorted(set(ranks)), f"call {call_id} was told out of order or twice:\n{self}"

    def __str__(self) -> str:
        return "\n".join(f"{time:12.3f}  {event}" for time, event in zip(self.times, self.events, strict=True)) or "-"

    @staticmethod
    def _of(event: PbxEvent) -> str | None:
        return event.call_id if isinstance(event, CallEvent) else None
