"""The driver of the simulated PBX: the same contract as the real drivers', over a link that can be cut."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from dialerd.clock import Clock, Timer
from dialerd.core.outcome import Fault, Outcome, Verdict
from dialerd.pbx.callees import SimulatedSettings
from dialerd.pbx.driver import (
    Accepted,
    Answered,
    CallEvent,
    ChannelState,
    Dialling,
    Ended,
    HandedOver,
    InDoubt,
    Kept,
    LinkDown,
    LinkLost,
    LinkState,
    LinkUp,
    LiveChannel,
    Originate,
    Refused,
    Ringing,
    Sink,
    TrunkState,
)
from dialerd.pbx.ended import EndedCalls
from dialerd.pbx.simulated_pbx import VERSION, ConnectionRefused, LoginRefused, SimulatedPbx, TrunkWord, Wire

__all__ = ["SimulatedDriver", "SimulatedPbx", "SimulatedSettings"]

_RANK: dict[type[CallEvent], int] = {Dialling: 1, Ringing: 2, Answered: 3, HandedOver: 4, Ended: 5}
_RANK_OF_STATE = {ChannelState.DIALLING: 1, ChannelState.RINGING: 2, ChannelState.UP: 3}


class SimulatedDriver:
    """A connection to one :class:`SimulatedPbx`; many may come and go on the same PBX."""

    def __init__(self, name: str, pbx: SimulatedPbx, clock: Clock, trunks: Mapping[str, str] | None = None) -> None:
        """``trunks``: the dial strings of the trunks on this PBX, by their ids."""
        self.name = name
        self._pbx = pbx
        self._trunks = {dial: trunk for trunk, dial in (trunks or {}).items()}
        self._clock = clock
        self._draw = pbx.stream_for(f"driver/{name}")
        self._sink: Sink | None = None
        self._wire: Wire | None = None
        self._state = LinkState.STOPPED
        self._reason: str | None = "not started"
        self._retry: Timer | None = None
        self._failures = 0
        self._calls: dict[str, int] = {}
        """The calls followed, each with the rank of the last event told."""
        self._ended = EndedCalls()
        self.sent_again = 0
        """Orders whose call was placed before: each is a broken law of the daemon's, for a test to find."""

    @property
    def state(self) -> LinkState:
        """The link's state now."""
        return self._state

    @property
    def reason(self) -> str | None:
        """Why the link is not up; None while it is up."""
        return self._reason

    async def start(self, sink: Sink) -> None:
        """Begin to connect, and return at once. Raises RuntimeError where the driver was started before."""
        if self._state is not LinkState.STOPPED:
            raise RuntimeError(f"driver {self.name} is started already")
        self._sink = sink
        self._state, self._reason = LinkState.CONNECTING, "connecting"
        self._retry_in(self._pbx.settings.trip_seconds[0])

    async def stop(self) -> None:
        """Close the link. Calls go on. No event comes after this returns."""
        self._sink = None
        self._state, self._reason = LinkState.STOPPED, "stopped"
        if self._retry is not None:
            self._retry.cancel()
        if self._wire is not None:
            self._wire.close()
            self._wire = None

    async def originate(self, order: Originate) -> Accepted | Refused | InDoubt:
        """Send one order and wait for its receipt."""
        if self._wire is None:
            return Refused(f"not sent: {self._reason}", Verdict(Outcome.UNREACHABLE, Fault.PBX), pbx_closed=True)
        if order.call_id in self._calls or order.call_id in self._ended:
            self.sent_again += 1
            return Refused("not sent: this call was placed before", Verdict(Outcome.FAILED, Fault.DAEMON))
        self._calls[order.call_id] = 0
        doubt = self._pbx.settings.originate_in_doubt_share
        try:
            refused = await self._wire.ask(lambda: self._pbx.place(order), doubt)
        except LinkLost as lost:
            return InDoubt(str(lost))
        if refused is None:
            return Accepted()
        self.forget(order.call_id)
        return refused

    async def hangup(self, call_id: str) -> bool:
        """Ask the PBX to hang a call up; False where it knows no such channel. Raises LinkLost."""
        return await self._link().ask(lambda: self._pbx.hangup(call_id))

    async def live(self) -> tuple[LiveChannel, ...]:
        """List the live channels, and follow them from now on. Raises LinkLost."""
        listed = await self._link().ask(self._listing)
        # One that ended while the answer was under way was followed in time, and its end is told already.
        return tuple(channel for channel in listed if channel.call_id in self._calls)

    def ending(self, call_id: str) -> bool:  # noqa: ARG002 - the protocol's
        """Never: the end of a call is told at once and whole."""
        return False

    def forget(self, call_id: str) -> None:
        """Drop what the driver remembers of a call."""
        self._calls.pop(call_id, None)

    async def kept(self, call_ids: Collection[str]) -> Mapping[str, Kept]:
        """What the PBX kept of those of these calls that were answered and have ended. Raises LinkLost."""
        return await self._link().ask(lambda: self._pbx.kept(call_ids))

    def discard(self, call_ids: Collection[str]) -> None:
        """The ends of these calls are in the daemon's own store: nothing of them is needed any more."""
        if self._wire is not None:
            self._pbx.discard(call_ids)

    async def watch(self, trunks: Mapping[str, str]) -> None:
        """Tell the state of these trunks from now on, dial strings by their ids, and of no others."""
        self._trunks = {dial: trunk for trunk, dial in trunks.items()}
        if self._wire is not None:
            for word in self._pbx.trunks():
                self._hear(word)

    def _link(self) -> Wire:
        if self._wire is None:
            raise LinkLost(self._reason or "the link is down")
        return self._wire

    def _listing(self) -> tuple[LiveChannel, ...]:
        listed = self._pbx.listing()
        for channel in listed:
            self._calls.setdefault(channel.call_id, _RANK_OF_STATE[channel.state])
        return listed

    def _hear(self, event: CallEvent | TrunkWord) -> None:
        if isinstance(event, TrunkWord):
            if event.dial in self._trunks:
                self._tell(TrunkState(self._trunks[event.dial], event.up, event.reason))
            return
        rank = _RANK[type(event)]
        if isinstance(event, Dialling) and event.call_id not in self._ended:
            # Perhaps the order of a process before us, that the PBX carries out only now.
            self._calls.setdefault(event.call_id, 0)
        told = self._calls.get(event.call_id)
        if told is None or rank <= told or self._sink is None:
            return  # not followed, told already, or overtaken by a later one
        if isinstance(event, Ended):
            del self._calls[event.call_id]
            self._ended.add(event.call_id)
        else:
            self._calls[event.call_id] = rank
        self._sink(event)

    def _connect(self) -> None:
        try:
            self._wire = self._pbx.connect(self._hear, self._lost)
        except ConnectionRefused as refused:
            self._down(LinkState.CONNECTING, str(refused))
        except LoginRefused as refused:
            self._down(LinkState.REFUSED, str(refused))
        else:
            self._failures = 0
            self._state, self._reason = LinkState.UP, None
            self._tell(LinkUp(VERSION, max_channels=self._pbx.settings.max_channels))
            for word in self._pbx.trunks():
                self._hear(word)

    def _lost(self, reason: str) -> None:
        self._wire = None
        self._down(LinkState.CONNECTING, reason)

    def _down(self, state: LinkState, reason: str) -> None:
        news = self._reason != reason
        self._state, self._reason = state, reason
        shortest, longest = self._pbx.settings.reconnect_seconds
        pause = longest if state is LinkState.REFUSED else min(longest, shortest * 2 ** min(self._failures, 30))
        self._failures += 1
        self._retry_in(pause * (0.5 + self._draw() / 2))
        if news:
            self._tell(LinkDown(reason, refused=state is LinkState.REFUSED))

    def _retry_in(self, seconds: float) -> None:
        self._retry = self._clock.call_at(self._clock.mono() + seconds, self._connect)

    def _tell(self, event: LinkUp | LinkDown | TrunkState) -> None:
        if self._sink is not None:
            self._sink(event)
