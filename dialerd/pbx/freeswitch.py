"""The driver for FreeSWITCH: keeps one event socket link, sends orders over it and tells what becomes of the calls."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import structlog

from dialerd.clock import Clock
from dialerd.core.outcome import Fault, Outcome, Verdict
from dialerd.pbx import causes, wire
from dialerd.pbx.driver import (
    Accepted,
    CallEvent,
    Ceilings,
    Ended,
    InDoubt,
    Kept,
    LinkLost,
    LinkState,
    LinkUp,
    LiveChannel,
    Originate,
    Refused,
    Sink,
)
from dialerd.pbx.esl_events import EVENTS, EslCalls, job_id
from dialerd.pbx.esl_gateways import ADDED, GATEWAY_EVENTS, Gateways, GatewayState, read_gateway, read_gateway_event
from dialerd.pbx.esl_link import EslLink, EslSettings, NotSent
from dialerd.pbx.esl_places import Places
from dialerd.pbx.esl_status import Status, read_channels, read_status, sessions_of_a_call, why_closed
from dialerd.pbx.esl_stream import EslEvent, EslFrame, parse_event
from dialerd.pbx.esl_thread import EslThread
from dialerd.pbx.linked import LinkedDriver, LoginRefused

log = structlog.get_logger(__name__)

_BRIDGE = "CHANNEL_BRIDGE"
"""Asked for only once there is a queue: others' bridges are most of what a busy PBX tells."""
_SHUTDOWN = "SHUTDOWN_REQUESTED"
"""``fsctl shutdown elegant`` or ``asap``; that it was taken back nothing tells."""
_NO_CHANNEL = "No such channel"
_AT_ONCE = 200
"""Questions about single channels that are sent together."""
_DOUBT_SECONDS = 0.3
"""From a failed job without a channel to the question whether there is one: events may come a little behind it."""
_HIDING_SECONDS = 60.0
"""How long a channel that hangs up may take to tell its end before it counts as gone."""
_PREPARE_SECONDS = 2.0
"""From an order to the answers to what has to be asked before it: a later one might be given up already, unsent."""
_CLOSED_EVERY = 2.0
"""How often a FreeSWITCH that takes no calls is asked whether it does again."""
_LEAST_BETWEEN = 1.0
"""Between two questions how it is, whatever happens."""


class FreeSwitchDriver(LinkedDriver[EslLink]):
    """A :class:`dialerd.pbx.driver.PbxDriver` for FreeSWITCH 1.10.

    ``trunks``: the dial strings of the trunks on this PBX, by their ids. The state of the gateways they name is told.
    """

    _protocol = "esl"
    _settings: EslSettings
    _calls: EslCalls

    def __init__(self, name: str, settings: EslSettings, clock: Clock, trunks: Mapping[str, str] | None = None) -> None:
        super().__init__(name, settings, clock, log)
        self._name = name
        self._thread: EslThread | None = None
        self._calls = EslCalls()
        self._hiding: dict[str, float] = {}
        """Calls that the last listing showed while they hang up, and since when (monotonic)."""
        self._gateways, self._dials = self._made_of(trunks or {})
        self._places = Places(clock)
        self._wants_bridges = False
        self._ceilings = Ceilings()
        self._look = asyncio.Event()
        """Something happened after which FreeSWITCH is asked how it is, before it is time."""

    @property
    def counters(self) -> dict[str, int]:
        """What was lost, dropped or late since the start, by name."""
        counts = Counter(self._counts)
        if self._link is not None:
            counts["garbage"] += self._link.garbage
        if self._thread is not None:
            counts["handler_errors"] += self._thread.errors
        counts["events_late"] = self._calls.late
        counts["strangers_dropped"] = self._calls.strangers.dropped
        return dict(counts)

    async def start(self, sink: Sink) -> None:
        """Begin to connect, and return at once."""
        await super().start(sink)  # which does not wait: its task finds the thread
        self._thread = EslThread(f"esl-{self._name}")
        self._thread.start()

    async def stop(self) -> None:
        """Close the link and end its thread; calls go on. No event comes after this returns."""
        await super().stop()
        if self._thread is not None:
            await self._thread.stop()
            self._counts["handler_errors"] += self._thread.errors
        self._thread = None

    async def originate(self, order: Originate) -> Accepted | Refused | InDoubt:
        """Send one order, once, and wait for FreeSWITCH's receipt, at most ``action_deadline`` for each question."""
        try:
            command = wire.esl_originate(order, job_id(order.call_id))
        except wire.WireError as error:
            every = wire.of_every_call(error)
            return Refused(str(error), Verdict(Outcome.FAILED, Fault.DAEMON), place_refused=every)
        begun = self._clock.mono()
        try:
            unknown = await self._prepare(order)
        except LinkLost as error:
            return Refused(str(error), Verdict(Outcome.UNREACHABLE, Fault.PBX), pbx_closed=True)
        if self._clock.mono() - begun > _PREPARE_SECONDS:
            return Refused("its answers take too long", Verdict(Outcome.UNREACHABLE, Fault.PBX), pbx_closed=True)
        link = self._ready_link()
        if link is None:
            return Refused(
                f"no link to the PBX: {self._reason}", Verdict(Outcome.UNREACHABLE, Fault.PBX), pbx_closed=True
            )
        if self._ceilings.closed is not None:
            return Refused(self._ceilings.closed, Verdict(Outcome.UNREACHABLE, Fault.PBX), pbx_closed=True)
        if unknown is not None:
            return Refused(unknown, Verdict(Outcome.FAILED, Fault.PBX), place_refused=True)
        if order.call_id in self._calls or self._calls.has_channel(order.call_id):
            return Refused("this call was placed before", Verdict(Outcome.FAILED, Fault.DAEMON))
        self._calls.begin(order)
        try:
            answer = await link.ask(command, self._settings.action_deadline)
        except NotSent as error:
            self.forget(order.call_id)
            return Refused(str(error), Verdict(Outcome.UNREACHABLE, Fault.PBX), pbx_closed=True)
        except LinkLost as error:
            return self._unanswered(order.call_id, str(error))
        except TimeoutError:
            return self._unanswered(order.call_id, f"no receipt within {self._settings.action_deadline:g} s")
        if not answer.reply.startswith("+OK"):
            self.forget(order.call_id)
            return Refused(answer.phrase, Verdict(Outcome.FAILED, Fault.PBX))
        if answer.reply != f"+OK Job-UUID: {job_id(order.call_id)}":
            link.drop("the PBX's answers are out of step")
            return self._unanswered(order.call_id, "the receipt is another order's")
        return Accepted()

    async def live(self) -> tuple[LiveChannel, ...]:
        """List the live channels that bear our mark, and follow them. Raises LinkLost.

        The listing lags behind by some tenths of a second, so what is new in it, what is missing, and what may have
        ended while nobody listened is asked for; a channel that may have been answered meanwhile is asked itself.
        """
        listed: dict[str, LiveChannel] = {}
        new: set[str] = set()
        hiding: dict[str, float] = {}
        problem: list[str] = []

        def each(frame: EslFrame) -> None:
            try:
                listed.update(read_channels(frame.reply, self._clock.wall().timestamp()))
            except ValueError:
                problem.append(frame.phrase)
            new.update(call_id for call_id in listed if call_id not in self._calls)
            # Now, not when the caller goes on: its end may come right behind it.
            for channel in listed.values():
                self._calls.adopt(channel)

        link = self._link
        await self._ask(wire.esl_api("show", "channels", "as", "json"), each)
        if problem:
            raise LinkLost(f"FreeSWITCH refused to list its channels: {problem[0]}")
        if listed:
            # Perhaps placed by a process before us, perhaps waiting in a queue.
            await self._want_bridges()
        doubtful = [
            call
            for call in self._calls.followed()
            if call.call_id in new
            or call.call_id not in listed
            or self._calls.missed(call.call_id)
            or self._calls.unheard(call.call_id)
        ]
        for start in range(0, len(doubtful), _AT_ONCE):
            asked = doubtful[start : start + _AT_ONCE]
            answers = await asyncio.gather(*(self._lives(channel.call_id) for channel in asked))
            for channel, exists in zip(asked, answers, strict=True):
                if exists:
                    self._calls.exists(channel.call_id)
                    listed.setdefault(channel.call_id, channel)
                elif listed.pop(channel.call_id, None) is not None:
                    # Followed on: a channel that hangs up is hidden already, and tells its end only now.
                    hiding[channel.call_id] = self._hiding.get(channel.call_id, self._clock.mono())
        self._hiding = hiding
        if link is not self._link:
            raise LinkLost("the link was lost behind the listing")
        self._calls.keep(listed)
        # What was heard or asked since the listing is newer than it.
        states = {call.call_id: call.state for call in self._calls.followed()}
        return tuple(
            replace(channel, state=states[channel.call_id]) for channel in listed.values() if channel.call_id in states
        )

    def ending(self, call_id: str) -> bool:
        """Whether the last listing showed a channel that hangs up, and has perhaps not told its end.

        A slow module of call records (mod_xml_cdr) makes that last: CHANNEL_HANGUP_COMPLETE comes behind it, and only
        CHANNEL_DESTROY takes the channel out of the listing (switch_core_state_machine.c, switch_core_sqldb.c).
        """
        since = self._hiding.get(call_id)
        return since is not None and call_id in self._calls and self._clock.mono() - since < _HIDING_SECONDS

    async def kept(self, call_ids: Collection[str]) -> Mapping[str, Kept]:  # noqa: ARG002 - the protocol's
        """Nothing: FreeSWITCH is not asked to keep anything."""
        return {}

    def discard(self, call_ids: Collection[str]) -> None:
        """Nothing was kept."""

    async def watch(self, trunks: Mapping[str, str]) -> None:
        """Tell the state of these trunks from now on, dial strings by their ids, and of no others."""
        self._gateways, self._dials = self._made_of(trunks)
        self._look.set()  # a call over them may take another number of sessions
        link = self._ready_link()
        if link is not None:
            try:
                await self._ask_gateways(link)
            except LinkLost:
                return  # whoever connects asks

    def _made_of(self, trunks: Mapping[str, str]) -> tuple[Gateways, tuple[str, ...]]:
        gateways = Gateways(trunks)
        for trunk, reason in gateways.unwatched.items():
            self._log.warning("trunk_not_watched", trunk=trunk, reason=reason)
        return gateways, tuple(trunks.values())

    async def _prepare(self, order: Originate) -> str | None:
        """See to it that the answered call can be placed; return why not. Raises LinkLost: then nothing was sent."""
        if order.hands_over:
            await self._want_bridges()
        return await self._places.refusal(order.place, self._ask)

    async def _want_bridges(self) -> None:
        if not self._wants_bridges:
            await self._ask(wire.esl_subscribe([_BRIDGE]))
            self._wants_bridges = True

    # The link.

    async def _ask_hangup(self, call_id: str) -> bool:
        answer = await self._ask(wire.esl_api("uuid_kill", call_id))
        asked = answer.reply.startswith("+OK")
        if not asked and _NO_CHANNEL not in answer.reply:
            raise LinkLost(f"FreeSWITCH refused the hangup: {answer.phrase}")
        return asked

    async def _connect(self) -> EslLink:
        """Connect, log in and subscribe; then tell LinkUp, why it takes no calls if so, and the gateways' states."""
        assert self._thread is not None, "the driver is not started"
        self._counts["connects"] += 1
        self._link = link = await EslLink.connect(self._thread, self._settings, self._hear)
        events = [event for event in EVENTS if event != _BRIDGE or self._wants_bridges]
        answer = await self._must(link, wire.esl_subscribe([*events, _SHUTDOWN, "CUSTOM", *GATEWAY_EVENTS]))
        if not answer.reply.startswith("+OK"):
            raise LoginRefused(f"FreeSWITCH refuses the events we need: {answer.phrase}")
        answer = await self._must(link, wire.esl_api("status"))
        if (status := read_status(answer.reply)) is None:
            raise LoginRefused(f"FreeSWITCH refuses to tell its status: {answer.phrase}")
        self._ceilings = await self._ask_ceilings(link, status)
        self._state, self._reason = LinkState.UP, None
        self._log.info("pbx_link_up", version=status.version)
        self._tell(LinkUp(status.version, self._ceilings.max_channels, self._ceilings.max_calls_per_second))
        if self._ceilings.closed is not None:
            self._tell(self._ceilings)
        await self._ask_gateways(link)
        return link

    async def _serve(self, link: EslLink) -> str:
        """Watch the link until it is lost; return why."""
        while not link.lost.done():
            await self._until_next_look(link)
            if link.lost.done():
                break
            self._look.clear()
            try:
                answer = await link.ask(wire.esl_api("status"), self._settings.ping_deadline)
                if (status := read_status(answer.reply)) is not None:
                    self._take_ceilings(await self._ask_ceilings(link, status))
                await self._ask_gateways(link)
            except TimeoutError:
                self._counts["pings_missed"] += 1
            except LinkLost as error:
                link.drop(str(error))
                break
        return link.lost.result()

    async def _until_next_look(self, link: EslLink) -> None:
        """Wait until the link is lost, or it is time to ask how FreeSWITCH is: soon where something happened."""
        every = self._settings.ping_every
        period = every if self._ceilings.closed is None else min(every, _CLOSED_EVERY)
        least = min(every, _LEAST_BETWEEN)
        await asyncio.wait({link.lost}, timeout=least)
        look = asyncio.ensure_future(self._look.wait())
        either: set[asyncio.Future[Any]] = {link.lost, look}
        try:
            await asyncio.wait(either, timeout=period - least, return_when=asyncio.FIRST_COMPLETED)
        finally:
            look.cancel()

    async def _must(
        self, link: EslLink, command: wire.EslCommand, each: Callable[[EslFrame], object] | None = None
    ) -> EslFrame:
        try:
            return await link.ask(command, self._settings.action_deadline, each)
        except TimeoutError as error:
            raise LinkLost(f"no answer within {self._settings.action_deadline:g} s") from error

    def _close_link(self) -> None:
        link, self._link = self._link, None
        self._gateways.forget()
        self._places.forget()
        if link is not None:
            link.drop("closed by us")
            self._counts["garbage"] += link.garbage
            self._calls.link_lost()

    async def _ask(self, command: wire.EslCommand, each: Callable[[EslFrame], object] | None = None) -> EslFrame:
        return await self._must(self._linked(), command, each)

    # What is heard.

    def _hear(self, event: EslEvent) -> None:
        if event.headers.get("Event-Name") in ("CUSTOM", _SHUTDOWN):
            gateway = read_gateway_event(event.headers)
            if gateway is not None:
                self._tell_gateway(gateway)
            elif event.headers.get("Event-Subclass", ADDED) == ADDED:
                self._look.set()
            return
        self._tell_calls(self._calls.hear(event.headers, event.body))
        for call_id in self._calls.take_doubts():
            self._spawn(self._settle(call_id))

    async def _settle(self, call_id: str) -> None:
        await self._clock.sleep(_DOUBT_SECONDS)
        try:
            await self._exists(call_id)
        except LinkLost as error:
            self._log.warning("late_question_failed", reason=str(error))

    async def _lives(self, call_id: str) -> bool:
        return await (self._look_at(call_id) if self._calls.unheard(call_id) else self._exists(call_id))

    async def _look_at(self, call_id: str) -> bool:
        """Take a call's state from its channel; return whether there is one. Raises LinkLost."""
        found: list[bool] = []

        def each(frame: EslFrame) -> None:
            headers = parse_event(frame.body).headers
            found.append(headers.get("Unique-ID") == call_id)
            if found[0]:
                # Now, in order with the events around it.
                self._calls.look(headers)

        answer = await self._ask(wire.esl_api("uuid_dump", call_id), each)
        if found != [True] and _NO_CHANNEL not in answer.reply:
            raise LinkLost(f"FreeSWITCH refused to tell a channel's state: {answer.phrase}")
        return found == [True]

    async def _exists(self, call_id: str) -> bool:
        """Ask whether a call's channel exists, and end the call whose job failed and that has none. Raises LinkLost."""
        found: list[bool] = []

        def each(frame: EslFrame) -> None:
            found.append(frame.reply.strip() == "true")
            self._tell_calls(self._calls.settle(call_id, found[0]))

        await self._ask(wire.esl_api("uuid_exists", call_id), each)
        return found == [True]

    async def _ask_ceilings(self, link: EslLink, status: Status) -> Ceilings:
        """What FreeSWITCH takes by its own word. One that may not tell is taken to be open. Raises LinkLost."""
        paused = await self._must(link, wire.esl_api("fsctl", "pause_check", "outbound"))
        leaving = await self._must(link, wire.esl_api("fsctl", "shutdown_check"))
        closed = why_closed(status, paused=paused.reply.strip() == "true", leaving=leaving.reply.strip() == "true")
        sessions, rate, each = status.max_sessions, status.calls_per_second, sessions_of_a_call(self._dials)
        # Whole calls: what is left of a second's sessions is no call.
        calls_a_second = rate and (rate // each or rate / each)
        return Ceilings(sessions and sessions // each, calls_a_second or None, closed)

    def _take_ceilings(self, ceilings: Ceilings) -> None:
        if ceilings != self._ceilings and self._state is LinkState.UP:
            self._ceilings = ceilings
            self._tell(ceilings)

    async def _ask_gateways(self, link: EslLink) -> None:
        def each(name: str, answer: EslFrame) -> None:
            self._tell_gateway(read_gateway(name, answer.reply))

        for name, question in self._gateways.questions.items():
            # Told as it is read, in order with the events around it.
            await self._must(link, question, partial(each, name))

    def _tell_gateway(self, gateway: GatewayState) -> None:
        if self._state is LinkState.UP:
            for state in self._gateways.take(gateway):
                self._tell(state)

    def _tell_calls(self, events: Iterable[CallEvent]) -> None:
        for event in events:
            if isinstance(event, Ended) and (not event.channel or event.hangup_cause == causes.NO_ROOM):
                self._look.set()  # it may have lost its gateway, be paused, or be full
            self._tell_call(event)
