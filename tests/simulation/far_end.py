"""A driver of the simulated PBX that others listen in on, and at whose steps the process may die."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from dialerd.clock import VirtualClock
from dialerd.pbx.driver import Accepted, Ended, InDoubt, Originate, PbxEvent, Refused, Sink
from dialerd.pbx.simulated import SimulatedDriver, SimulatedPbx


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
    ) -> None:
        """Take who listens.

        ``on_step``: hears of each step; False: the process is dead. ``told``: hears of each end that was heard;
        ``sent``: of each order that goes out.
        """
        super().__init__(name, pbx, clock, trunks)
        self._on_step = on_step
        self._told = told
        self._sent = sent

    async def start(self, sink: Sink) -> None:
        """Begin to connect."""

        def hear(event: PbxEvent) -> None:
            if not self._on_step("event"):
                return
            if isinstance(event, Ended):
                self._told(event)
            sink(event)

        await super().start(hear)

    async def originate(self, order: Originate) -> Accepted | Refused | InDoubt:
        """Send one order and wait for its receipt."""
        if not self._on_step("send"):
            await asyncio.get_running_loop().create_future()
        self._sent(order.call_id)
        answer = await super().originate(order)
        if not self._on_step("receipt"):
            await asyncio.get_running_loop().create_future()
        return answer

    def drop(self) -> None:
        """Let go of the PBX at once, as a process that dies does."""
        stopping = self.stop()
        try:
            stopping.send(None)
        except StopIteration:
            return
        raise AssertionError("the driver's stop waits")
