"""The driver for Asterisk: keeps one AMI link, sends orders over it and tells what becomes of the calls."""

from __future__ import annotations

import asyncio
import functools
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from dialerd.clock import Clock, Timer
from dialerd.core.outcome import Fault, Outcome, Verdict
from dialerd.pbx import wire
from dialerd.pbx.ami_events import AmiCalls, action_id, listed_seconds, listed_state
from dialerd.pbx.ami_kept import KeptCalls
from dialerd.pbx.ami_link import TAG_BYTES, AmiLink
from dialerd.pbx.ami_login import SHUTTING_DOWN, ask_again, check_rights, max_calls, trunk_states
from dialerd.pbx.ami_stream import MAX_MESSAGE_BYTES, AmiMessage
from dialerd.pbx.ami_trunks import AmiTrunks
from dialerd.pbx.driver import (
    Accepted,
    InDoubt,
    Kept,
    LinkLost,
    LinkState,
    LinkUp,
    LiveChannel,
    Originate,
    Refused,
    TrunkState,
)
from dialerd.pbx.linked import LinkedDriver, LinkSettings, LoginRefused
from dialerd.pbx.strangers import is_call_id

log = structlog.get_logger(__name__)

_PLACE_REFUSALS = ("Extension does not exist", "Invalid priority", "Originate Access Forbidden")
_NO_CHANNEL = "No such channel"


@dataclass(frozen=True, slots=True, kw_only=True)
class AsteriskSettings(LinkSettings):
    """How to reach one Asterisk. All times in seconds."""

    username: str
    port: int = 5038
    boot_deadline: float = 60.0
    """How long a login may wait for FullyBooted."""
    max_message_bytes: int = MAX_MESSAGE_BYTES


class AsteriskDriver(LinkedDriver[AmiLink]):
    """A :class:`dialerd.pbx.driver.PbxDriver` for Asterisk 16 and later."""

    _protocol = "ami"
    _settings: AsteriskSettings
    _calls: AmiCalls

    def __init__(
        self, name: str, settings: AsteriskSettings, clock: Clock, trunks: Mapping[str, str] | None = None
    ) -> None:
        """``trunks``: the dial templates of the trunks on this PBX, by their ids; their state is told."""
        super().__init__(name, settings, clock, log)
        self._booted: asyncio.Future[None] | None = None
        self._timer: tuple[float, Timer] | None = None
        self._calls = AmiCalls()
        self._trunks = AmiTrunks(trunks or {})
        self._kept = KeptCalls()

    @property
    def counters(self) -> dict[str, int]:
        """What was lost, dropped or late since the start, by name."""
        counts = Counter(self._counts)
        if self._link is not None:
            counts.update(_link_counts(self._link))
        counts["events_late"] = self._calls.late
        counts["strangers_dropped"] = self._calls.strangers.dropped
        counts["results_left"] = self._kept.left
        return dict(counts)

    async def stop(self) -> None:
        """Close the link; calls go on. No event comes after this returns."""
        await super().stop()
        if self._timer is not None:
            self._timer[1].cancel()
            self._timer = None

    async def originate(self, order: Originate) -> Accepted | Refused | InDoubt:
        """Send one order, once, and wait for Asterisk's receipt, at most ``action_deadline``."""
        link = self._ready_link()
        if link is None:
            return Refused(
                f"no link to the PBX: {self._reason}", Verdict(Outcome.UNREACHABLE, Fault.PBX), pbx_closed=True
            )
        if order.call_id in self._calls or self._calls.has_channel(order.call_id):
            return Refused("this call was placed before", Verdict(Outcome.FAILED, Fault.DAEMON))
        try:
            headers = wire.ami_originate(order, action_id(order.call_id), keep=self._kept.on)
        except wire.WireError as error:
            every = wire.of_every_call(error)
            return Refused(str(error), Verdict(Outcome.FAILED, Fault.DAEMON), place_refused=every)
        limit = self._clock.mono() + order.setup_seconds + order.max_call_seconds
        self._calls.placed(order.call_id, action_id(order.call_id), order.place.context is None, limit)
        try:
            answer = await link.ask(headers, self._settings.action_deadline)
        except LinkLost as error:
            return self._unanswered(order.call_id, str(error))
        except TimeoutError:
            return self._unanswered(order.call_id, f"no receipt within {self._settings.action_deadline:g} s")
        if answer.response == "Success":
            return Accepted()
        self.forget(order.call_id)
        return _refusal(answer.phrase("message"))

    async def live(self) -> tuple[LiveChannel, ...]:
        """List the live channels whose ids are of our shape, and follow them. Raises LinkLost."""
        listed: dict[str, LiveChannel] = {}

        def each(message: AmiMessage) -> None:
            call_id = message.get("uniqueid")
            if call_id in self._calls or is_call_id(call_id):
                listed[call_id] = LiveChannel(call_id, listed_state(message), listed_seconds(message))
                # Now, not when the list is complete: its Hangup may come right behind it.
                self._calls.adopt(call_id, listed[call_id].state)

        link = self._link
        try:
            answer = await self._ask([("Action", "CoreShowChannels")], each)
        finally:
            self._set_timer()
        if answer.response != "Success":
            raise LinkLost(f"Asterisk refused to list its channels: {answer.phrase('message')}")
        if link is not self._link:
            raise LinkLost("the link was lost behind the listing")
        self._calls.keep(listed)
        return tuple(channel for channel in listed.values() if channel.call_id in self._calls)

    def ending(self, call_id: str) -> bool:
        """Whether a call's Hangup came, and its OriginateResponse is waited for."""
        return self._calls.ending(call_id)

    async def kept(self, call_ids: Collection[str]) -> Mapping[str, Kept]:
        """What Asterisk kept of those of these calls that were answered and have ended. Raises LinkLost."""
        return await self._kept.of(call_ids)

    def discard(self, call_ids: Collection[str]) -> None:
        """The ends of these calls are in our own store: let Asterisk delete what it kept of them. Never waits."""
        self._kept.discard(call_ids)

    def forget(self, call_id: str) -> None:
        """Drop what is remembered of a call that was settled without an Ended."""
        super().forget(call_id)
        self._set_timer()

    async def watch(self, trunks: Mapping[str, str]) -> None:
        """Tell the state of these trunks from now on, dial strings by their ids, and of no others."""
        self._trunks = AmiTrunks(trunks)
        link = self._ready_link()
        if link is None:
            return  # whoever connects asks
        try:
            states = await trunk_states(functools.partial(self._must, link), self._trunks)
        except LinkLost:
            return
        if link is self._ready_link():
            for state in states:
                self._tell(state)

    # The link.

    async def _ask_hangup(self, call_id: str) -> bool:
        answer = await self._ask(wire.ami_hangup(call_id))
        if answer.response != "Success" and answer.get("message") != _NO_CHANNEL:
            raise LinkLost(f"Asterisk refused the hangup: {answer.phrase('message')}")
        return answer.response == "Success"

    async def _connect(self) -> AmiLink:
        """Connect, log in and wait until Asterisk is ready; then tell LinkUp."""
        settings = self._settings
        self._counts["connects"] += 1
        self._booted = asyncio.get_running_loop().create_future()
        self._trunks.forget()
        link = await AmiLink.connect(
            settings.host,
            settings.port,
            self._hear,
            settings.max_message_bytes,
            settings.connect_deadline,
            self._clock.token(TAG_BYTES),
        )
        self._link = link
        login: wire.Headers = [("Action", "Login"), ("Username", settings.username), ("Secret", settings.secret)]
        answer = await self._must(link, [*login, ("Events", "on")], "login")
        if answer.get("message") == SHUTTING_DOWN:
            raise LinkLost(SHUTTING_DOWN)
        if answer.response != "Success":
            raise LoginRefused(f"AMI login refused: {answer.phrase('message') or answer.phrase('response')}")
        # Logged in is not ready: while it boots, Asterisk knows no trunk yet.
        either: set[asyncio.Future[Any]] = {self._booted, link.lost}
        await asyncio.wait(either, timeout=settings.boot_deadline, return_when=asyncio.FIRST_COMPLETED)
        if link.lost.done():
            raise LinkLost(link.lost.result())
        if not self._booted.done():
            raise LinkLost(
                f"no FullyBooted within {settings.boot_deadline:g} s: Asterisk still starts, or the AMI user may not "
                "read class system"
            )
        ask = functools.partial(self._must, link)
        core = await check_rights(ask)
        await self._kept.begin(ask)
        states = await trunk_states(ask, self._trunks)
        self._state, self._reason = LinkState.UP, None
        version = core.phrase("asteriskversion") or "unknown"
        self._log.info("pbx_link_up", version=version)
        self._tell(LinkUp(version, max_channels=max_calls(core)))
        for state in states:
            self._tell(state)
        self._spawn(self._kept.sweep(self._clock.wall()))
        return link

    async def _serve(self, link: AmiLink) -> str:
        """Watch the link until it is lost; return why."""
        while not link.lost.done():
            settings = self._settings
            await asyncio.wait({link.lost}, timeout=settings.ping_every)
            if link.lost.done():
                break
            try:
                await link.ask([("Action", "Ping")], settings.ping_deadline)
                await self._ask_trunks_again(link)
            except TimeoutError:
                self._counts["pings_missed"] += 1
                link.drop(f"no answer to a ping within {settings.ping_deadline:g} s")
            except LinkLost:
                break
        return link.lost.result()

    async def _ask_trunks_again(self, link: AmiLink) -> None:
        """While a trunk is down, ask for what it is down by: that it is up again need not have been told.

        A link that is gone ends by itself; what is not answered is asked again with the next ping.
        """
        trunks = self._trunks

        def tell(state: TrunkState) -> None:
            if trunks is self._trunks:
                self._tell(state)

        try:
            await ask_again(functools.partial(self._must, link), trunks, tell)
        except LinkLost as error:
            self._log.warning("trunk_states_not_told", reason=str(error))

    async def _must(
        self, link: AmiLink, headers: wire.Headers, what: str, each: Callable[[AmiMessage], None] | None = None
    ) -> AmiMessage:
        try:
            return await link.ask(headers, self._settings.action_deadline, each)
        except TimeoutError as error:
            raise LinkLost(f"no answer to {what} within {self._settings.action_deadline:g} s") from error

    def _close_link(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.drop("closed by us")
            self._counts.update(_link_counts(link))
        self._kept.end()
        self._calls.link_lost()

    async def _ask(self, headers: wire.Headers, each: Callable[[AmiMessage], None] | None = None) -> AmiMessage:
        return await self._must(self._linked(), headers, headers[0][1], each)

    # What is heard.

    def _hear(self, message: AmiMessage) -> None:
        if message.event == "FullyBooted" and self._booted is not None and not self._booted.done():
            self._booted.set_result(None)
        for state in self._trunks.take(message):
            if self._state is LinkState.UP:  # what is heard before is told behind the LinkUp
                self._tell(state)
        for event in self._calls.take(message, self._clock.mono()):
            self._tell_call(event)
        self._set_timer()

    def _settle(self) -> None:
        self._timer = None
        for event in self._calls.settle(self._clock.mono()):
            self._tell_call(event)
        self._set_timer()

    def _set_timer(self) -> None:
        due = self._calls.due
        if self._timer is not None:
            if self._timer[0] == due:
                return
            self._timer[1].cancel()
        self._timer = None if due is None else (due, self._clock.call_at(due, self._settle))


def _refusal(message: str) -> Refused:
    if message == SHUTTING_DOWN:
        return Refused(message, Verdict(Outcome.UNREACHABLE, Fault.PBX), pbx_closed=True)
    return Refused(message, Verdict(Outcome.FAILED, Fault.PBX), place_refused=message.startswith(_PLACE_REFUSALS))


def _link_counts(link: AmiLink) -> dict[str, int]:
    return {"garbage": link.stream.garbage, "answers_late": link.late_answers, "handler_errors": link.errors}
