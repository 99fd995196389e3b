"""The trunks as they are now: who paused them, what they carry, and how many of their calls were answered lately."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

import structlog

from dialerd.clock import Clock
from dialerd.core.model import Call, CallStatus, Trunk
from dialerd.core.plan import OPEN, Gate
from dialerd.core.throttle import Book, Key, Level
from dialerd.store import trunks
from dialerd.store.db import Store
from dialerd.store.trunks import TrunkPause
from dialerd.store.tx import Tx

log = structlog.get_logger(__name__)

RATIO_CALLS = 100
"""Calls that the answer-seizure ratio (ITU-T E.411) looks back on."""


class TrunkState(StrEnum):
    """Whether a trunk takes calls."""

    UP = "up"
    PAUSED = "paused"
    DOWN = "down"


@dataclass(frozen=True, slots=True)
class TrunkView:
    """A trunk at this moment."""

    trunk: Trunk
    state: TrunkState
    reason: str | None
    channels_in_use: int
    calls_per_second: float
    answer_seizure_ratio: float | None
    """Of the latest calls that seized a channel, the share that was answered; None: there was none yet."""


class Trunks:
    """Every trunk of the configuration; what a person paused stays so over restarts."""

    def __init__(
        self,
        configured: Mapping[str, Trunk],
        book: Book,
        store: Store,
        clock: Clock,
        *,
        pbx_gate: Callable[[str], Gate],
        wake: Callable[[], None],
    ) -> None:
        self._configured = configured
        self._book = book
        self._store = store
        self._clock = clock
        self._pbx_gate = pbx_gate
        self._wake = wake
        self._paused: dict[str, TrunkPause] = {}
        self._answered: dict[str, deque[bool]] = {name: deque(maxlen=RATIO_CALLS) for name in configured}

    @property
    def names(self) -> tuple[str, ...]:
        """Every trunk, in the order of the configuration."""
        return tuple(self._configured)

    def load(self, paused: Iterable[TrunkPause]) -> None:
        """Take up the pauses that the store kept."""
        self._paused = {each.trunk: each for each in paused}

    async def pause(self, trunk_id: str, reason: str) -> None:
        """Let a trunk carry no new call until it is resumed; calls in flight finish. Raises StoreError."""
        pause = TrunkPause(trunk_id, reason, self._clock.wall())
        before = self._paused.get(trunk_id)
        # The gate closes first: nothing may be sent between the commit and its being heard of.
        self._paused[trunk_id] = pause
        try:
            await self._store.write(lambda tx: trunks.pause(tx, pause))
        except BaseException:
            if self._paused.get(trunk_id) is pause:
                self._restore(trunk_id, before)
            raise
        log.warning("trunk_paused", trunk=trunk_id, reason=reason)

    async def resume(self, trunk_id: str) -> None:
        """End a pause; harmless where there is none. Raises StoreError."""
        ended = self._paused.get(trunk_id)

        async def remove(tx: Tx) -> None:
            await trunks.resume(tx, trunk_id)

        await self._store.write(remove)
        if ended is not None and self._paused.get(trunk_id) is ended:
            self._restore(trunk_id, None)
            log.info("trunk_resumed", trunk=trunk_id)

    def gate(self, trunk_id: str) -> Gate:
        """Whether a trunk takes new calls, as far as it is not a matter of limits or of its PBX."""
        pause = self._paused.get(trunk_id)
        if pause is None:
            return OPEN
        return Gate(False, f"trunk {trunk_id} is paused since {pause.paused_at:%Y-%m-%d %H:%M} UTC: {pause.reason}")

    def gates(self) -> dict[Key, Gate]:
        """The gates that are closed, for the planner."""
        return {Key(Level.TRUNK, name): self.gate(name) for name in self._paused}

    def ended(self, call: Call) -> None:
        """A call ended. One that never seized a channel says nothing of its trunk."""
        answered = self._answered.get(call.trunk)
        if answered is not None and call.status is not CallStatus.NOT_SENT:
            answered.append(call.answered_at is not None)

    def view(self, trunk_id: str) -> TrunkView | None:
        """A trunk at this moment; None where the configuration has none of this name."""
        trunk = self._configured.get(trunk_id)
        if trunk is None:
            return None
        capacity, answered = self._book.get(Key(Level.TRUNK, trunk_id)), self._answered[trunk_id]
        state, reason = self._state(trunk)
        return TrunkView(
            trunk,
            state,
            reason,
            capacity.used,
            0.0 if capacity.rate is None else capacity.rate.measured(self._clock.mono()),
            sum(answered) / len(answered) if answered else None,
        )

    def _state(self, trunk: Trunk) -> tuple[TrunkState, str | None]:
        pause = self._paused.get(trunk.id)
        if pause is not None:
            return TrunkState.PAUSED, pause.reason
        gate = self._pbx_gate(trunk.pbx)
        return (TrunkState.UP, None) if gate.open else (TrunkState.DOWN, gate.detail)

    def _restore(self, trunk_id: str, pause: TrunkPause | None) -> None:
        if pause is None:
            self._paused.pop(trunk_id, None)
        else:
            self._paused[trunk_id] = pause
        self._wake()
