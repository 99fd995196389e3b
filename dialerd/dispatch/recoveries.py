"""The PBXs that calls live on: a recovery for each, those that left the configuration with calls on them included."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from functools import partial

import structlog

from dialerd.clock import Clock
from dialerd.core.model import Call, CallStatus
from dialerd.core.outcome import Fault, Outcome
from dialerd.core.snapshot import Gate
from dialerd.core.throttle import Key, Level
from dialerd.dispatch.calls import Calls
from dialerd.dispatch.live_call import LiveCall
from dialerd.dispatch.receipts import Receipts
from dialerd.dispatch.recovery import LONGEST_CALL, Recovery
from dialerd.pbx.driver import Ended, Kept, LinkLost, LinkState, PbxDriver
from dialerd.store.records import CallStep
from dialerd.telemetry.logs import of_call
from dialerd.telemetry.metrics import Metrics

log = structlog.get_logger(__name__)


class Recoveries:
    """Finds the recovery of a PBX, and knows what to do where there is none."""

    def __init__(
        self, calls: Calls, clock: Clock, metrics: Metrics, receipts: Receipts, wake: Callable[[], None]
    ) -> None:
        self._calls = calls
        self._clock = clock
        self._metrics = metrics
        self._receipts = receipts
        self._wake = wake
        self._all: dict[str, Recovery] = {}
        self._drivers: dict[str, PbxDriver] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._retired: set[str] = set()
        self._group: asyncio.TaskGroup | None = None

    def open(self, group: asyncio.TaskGroup) -> None:
        """Run the recoveries inside a task group from now on."""
        self._group = group
        for name in self._all:
            self._run(name)

    # -- PBXs come and go ---------------------------------------------------------------------------------------

    def add(self, name: str, driver: PbxDriver) -> None:
        """Follow a PBX; one that was retired is in the configuration again."""
        if name in self._all:
            self._retired.discard(name)
            return
        self._metrics.pbx_link_up.labels(name).set(0)  # one that never came up is down too, and must be seen
        self._drivers[name] = driver
        settled = partial(self._receipts.settled, name)
        self._all[name] = Recovery(
            name, driver, self._calls, self._clock, self._metrics, settled=settled, wake=self._wake
        )
        if driver.state is LinkState.UP:
            self._all[name].link_up()  # it was being let go of, and its link is still there
        if self._group is not None:
            self._run(name)

    def retire(self, name: str) -> None:
        """A PBX left the configuration: it gets no new calls, and is let go of when those on it have ended."""
        if name not in self._retired:
            self._retired.add(name)
            for live in self._calls.of_pbx(name):
                self.outlast(live)

    def let_go(self, in_use: Callable[[str], bool]) -> list[str]:
        """Stop following retired PBXs that no call occupies any more; returns their names."""
        done = [name for name in self._retired if not in_use(name)]
        for name in done:
            self._retired.discard(name)
            del self._all[name], self._drivers[name]
            self._receipts.settled(name)
            if (task := self._tasks.pop(name, None)) is not None:
                task.cancel()
        return done

    def _run(self, name: str) -> None:
        assert self._group is not None
        self._tasks[name] = self._group.create_task(self._all[name].run(), name=f"recovery-{name}")

    # -- calls --------------------------------------------------------------------------------------------------

    def resume(self, live: LiveCall) -> None:
        """Take up a call that was in flight before this process began."""
        if live.call.pbx not in self._all:
            log.warning("call_on_unknown_pbx", pbx=live.call.pbx, **of_call(live.call))
            self.outlast(live)

    def outlast(self, live: LiveCall) -> None:
        """Settle a call whose PBX nobody may be able to ask once it is over for sure, by the PBX's own timers."""
        left = (live.call.originated_at + LONGEST_CALL - self._clock.wall()).total_seconds()

        def over() -> None:
            if self._calls.get(live.call.id) is live:
                log.warning("call_outlasted", pbx=live.call.pbx, **of_call(live.call))
                self._calls.settle_unknown(live)

        self._clock.call_at(self._clock.mono() + max(0.0, left), over)

    async def hang_up(self, live: LiveCall) -> None:
        """Ask a call's PBX to hang it up, or see to it once the PBX can be asked."""
        recovery = self._all.get(live.call.pbx)
        if recovery is not None:
            await recovery.hang_up(live)

    async def look_up(self, live: LiveCall, ended: Ended) -> None:
        """Settle a call whose end was told, and perhaps not all before it: its PBX may have kept the rest."""
        kept: Mapping[str, Kept] = {}
        try:
            if live.call.pbx in self._drivers:
                kept = await self._drivers[live.call.pbx].kept([live.call.id])
        except LinkLost as error:
            log.warning("end_not_looked_up", pbx=live.call.pbx, **of_call(live.call), reason=str(error))
        finally:
            if self._calls.get(live.call.id) is live:
                self._calls.settle_ended(live, ended, kept.get(live.call.id))

    async def hang_up_channel(self, pbx: str, call_id: str) -> bool:
        """Ask a PBX to hang up a channel that no call in flight stands for. Raises LinkLost; False: there is none."""
        return pbx in self._all and await self._all[pbx].hang_up_channel(call_id)

    def discard(self, steps: Iterable[CallStep]) -> None:
        """These steps are in the store: what a PBX kept of answered calls that they end is not needed any more."""
        ended: dict[str, list[str]] = {}
        for each in steps:
            if each.call.ended_at is not None and each.call.answered_at is not None:
                ended.setdefault(each.call.pbx, []).append(each.call.id)
        for pbx, call_ids in ended.items():
            if pbx in self._all:
                self._drivers[pbx].discard(call_ids)

    # -- what a PBX's link and its calls tell -------------------------------------------------------------------

    def link_up(self, pbx: str) -> None:
        """The link is there again."""
        if pbx in self._all:
            self._all[pbx].link_up()

    def link_down(self, pbx: str) -> None:
        """The link is gone."""
        if pbx in self._all:
            self._all[pbx].link_down()

    def closed(self, pbx: str, reason: str) -> None:
        """A PBX refuses every call at present."""
        if pbx in self._all:
            self._all[pbx].closed(reason)

    def told(self, pbx: str, closed: str | None) -> None:
        """A PBX's own word that it takes no calls, and why; None: it takes them again."""
        if pbx in self._all:
            self._all[pbx].told(closed)

    def ended(self, call: Call) -> None:
        """A call has ended. One that never left because its PBX made no channel for it found no room there."""
        no_room = (CallStatus.NOT_SENT, Outcome.CONGESTION, Fault.PBX)
        if (call.status, call.outcome, call.fault) == no_room and call.pbx in self._all:
            self._all[call.pbx].full(call.hangup_text or "no cause given")

    def taken(self, pbx: str) -> None:
        """A PBX has made a channel for a call."""
        if pbx in self._all:
            self._all[pbx].taken()

    def in_doubt(self, pbx: str) -> bool:
        """An order to a PBX was not answered; False: it cannot be under way any more."""
        return pbx in self._all and self._all[pbx].in_doubt()

    def doubt(self, pbx: str) -> None:
        """Something about a call of a PBX is not known: ask soon."""
        if pbx in self._all:
            self._all[pbx].doubt()

    # -- what is asked ------------------------------------------------------------------------------------------

    def gate(self, pbx: str) -> Gate:
        """Whether a PBX takes calls now, and if not, why."""
        if pbx not in self._all or pbx in self._retired:
            return Gate(False, f"pbx {pbx} is not in the configuration")
        return self._all[pbx].gate()

    def gates(self) -> Mapping[Key, Gate]:
        """The gate of every PBX of the configuration."""
        return {Key(Level.PBX, name): each.gate() for name, each in self._all.items() if name not in self._retired}
