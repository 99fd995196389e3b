"""The simulated PBX itself: its channels live on whatever becomes of the link, as a real one's do."""

from __future__ import annotations

import asyncio
import math
from collections import Counter, deque
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from dialerd.clock import Clock, Timer, stream
from dialerd.core.outcome import Fault, Outcome, Verdict
from dialerd.pbx import causes
from dialerd.pbx.callees import (
    Behaviour,
    Draw,
    Range,
    SimulatedSettings,
    drawn,
    has_contact,
    number_in,
    trunk_in,
    written,
)
from dialerd.pbx.driver import CallEvent, ChannelState, Ended, Kept, LinkLost, LiveChannel, Originate, Refused
from dialerd.pbx.simulated_channel import Channel

T = TypeVar("T")

VERSION = "simulated PBX"
_MOST_KEPT = 10_000
"""Results that nobody has fetched; the oldest go first."""


class ConnectionRefused(Exception):
    """Nobody listens: the link is cut, or the PBX is down."""


class LoginRefused(Exception):
    """The PBX answers, and does not let the driver in."""


@dataclass(frozen=True, slots=True)
class TrunkWord:
    """The PBX's word on a trunk, which it knows by its dial string."""

    dial: str
    up: bool
    reason: str


@dataclass(slots=True)
class LedgerEntry:
    """One call as the far end saw it; times on the monotonic clock."""

    call_id: str
    trunk: str
    """The dial string with ``{number}`` in the number's place."""
    number: str
    began: float
    ended: float | None = None


class Ledger:
    """What reached the far end: the truth that a test holds the daemon's own books against."""

    def __init__(self, size: int) -> None:
        self.entries: deque[LedgerEntry] = deque(maxlen=size)
        self.dropped = 0
        """Entries that no longer fit."""
        self._reached: Counter[str] = Counter()
        self._up: Counter[str] = Counter()
        self._most_up: Counter[str] = Counter()
        self.most_up = 0
        """Most calls up at once, over all trunks."""

    def begin(self, call_id: str, dial: str, now: float) -> LedgerEntry:
        """Write down that a call reached the far end."""
        if len(self.entries) == self.entries.maxlen:
            self.dropped += 1
            oldest = self.entries[0].call_id
            self._reached -= Counter((oldest,))
        number = number_in(dial)
        entry = LedgerEntry(call_id, trunk_in(dial, number), number, now)
        self.entries.append(entry)
        self._reached[call_id] += 1
        self._up[entry.trunk] += 1
        self._most_up[entry.trunk] = max(self._most_up[entry.trunk], self._up[entry.trunk])
        self.most_up = max(self.most_up, self.up)
        return entry

    def end(self, entry: LedgerEntry, now: float) -> None:
        """Write down that a call is over."""
        entry.ended = now
        self._up[entry.trunk] -= 1

    @property
    def up(self) -> int:
        """Calls up now."""
        return self._up.total()

    def reached(self, call_id: str) -> int:
        """Count how often an originate of this call reached the far end: more than once is a broken law."""
        return self._reached[call_id]

    def most_up_on(self, trunk: str) -> int:
        """Tell the most calls up at once on one trunk."""
        return self._most_up[trunk]

    def sends(self, trunk: str | None = None) -> list[float]:
        """List the moments at which calls reached the far end, on one trunk or all."""
        return [entry.began for entry in self.entries if trunk in (None, entry.trunk)]


class Wire:
    """One connection of a driver to the PBX. When it is lost, what was under way may or may not have arrived."""

    def __init__(
        self, pbx: SimulatedPbx, hear: Callable[[CallEvent | TrunkWord], None], lost: Callable[[str], None], draw: Draw
    ) -> None:
        self._pbx = pbx
        self._hear = hear
        self._lost = lost
        self._draw = draw
        self._waiting: dict[asyncio.Future[Any], None] = {}
        """In the order in which they came: a run must repeat exactly."""
        self._backlog: list[Callable[[], None]] = []
        self.up = True

    async def ask(self, question: Callable[[], T], doubt_share: float = 0.0) -> T:
        """Carry a question to the PBX and its answer back.

        Raises LinkLost where no answer comes; the question may have been heard all the same.
        """
        if not self.up:
            raise LinkLost("the link is down")
        clock, settings = self._pbx.clock, self._pbx.settings
        answered: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        boots, doubt, arrives = self._pbx.boots, self._draw() < doubt_share, self._draw() < 0.5
        back = drawn(settings.trip_seconds, self._draw)
        if self._pbx.answer_delay is not None:
            back += drawn(self._pbx.answer_delay, self._draw)

        def arrive() -> None:
            if self._pbx.boots != boots or not self._pbx.running or (not arrives and (doubt or not self.up)):
                return
            answer = question()
            if not doubt:
                clock.call_at(clock.mono() + back, lambda: self._carry(lambda: _resolve(answered, answer)))

        there = clock.mono() + drawn(settings.trip_seconds, self._draw)
        clock.call_at(there, lambda: self._carry(arrive) if self.up else arrive())
        late = LinkLost(f"no answer within {settings.deadline_seconds:g} s")
        deadline = clock.call_at(clock.mono() + settings.deadline_seconds, lambda: _fail(answered, late))
        self._waiting[answered] = None
        try:
            return await answered
        finally:
            deadline.cancel()
            self._waiting.pop(answered, None)

    def tell(self, event: CallEvent | TrunkWord) -> None:
        """Carry an event to the driver: or lose it, repeat it or bring it late, as the settings say."""
        settings, clock = self._pbx.settings, self._pbx.clock
        if isinstance(event, TrunkWord):
            self._carry(lambda: self._hear(event))
            return
        if self._draw() < settings.lost_event_share:
            return
        copies = 2 if self._draw() < settings.duplicate_event_share else 1
        for _ in range(copies):
            if self._draw() < settings.late_event_share:
                late = clock.mono() + drawn(settings.late_event_seconds, self._draw)
                clock.call_at(late, lambda: self._carry(lambda: self._hear(event)))
            else:
                self._carry(lambda: self._hear(event))

    def resume(self) -> None:
        """Carry what was held back, in order."""
        backlog, self._backlog = self._backlog, []
        for step in backlog:
            self._carry(step)

    def close(self) -> None:
        """End the connection from the driver's side."""
        self._drop("the link was closed")
        self._pbx.wires.pop(self, None)

    def cut(self, reason: str) -> None:
        """End the connection from outside, and let the driver notice."""
        if self.up:
            self._drop(reason)
            self._lost(reason)

    def _carry(self, step: Callable[[], None]) -> None:
        if self.up and self._pbx.held:
            self._backlog.append(step)
        elif self.up:
            step()

    def _drop(self, reason: str) -> None:
        self.up = False
        for future in tuple(self._waiting):
            _fail(future, LinkLost(reason))


class SimulatedPbx:
    """A PBX with seeded callees. It outlives the drivers that connect to it.

    The same seed and the same order of calls give the same events: each call draws from a stream of its own.
    """

    def __init__(self, settings: SimulatedSettings, clock: Clock) -> None:
        self.settings = settings
        self.clock = clock
        self.ledger = Ledger(settings.ledger_size)
        self.wires: dict[Wire, None] = {}
        """In the order in which they came: a run must repeat exactly."""
        self.boots = 1
        self.running = True
        self.held = False
        """The links are silent: up, and nothing comes through."""
        self.answer_delay: Range | None = None
        """By how much its answers to orders and questions are late, while it is that slow."""
        self.channel_delay: Range | None = None
        """How long an accepted order waits for its channel, while the PBX is that slow."""
        self.overlooks_share = 0.0
        """How many channels a listing overlooks; none of them twice."""
        self._overlooked: set[str] = set()
        self._seed = settings.seed if settings.seed is not None else int(clock.chance() * (1 << 53))
        self._draw = stream(f"{self._seed}/link")
        self._calls = 0
        self._connections = 0
        self._channels: dict[str, Channel] = {}
        self._entries: dict[str, LedgerEntry] = {}
        self._cuts = 0
        self._holds = 0
        self._cut_off: str | None = None
        self._closed: str | None = None
        self._login_refused: str | None = None
        self._next_loss: Timer | None = None
        self._trunks: dict[str, str | None] = {}
        """Trunks that were ever taken down, by their dial strings, and why they are down now."""
        self._ill: dict[str, Behaviour] = {}
        self._kept: dict[str, Kept] = {}
        """What became of answered calls: it outlives the PBX's own death, as Asterisk's database does."""

    def connect(self, hear: Callable[[CallEvent | TrunkWord], None], lost: Callable[[str], None]) -> Wire:
        """Let a driver in. Raises ConnectionRefused or LoginRefused."""
        if self._cut_off is not None or not self.running:
            raise ConnectionRefused("the PBX cannot be reached")
        if self.held:
            raise ConnectionRefused("the PBX does not answer")
        if self._login_refused is not None:
            raise LoginRefused(self._login_refused)
        self._connections += 1
        wire = Wire(self, hear, lost, stream(f"{self._seed}/wire/{self._connections}"))
        self.wires[wire] = None
        self._arm_loss()
        return wire

    def stream_for(self, who: str) -> Draw:
        """Return a stream of chance of its own for somebody beside the PBX."""
        return stream(f"{self._seed}/{who}")

    def place(self, order: Originate) -> Refused | None:
        """Take an order; None: accepted, and a channel follows."""
        if order.call_id in self._channels:
            return Refused("a channel of this id is alive", Verdict(Outcome.FAILED, Fault.DAEMON))
        if self._closed is not None:
            return Refused(self._closed, Verdict(Outcome.UNREACHABLE, Fault.PBX), pbx_closed=True)
        known = self.settings.contexts
        if known is not None and order.place.context is not None and order.place.context not in known:
            return Refused(f"no context {order.place.context}", causes.FAILED_BY_PBX, place_refused=True)
        self._calls += 1
        draw = stream(f"{self._seed}/call/{self._calls}")
        ill = self._ill.get(trunk_in(order.dial)) if self._ill else None
        script = written(order.dial, order.hands_over, self.settings, draw, ill)
        channel = Channel(order, script, self.clock, self._tell, self._gone)
        self._channels[order.call_id] = channel
        wait = drawn(self.settings.trip_seconds, draw)
        if self.channel_delay is not None:
            wait += drawn(self.channel_delay, draw)
        channel.later(wait, lambda: self._make(channel))
        return None

    def hangup(self, call_id: str) -> bool:
        """Hang a channel up; False where there is none."""
        channel = self._channels.get(call_id)
        if channel is None:
            return False
        channel.hang_up()
        return True

    def kept(self, call_ids: Collection[str]) -> dict[str, Kept]:
        """What is kept of these calls."""
        return {call_id: self._kept[call_id] for call_id in call_ids if call_id in self._kept}

    def discard(self, call_ids: Collection[str]) -> None:
        """Forget what is kept of these calls."""
        for call_id in call_ids:
            self._kept.pop(call_id, None)

    def listing(self) -> tuple[LiveChannel, ...]:
        """List the channels, but for those that are too young to be listed yet."""
        now = self.clock.mono()
        return tuple(
            LiveChannel(channel.order.call_id, channel.state, now - channel.made)
            for channel in self._channels.values()
            if channel.made is not None
            and now - channel.made >= self.settings.listing_lag_seconds
            and not self._overlooks(channel)
        )

    @property
    def channels(self) -> int:
        """Channels that live, and orders whose channel is still to come."""
        return len(self._channels)

    def cut_link(self, reason: str = "the link was cut") -> None:
        """Cut every driver off, and let none in until :meth:`restore_link`."""
        self._cuts += 1
        self._cut_off = reason
        self._lose_wires(reason)

    def restore_link(self) -> None:
        """Let drivers in again."""
        self._cut_off = None

    def hold_link(self) -> None:
        """Let nothing through, in either direction, until :meth:`resume_link`; drivers give up after a while."""
        self.held = True
        self._holds += 1
        holds = self._holds
        silent = f"no answer to a ping within {self.settings.ping_seconds:g} s"
        end = self.clock.mono() + self.settings.ping_seconds
        self.clock.call_at(end, lambda: self._lose_wires(silent) if self.held and self._holds == holds else None)

    def resume_link(self) -> None:
        """Let through what was held, in order, and all that follows."""
        self.held = False
        for wire in tuple(self.wires):
            wire.resume()

    def refuse_login(self, reason: str | None) -> None:
        """From the next connection on, refuse the login for this reason; None lets drivers in again."""
        self._login_refused = reason

    def close(self, reason: str | None) -> None:
        """Take no more calls, for this reason; calls in flight go on. None: take them again."""
        self._closed = reason

    def kill(self) -> None:
        """Die at once: all channels vanish without an event, and the link ends."""
        self.running = False
        for channel in tuple(self._channels.values()):
            channel.vanish()
        self._lose_wires("the PBX closed the link")

    def boot(self) -> None:
        """Come up again after :meth:`kill`, with no channel."""
        self.running = True
        self.boots += 1

    def take_down(self, dial: str, reason: str = "unplugged") -> None:
        """Let a trunk, by its dial string with ``{number}``, be out of reach; the drivers are told."""
        self._trunks[dial] = reason
        self._tell(TrunkWord(dial, False, reason))

    def bring_up(self, dial: str) -> None:
        """End that; the drivers are told."""
        self._trunks[dial] = None
        self._tell(TrunkWord(dial, True, "reachable"))

    def trunks(self) -> list[TrunkWord]:
        """What the PBX says of the trunks that were ever taken down."""
        return [TrunkWord(dial, reason is None, reason or "reachable") for dial, reason in self._trunks.items()]

    def make_ill(self, dial: str, behaviour: Behaviour | None) -> None:
        """Let a trunk's carrier do this with every call from now on; None: what its callees do."""
        if behaviour is None:
            self._ill.pop(dial, None)
        else:
            self._ill[dial] = behaviour

    def _make(self, channel: Channel) -> None:
        order = channel.order
        if not has_contact(order.dial) or (self._trunks and self._trunks.get(trunk_in(order.dial)) is not None):
            channel.fail("no contact")
        elif len(self._entries) >= self.settings.max_channels:
            channel.fail("no channel is left", causes.NO_ROOM)
        else:
            self._entries[order.call_id] = self.ledger.begin(order.call_id, order.dial, self.clock.mono())
            channel.begin()

    def _overlooks(self, channel: Channel) -> bool:
        call_id = channel.order.call_id
        if not self.overlooks_share or call_id in self._overlooked or self._draw() >= self.overlooks_share:
            return False
        self._overlooked.add(call_id)
        return True

    def _tell(self, event: CallEvent | TrunkWord) -> None:
        for wire in tuple(self.wires):
            if wire.up:
                wire.tell(event)

    def _gone(self, channel: Channel, ended: Ended | None) -> None:
        call_id = channel.order.call_id
        del self._channels[call_id]
        self._overlooked.discard(call_id)
        entry = self._entries.pop(call_id, None)
        if entry is not None:
            self.ledger.end(entry, self.clock.mono())
        if ended is not None:
            if channel.state is ChannelState.UP and self.settings.keeps_results:
                self._keep(channel, ended)
            self._tell(ended)

    def _keep(self, channel: Channel, ended: Ended) -> None:
        assert channel.answered is not None
        talk = self.clock.mono() - channel.answered
        self._kept[ended.call_id] = Kept(replace(ended, talk_seconds=talk), self.clock.wall(), channel.handed_over)
        if len(self._kept) > _MOST_KEPT:
            self._kept.pop(next(iter(self._kept)))

    def _lose_wires(self, reason: str) -> None:
        wires = tuple(self.wires)
        self.wires.clear()
        for wire in wires:
            wire.cut(reason)

    def _arm_loss(self) -> None:
        rate = self.settings.link_loss_per_minute
        if rate > 0 and self._next_loss is None:
            wait = -math.log(1.0 - self._draw()) * 60.0 / rate
            self._next_loss = self.clock.call_at(self.clock.mono() + wait, self._lose_link)

    def _lose_link(self) -> None:
        self._next_loss = None
        if not self.wires:
            return
        self.cut_link("the link was lost")
        cuts = self._cuts
        back = self.clock.mono() + drawn(self.settings.outage_seconds, self._draw)
        self.clock.call_at(back, lambda: self.restore_link() if self._cuts == cuts else None)


def _resolve(future: asyncio.Future[T], answer: T) -> None:
    if not future.done():
        future.set_result(answer)


def _fail(future: asyncio.Future[T], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
