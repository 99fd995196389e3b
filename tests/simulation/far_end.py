"""A simulated PBX that writes down what became of its calls, and a driver of it at whose steps the process may die."""

from __future__ import annotations

import asyncio
import math
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from dialerd.clock import VirtualClock
from dialerd.pbx.driver import (
    Accepted,
    Answered,
    Dialling,
    Ended,
    HandedOver,
    InDoubt,
    Kept,
    LinkDown,
    LinkLost,
    LinkUp,
    LiveChannel,
    Originate,
    PbxEvent,
    Refused,
    Ringing,
    Sink,
)
from dialerd.pbx.simulated import SimulatedDriver, SimulatedPbx

_OF_A_CHANNEL = (Dialling, Ringing, Answered, HandedOver)


@dataclass(slots=True)
class Fate:
    """What became of a channel, whoever heard of it; times on the monotonic clock."""

    rang: float | None = None
    answered: float | None = None
    handed_over: bool = False
    ended: float | None = None
    """None: it lives, or vanished with its PBX."""


class WatchedPbx(SimulatedPbx):
    """A PBX that writes down what it tells, whether the link is up or not."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.fates: defaultdict[str, Fate] = defaultdict(Fate)

    def _tell(self, event: Any) -> None:
        now = self.clock.mono()
        match event:
            case Ringing(call_id):
                self.fates[call_id].rang = now
            case Answered(call_id):
                self.fates[call_id].answered = now
            case HandedOver(call_id):
                self.fates[call_id].handed_over = True
            case Ended(call_id):
                self.fates[call_id].ended = now
        super()._tell(event)


@dataclass(slots=True)
class LookUp:
    """What a PBX was asked about a call that had ended."""

    over: float = math.inf
    """When (monotonic) the last such question was answered, or failed."""
    failed: bool = False
    """One of them did."""


class LateBook:
    """Of each call that a daemon gave up without a word of its PBX: when, and what became of a channel after that."""

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self.given_up: dict[str, float] = {}
        self.looked: dict[str, float] = {}
        """When the listing was asked for that was its daemon's last."""
        self.by: dict[str, WatchedDriver] = {}
        """The driver of the daemon that gave it up."""
        self.shown: dict[str, list[tuple[float, WatchedDriver]]] = defaultdict(list)
        """When a daemon was told of its channel all the same, and by which driver."""
        self.asked: dict[str, list[float]] = defaultdict(list)
        """When its PBX was asked to hang it up."""

    def gave_up(self, call_id: str, driver: WatchedDriver) -> None:
        """A daemon follows it no more. One that died before it wrote so down does not count: the next took it up."""
        again = driver is not self.by.get(call_id) and not self.asked[call_id]
        if call_id not in self.given_up or again:
            self.given_up[call_id] = self._clock.mono()
            self.looked[call_id] = driver.looked_at
            self.by[call_id] = driver

    def clear(self) -> None:
        """Begin anew: whoever stands here holds a daemon that is long gone."""
        for book in (self.given_up, self.looked, self.by, self.shown, self.asked):
            book.clear()

    def came(self, call_id: str, driver: WatchedDriver) -> None:
        """A daemon is told of a call's channel."""
        if call_id in self.given_up:
            self.shown[call_id].append((self._clock.mono(), driver))

    def asked_to_end(self, call_id: str) -> None:
        """A daemon asks for a call's end."""
        if call_id in self.given_up:
            self.asked[call_id].append(self._clock.mono())


class WatchedDriver(SimulatedDriver):
    """A driver whose steps others hear of before they are taken: the process may end there."""

    def __init__(
        self,
        name: str,
        pbx: SimulatedPbx,
        clock: VirtualClock,
        trunks: Mapping[str, str],
        on_step: Callable[[str], bool],
        told: Callable[[Ended], None],
        sent: Callable[[str], None],
        late: LateBook,
        *,
        looked_up: defaultdict[str, LookUp],
        rung: Callable[[str, float, float], None],
        fault: Callable[[str], None],
    ) -> None:
        """Take who listens.

        ``on_step``: hears of each step; False: the process is dead. ``told``: hears of each end that was heard;
        ``sent``: of each order that goes out; ``looked_up``: takes what the PBX is asked about ended calls; ``fault``:
        hears of each law that shows broken at once; ``rung``: of each call that it heard ring from one moment to the
        other, with its link up all the while.
        """
        super().__init__(name, pbx, clock, trunks)
        self._on_step = on_step
        self._told = told
        self._sent = sent
        self._late = late
        self._looked_up = looked_up
        self._rung = rung
        self._fault = fault
        self._rings: dict[str, tuple[float, int]] = {}
        """Since when a call rings, and how much was doubted by then."""
        self._known = False
        """A listing was told that was asked for after its link came up and after the last order in doubt."""
        self._doubts = 0
        """Counts what makes a listing that was asked for before it worthless."""
        self.looked_at = -math.inf
        """When it asked for the listing that it was told last."""
        self.ended_at: float | None = None
        """When its daemon stopped it, or died."""

    async def start(self, sink: Sink) -> None:
        """Begin to connect."""

        def hear(event: PbxEvent) -> None:
            if not self._on_step("event"):
                return
            if isinstance(event, LinkUp | LinkDown):
                self._doubt()
            self._time(event)
            if isinstance(event, Ended) and event.call_id not in self._late.given_up:
                self._told(event)
            elif isinstance(event, _OF_A_CHANNEL):
                self._late.came(event.call_id, self)
            sink(event)

        await super().start(hear)

    async def originate(self, order: Originate) -> Accepted | Refused | InDoubt:
        """Send one order and wait for its receipt."""
        await self._step("send")
        self._sent(order.call_id)
        if not self._known:
            self._fault(f"{order.call_id} was sent before it was known what lives on its PBX")
        answer = await super().originate(order)
        if isinstance(answer, InDoubt):
            self._doubt()
        await self._step("receipt")
        return answer

    async def live(self) -> tuple[LiveChannel, ...]:
        """List the live channels."""
        await self._step("live")
        asked_at, doubts = self._clock.mono(), self._doubts
        listed = await super().live()
        self._known = self._known or doubts == self._doubts
        self.looked_at = asked_at
        for channel in listed:
            self._late.came(channel.call_id, self)
        return listed

    async def _step(self, step: str) -> None:
        """Take a step, unless the process is dead: nothing comes of it then."""
        if not self._on_step(step):
            await asyncio.get_running_loop().create_future()

    def _time(self, event: PbxEvent) -> None:
        """Note how long a call rings."""
        now = self._clock.mono()
        if isinstance(event, Ringing):
            self._rings[event.call_id] = now, self._doubts
        elif isinstance(event, Answered | Ended) and event.call_id in self._rings:
            since, doubts = self._rings.pop(event.call_id)
            if doubts == self._doubts:
                self._rung(event.call_id, since, now)

    def _doubt(self) -> None:
        self._known, self._doubts = False, self._doubts + 1

    async def hangup(self, call_id: str) -> bool:
        """Ask the PBX to hang a call up."""
        self._late.asked_to_end(call_id)  # also where it dies of it
        await self._step("hangup")
        return await super().hangup(call_id)

    async def kept(self, call_ids: Collection[str]) -> Mapping[str, Kept]:
        """What the PBX kept of calls."""
        await self._step("kept")
        asked = [self._looked_up[call_id] for call_id in call_ids]
        for each in asked:
            each.over = math.inf
        try:
            return await super().kept(call_ids)
        except LinkLost:
            for each in asked:
                each.failed = True
            raise
        finally:
            for each in asked:
                each.over = self._clock.mono()

    def forget(self, call_id: str) -> None:
        """Drop what is remembered of a call that nobody follows any more."""
        self._late.gave_up(call_id, self)
        super().forget(call_id)

    async def stop(self) -> None:
        """Close the link."""
        self.ended_at = self._clock.mono()
        await super().stop()

    def drop(self) -> None:
        """Let go of the PBX at once, as a process that dies does."""
        stopping = self.stop()
        try:
            stopping.send(None)
        except StopIteration:
            return
        raise AssertionError("the driver's stop waits")
