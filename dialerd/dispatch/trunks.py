"""The trunks as they are now: who paused them, whether they are down or suspended, and what they carry."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import structlog

from dialerd.clock import Clock
from dialerd.core.model import CallStatus, Trunk
from dialerd.core.outcome import Verdict
from dialerd.core.snapshot import OPEN, Gate
from dialerd.core.throttle import Book, Key, Level
from dialerd.dispatch.ailments import Ailments
from dialerd.dispatch.live_call import LiveCall
from dialerd.dispatch.put_back import PutBack
from dialerd.pbx import driver
from dialerd.store import trunks
from dialerd.store.db import Store
from dialerd.store.trunks import TrunkPause
from dialerd.store.tx import Tx
from dialerd.telemetry.metrics import Metrics

log = structlog.get_logger(__name__)

RATIO_CALLS = 100
"""Calls that the answer-seizure ratio (ITU-T E.411) looks back on."""


class TrunkState(StrEnum):
    """Whether a trunk takes calls."""

    UP = "up"
    PAUSED = "paused"
    DOWN = "down"
    """Out of the PBX's reach, or suspended after many failures in a row: the reason tells which."""
    UNKNOWN = "unknown"
    """Only the daemon that dials knows; this one is a standby."""


STATES = (TrunkState.UP, TrunkState.PAUSED, TrunkState.DOWN)
"""Those that a daemon which dials tells."""


@dataclass(frozen=True, slots=True)
class TrunkView:
    """A trunk at this moment."""

    trunk: Trunk
    state: TrunkState
    reason: str | None
    channels_in_use: int | None
    """None, as what follows: it is not known here."""
    calls_per_second: float | None
    answer_seizure_ratio: float | None
    """Of the latest calls that seized a channel, the share that was answered; None: there was none yet."""


class Trunks:
    """Every trunk of the configuration; what a person paused stays so over restarts.

    ``configured`` is looked at again whenever :meth:`take_up` is called.
    """

    def __init__(
        self,
        configured: Mapping[str, Trunk],
        book: Book,
        store: Store,
        clock: Clock,
        metrics: Metrics,
        *,
        guard_seconds: float,
        pbx_gate: Callable[[str], Gate],
        put_back: Callable[[list[PutBack]], None],
        wake: Callable[[], None],
    ) -> None:
        self._configured = configured
        self._book = book
        self._store = store
        self._clock = clock
        self._metrics = metrics
        self._pbx_gate = pbx_gate
        self._wake = wake
        self._guard = guard_seconds
        self._put_back = put_back
        self._paused: dict[str, TrunkPause] = {}
        self._standby: str | None = None
        self._answered: dict[str, deque[bool]] = {}
        self._ailments: dict[str, Ailments] = {}
        self._ways: dict[str, tuple[str, str]] = {}
        """The PBX and the dial string of each trunk: with another one, what was known of it no longer counts."""
        self.take_up()
        metrics.before_render.append(self._measure)

    def take_up(self) -> None:
        """Take up the trunks of the configuration as they are now."""
        for name in self._ailments.keys() - self._configured.keys():
            del self._ailments[name], self._answered[name], self._ways[name]
            self._metrics.forget_trunk(name)
        for name, trunk in self._configured.items():
            way = trunk.pbx, trunk.dial
            if self._ways.get(name) == way:
                self._ailments[name].take_up(trunk)
                continue
            self._ways[name] = way
            for result in ("accepted", "refused", "in_doubt"):
                self._metrics.originates.labels(trunk.pbx, name, result)
            self._answered[name] = deque(maxlen=RATIO_CALLS)
            self._ailments[name] = Ailments(trunk, self._book, self._clock, self._metrics, self._guard, self._put_back)

    @property
    def names(self) -> tuple[str, ...]:
        """Every trunk, in the order of the configuration."""
        return tuple(self._configured)

    def load(self, paused: Iterable[TrunkPause]) -> None:
        """Take up the pauses that the store kept."""
        self._paused = {each.trunk: each for each in paused}

    def stand_by(self, reason: str) -> None:
        """Another daemon dials: of the trunks nothing is known here but who paused them."""
        self._standby = reason

    # -- what people say ----------------------------------------------------------------------------------------

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
        """End a pause, and let a suspended trunk be tried at once; harmless otherwise. Raises StoreError."""
        ended = self._paused.get(trunk_id)

        async def remove(tx: Tx) -> None:
            await trunks.resume(tx, trunk_id)

        await self._store.write(remove)
        if trunk_id in self._ailments:
            self._ailments[trunk_id].try_now()
        if ended is not None and self._paused.get(trunk_id) is ended:
            self._restore(trunk_id, None)
            log.info("trunk_resumed", trunk=trunk_id)
        self._wake()

    # -- what the PBX and the calls say -------------------------------------------------------------------------

    def hear(self, pbx: str, event: driver.TrunkState) -> None:
        """Take a PBX's own word on a trunk of its."""
        trunk = self._configured.get(event.trunk)
        if trunk is not None and trunk.pbx == pbx:
            self._ailments[event.trunk].hear(up=event.up, reason=event.reason)

    def unknown(self, pbx: str) -> None:
        """The link to a PBX went or came: what it said of its trunks no longer counts."""
        for trunk in self._configured.values():
            if trunk.pbx == pbx:
                self._ailments[trunk.id].unknown()

    def probing(self, trunk_id: str) -> None:
        """A probe over a suspended trunk was planned."""
        self._ailments[trunk_id].probing()

    def rang(self, live: LiveCall) -> None:
        """A call in flight rings."""
        if live.probe and live.call.trunk in self._ailments:
            self._ailments[live.call.trunk].rang(live)

    def answered(self, live: LiveCall) -> None:
        """A call in flight was answered."""
        if live.call.trunk in self._ailments:
            self._ailments[live.call.trunk].answered(live)

    def judge(self, live: LiveCall, verdict: Verdict, event: driver.Ended) -> bool:
        """Look at how a call ended; True: the trunk is to blame, and the contact is spared."""
        ailments = self._ailments.get(live.call.trunk)
        return ailments is not None and ailments.judge(live, verdict, event)

    def ended(self, live: LiveCall) -> None:
        """A call ended and was settled. One that never seized a channel says nothing of how well the trunk answers."""
        call = live.call
        if call.trunk not in self._configured:
            return
        self._ailments[call.trunk].settled(live)
        if call.status is not CallStatus.NOT_SENT:
            self._answered[call.trunk].append(call.answered_at is not None)

    # -- what the planner asks ----------------------------------------------------------------------------------

    def gate(self, trunk_id: str, *, probe: bool = False) -> Gate:
        """Whether a trunk takes new calls, as far as it is not a matter of limits or of its PBX.

        ``probe``: asked for the call that tries a suspended trunk.
        """
        if trunk_id not in self._configured:
            return Gate(False, f"trunk {trunk_id} is not in the configuration")
        now = self._clock.now()
        pause = self._paused.get(trunk_id)
        if pause is not None:
            return Gate(False, f"trunk {trunk_id} is paused since {_shown(pause.paused_at)}: {pause.reason}")
        return self._ailments[trunk_id].gate(now, probe=probe)

    def gates(self) -> dict[Key, Gate]:
        """The gates that are not simply open, for the planner."""
        gates = {Key(Level.TRUNK, name): self.gate(name) for name in self._configured}
        return {key: gate for key, gate in gates.items() if gate is not OPEN}

    def pace(self) -> None:
        """Let each trunk's rate be what its congestion leaves of it now. Before every plan."""
        now = self._clock.mono()
        for ailments in self._ailments.values():
            ailments.pace(now)

    def view(self, trunk_id: str) -> TrunkView | None:
        """A trunk at this moment; None where the configuration has none of this name."""
        trunk = self._configured.get(trunk_id)
        if trunk is None:
            return None
        if self._standby is not None:
            pause = self._paused.get(trunk_id)
            if pause is not None:
                return TrunkView(trunk, TrunkState.PAUSED, pause.reason, None, None, None)
            return TrunkView(trunk, TrunkState.UNKNOWN, self._standby, None, None, None)
        capacity, answered = self._book.get(Key(Level.TRUNK, trunk_id)), self._answered[trunk_id]
        state, reason = self._state(trunk)
        return TrunkView(
            trunk,
            state,
            reason,
            capacity.used,
            0.0 if capacity.rate is None else capacity.rate.measured(self._clock.mono()),
            _ratio(answered),
        )

    def _state(self, trunk: Trunk) -> tuple[TrunkState, str | None]:
        pause = self._paused.get(trunk.id)
        if pause is not None:
            return TrunkState.PAUSED, pause.reason
        pbx = self._pbx_gate(trunk.pbx)
        if not pbx.open:
            return TrunkState.DOWN, pbx.detail
        ailments = self._ailments[trunk.id]
        health, gate = ailments.health, ailments.gate(self._clock.now())
        if health.down is not None or health.suspended is not None:
            return TrunkState.DOWN, gate.detail
        return TrunkState.UP, gate.detail or ailments.slowness(self._clock.mono())

    def _measure(self) -> None:
        for trunk in self._configured.values():
            state, _ = self._state(trunk)
            for each in STATES:
                self._metrics.trunk_state.labels(trunk.id, each.value).set(each is state)
            health = self._ailments[trunk.id].health
            self._metrics.trunk_suspended.labels(trunk.id).set(health.suspended is not None)
            self._metrics.trunk_rate_share.labels(trunk.id).set(health.share(self._clock.mono()))
            ratio = _ratio(self._answered[trunk.id])
            # Without a call there is no ratio, and none is shown: 0 would be a trunk that nobody answers on.
            if ratio is not None:
                self._metrics.trunk_answer_seizure_ratio.labels(trunk.id).set(ratio)

    def _restore(self, trunk_id: str, pause: TrunkPause | None) -> None:
        if pause is None:
            self._paused.pop(trunk_id, None)
        else:
            self._paused[trunk_id] = pause
        self._wake()


def _ratio(answered: Collection[bool]) -> float | None:
    return sum(answered) / len(answered) if answered else None


def _shown(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"
