"""Events of one FreeSWITCH → our call events, for every call that is followed. Pure: no socket, no clock.

A call is known by its channel's Unique-ID, which is our call id (``origination_uuid``), and by nothing else: after the
answer even the caller's number is another one. Its originate is a background job whose Job-UUID is the call id too.

FreeSWITCH hands events to its listeners through a pool of threads, so their order is not promised; nothing here relies
on it. CHANNEL_ANSWER and CHANNEL_HANGUP_COMPLETE decide, and the latter says everything again (answered or not, rang or
not). The job's ``-ERR`` decides only where there never was a channel. Whether there was one cannot be known from
silence: such a call becomes *doubtful*, the driver asks ``uuid_exists`` about it, and :meth:`EslCalls.settle` takes
the answer. So nothing here waits for a clock.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from dialerd.core.model import HungUpBy
from dialerd.core.outcome import Fault
from dialerd.pbx import causes
from dialerd.pbx.driver import (
    Answered,
    CallEvent,
    ChannelState,
    Dialling,
    Ended,
    HandedOver,
    LiveChannel,
    Originate,
    Ringing,
)
from dialerd.pbx.ended import EndedCalls
from dialerd.pbx.phrase import phrase
from dialerd.pbx.strangers import Strangers, is_call_id

EVENTS = (
    *("BACKGROUND_JOB", "CHANNEL_CREATE", "CHANNEL_PROGRESS", "CHANNEL_PROGRESS_MEDIA"),
    *("CHANNEL_ANSWER", "CHANNEL_BRIDGE", "CHANNEL_HANGUP_COMPLETE"),
)
"""What the driver subscribes to (``event plain …``): no more than :class:`EslCalls` reads."""

_TIMEOUTS = frozenset({"NO_ANSWER", "ALLOTTED_TIMEOUT", "PROGRESS_TIMEOUT"})
"""What FreeSWITCH gives as the cause where it gave up waiting for an answer itself."""
_PLACE_UNKNOWN = frozenset({"NO_ROUTE_DESTINATION", "DESTINATION_OUT_OF_ORDER"})
"""What an answered channel is hung up with where the dialplan has no such extension, or nothing such to execute."""
_LIMITER = "sched_hangup"
"""What the order itself executes at the answer, before the place."""
MACHINE_VARIABLE = "dialerd_machine"
"""The channel variable by which a dialplan says (``true``) that a machine answered, as its detector found."""
_UNNAMED = 0
"""A refusal that names no cause: ``-USAGE``, or an error of the command itself."""
_Q850 = range(1, 128)

Headers = Mapping[str, str]


def job_id(call_id: str) -> str:
    """The Job-UUID of a call's one ``bgapi originate``."""
    return call_id


@dataclass(slots=True)
class _Call:
    """What was heard of one call, and what was told of it."""

    id: str
    stranger: bool = False
    """Followed because its channel bears our mark; nobody here placed it."""
    unlisted: int = 0
    made: bool = False
    progress: bool = False
    answered: bool = False
    bridged: bool = False
    handed_over: bool = False
    asked: bool = False
    blind: bool = False
    """Nobody listened for a while, as the link was lost or another process's: what was not heard proves nothing."""
    missed: bool = False
    """The link was lost since its channel was last known to be there."""
    failure: str | None = None
    """What the originate's job said after ``-ERR``."""


class EslCalls:
    """Follows calls: takes events, gives ours. Each call's events come once and in order, Ended last."""

    def __init__(self) -> None:
        self._calls: dict[str, _Call] = {}
        self._doubts: dict[str, None] = {}
        self._ended = EndedCalls()
        self.late = 0
        """Events about calls that had already ended."""
        self.strangers = Strangers()
        self._take: dict[str, Callable[[_Call, Headers], list[CallEvent]]] = {
            "CHANNEL_CREATE": self._made,
            "CHANNEL_PROGRESS": self._progress,
            "CHANNEL_PROGRESS_MEDIA": self._progress,
            "CHANNEL_ANSWER": self._answer,
            "CHANNEL_BRIDGE": self._bridge,
            "CHANNEL_HANGUP_COMPLETE": self._hangup,
        }

    def __len__(self) -> int:
        return len(self._calls)

    def __contains__(self, call_id: object) -> bool:
        return call_id in self._calls

    def begin(self, order: Originate) -> None:
        """Follow a call from before its originate leaves."""
        self._calls[order.call_id] = _Call(order.call_id)

    def adopt(self, channel: LiveChannel) -> None:
        """Follow a channel found in a listing from its state on; what the listing says is not told again."""
        if channel.call_id in self._ended:
            return
        self._doubts.pop(channel.call_id, None)
        self.strangers.discard(channel.call_id)
        call = self._calls.setdefault(channel.call_id, _Call(channel.call_id, stranger=True, blind=True))
        call.made = True
        call.progress = call.progress or channel.state is ChannelState.RINGING
        call.answered = call.answered or channel.state is ChannelState.UP

    def missed(self, call_id: str) -> bool:
        """Whether a call may have ended while the link was lost, though a listing that lags still shows it."""
        call = self._calls.get(call_id)
        return call is not None and call.missed

    def exists(self, call_id: str) -> None:
        """A call's channel was asked for, and is there: from now on its end is heard."""
        if call_id in self._calls:
            self._calls[call_id].missed = False

    def unheard(self, call_id: str) -> bool:
        """Whether a call may have been answered while nobody listened, which its channel alone tells for certain."""
        call = self._calls.get(call_id)
        return call is not None and call.blind and not call.answered

    def look(self, headers: Headers) -> None:
        """Take what the channel of a call says of itself (``uuid_dump``); as of a listing, nothing is told again.

        FreeSWITCH notes the moment of an answer before it tells of it: one that is not noted yet will be heard.
        """
        call = self._calls.get(headers.get("Unique-ID", ""))
        if call is None:
            return
        self._doubts.pop(call.id, None)
        call.made, call.blind = True, False
        call.progress = call.progress or _rang(headers)
        call.answered = call.answered or _answered(headers)

    def keep(self, listed: Collection[str]) -> None:
        """After a full listing: drop the strangers, perhaps another's calls, that are missing for the second time."""
        for call in [call for call in self._calls.values() if call.stranger]:
            call.unlisted = 0 if call.id in listed else call.unlisted + 1
            if call.unlisted > 1:
                self.forget(call.id)

    def has_channel(self, call_id: str) -> bool:
        """Whether a channel of this call was seen, alive or ended."""
        call = self._calls.get(call_id)
        return call_id in self._ended if call is None else call.made

    def followed(self) -> tuple[LiveChannel, ...]:
        """Every call that is followed, in the state that was heard of last; its age is not known."""
        return tuple(LiveChannel(call.id, _state(call), 0.0) for call in self._calls.values())

    def asked(self, call_id: str, asked: bool = True) -> None:
        """Note that we ask for this call's hangup (or that the PBX refused)."""
        if call_id in self._calls:
            self._calls[call_id].asked = asked

    def forget(self, call_id: str) -> None:
        """Stop following a call without an Ended."""
        self._calls.pop(call_id, None)
        self._doubts.pop(call_id, None)
        self.strangers.discard(call_id)

    def link_lost(self) -> None:
        """From now until the link is back events are missed."""
        for call in self._calls.values():
            call.blind = call.missed = True

    def hear(self, headers: Headers, body: str = "") -> list[CallEvent]:
        """Take one event; return what it tells of our calls. Events of others' channels tell nothing."""
        name = headers.get("Event-Name", "")
        if name == "BACKGROUND_JOB":
            return self._job(headers, body)
        handler = self._take.get(name)
        call = None if handler is None else self._find(headers, name)
        return [] if handler is None or call is None else handler(call, headers)

    def take_doubts(self) -> tuple[str, ...]:
        """The calls to ask ``uuid_exists`` about now, each named once; :meth:`settle` takes the answer."""
        doubts = tuple(self._doubts)
        self._doubts.clear()
        return doubts

    def settle(self, call_id: str, exists: bool) -> list[CallEvent]:
        """Take the PBX's answer to ``uuid_exists`` about a doubtful call.

        A channel that exists will tell its end itself, and so will one that was heard of meanwhile. Where there is
        none and never was, the job's word is the outcome.
        """
        call = self._calls.get(call_id)
        if call is None or call.failure is None or call.made:
            return []
        if exists:
            return self._made(call, {})
        if call.blind:
            return []
        name = call.failure.partition(" ")[0]
        ending = causes.Ending(channel=False, cause=causes.FREESWITCH_CAUSES.get(name, _UNNAMED))
        return [self._end(call, ending, call.failure)]

    # One method per event: what it says of which call.

    def _made(self, call: _Call, _: Headers) -> list[CallEvent]:
        self._doubts.pop(call.id, None)
        if call.made:
            return []
        call.made = True
        return [Dialling(call.id)]

    def _progress(self, call: _Call, headers: Headers) -> list[CallEvent]:
        events = self._made(call, headers)
        if not call.progress and not call.answered:
            call.progress = True
            events.append(Ringing(call.id))
        return events

    def _answer(self, call: _Call, headers: Headers) -> list[CallEvent]:
        events = self._progress(call, headers) if _rang(headers) else self._made(call, headers)
        if not call.answered:
            call.answered = True
            events.append(Answered(call.id))
        return events + self._tell_handed_over(call)

    def _bridge(self, call: _Call, headers: Headers) -> list[CallEvent]:
        call.bridged = True
        return self._made(call, headers) + self._tell_handed_over(call)

    def _hangup(self, call: _Call, headers: Headers) -> list[CallEvent]:
        """CHANNEL_HANGUP_COMPLETE: what was not heard before is told now, for this event says all of it again."""
        events = self._made(call, headers)
        if _rang(headers):
            events += self._progress(call, headers)
        if _answered(headers):
            events += self._answer(call, headers)
        if _happened(headers, "Caller-Channel-Bridged-Time"):
            events += self._bridge(call, headers)
        ending = _ending(call, headers)
        by = _hung_up_by(call, ending, headers.get("variable_sip_hangup_disposition", ""))
        return [*events, self._end(call, ending, _cause_name(headers), by, _talk_seconds(headers))]

    def _job(self, headers: Headers, body: str) -> list[CallEvent]:
        call = self._calls.get(headers.get("Job-UUID", ""))
        if call is None or headers.get("Job-Command", "") != "originate" or body.startswith("+OK"):
            return []
        call.failure = phrase(body.strip().removeprefix("-ERR"))
        if not call.made:
            self._doubts[call.id] = None
        return []

    def _tell_handed_over(self, call: _Call) -> list[CallEvent]:
        if not call.bridged or not call.answered or call.handed_over:
            return []
        call.handed_over = True
        return [HandedOver(call.id)]

    # How it ends.

    def _end(
        self, call: _Call, ending: causes.Ending, text: str, by: HungUpBy | None = None, talk: float | None = None
    ) -> Ended:
        self.forget(call.id)
        self._ended.add(call.id)
        verdict = causes.verdict(ending)
        cause = ending.cause if ending.cause in _Q850 else None
        return Ended(
            call.id,
            verdict,
            cause,
            phrase(text) or None,
            ending.sip_status,
            by,
            channel=call.made,
            talk_seconds=talk if call.answered else None,
            place_refused=ending.place_refused,
        )

    def _find(self, headers: Headers, name: str) -> _Call | None:
        unique_id = headers.get("Unique-ID", "")
        call = self._calls.get(unique_id)
        if call is not None or not unique_id:
            return call
        if unique_id in self._ended:
            self.late += 1
            return None
        if name == "CHANNEL_BRIDGE":
            # A queue may bridge from its member's leg to ours.
            legs = (headers.get("Bridge-A-Unique-ID", ""), headers.get("Bridge-B-Unique-ID", ""))
            return next((self._calls[leg] for leg in legs if leg in self._calls), None)
        if name != "CHANNEL_CREATE" or headers.get("Channel-Presence-Data") != unique_id or not is_call_id(unique_id):
            return None
        # An order of a process before us, that the PBX carries out only now: its channel bears our mark.
        call = self._calls[unique_id] = _Call(unique_id, stranger=True)
        if (oldest := self.strangers.add(unique_id)) is not None:
            self.forget(oldest)
        return call


def _state(call: _Call) -> ChannelState:
    if call.answered:
        return ChannelState.UP
    return ChannelState.RINGING if call.progress else ChannelState.DIALLING


def _happened(headers: Headers, time: str) -> bool:
    """Whether a moment of the channel's life is set: microseconds since 1970, or 0."""
    return headers.get(time, "0") not in ("", "0")


def _rang(headers: Headers) -> bool:
    return _happened(headers, "Caller-Channel-Progress-Time") or _happened(
        headers, "Caller-Channel-Progress-Media-Time"
    )


def _answered(headers: Headers) -> bool:
    return _happened(headers, "Caller-Channel-Answered-Time")


def _ending(call: _Call, headers: Headers) -> causes.Ending:
    name = _cause_name(headers)
    channel = headers.get("Channel-Name", "")
    replied = bool(headers.get("variable_sip_reply_host")) if channel.startswith("sofia/") else None
    sip_status = None if call.answered or replied is False else _final_status(headers)
    # A far end that says "no answer" says it by a status; our own timeout has none.
    timed_out = name in _TIMEOUTS and sip_status is None and not call.answered
    by_far_end = headers.get("variable_sip_hangup_disposition", "").startswith("recv_")
    place_refused = (
        call.answered
        and not (call.asked or call.bridged or by_far_end)
        and name in _PLACE_UNKNOWN
        and headers.get("variable_current_application", _LIMITER) == _LIMITER
    )
    return causes.Ending(
        answered=call.answered,
        progress=call.progress,
        asked=call.asked,
        timed_out=timed_out,
        machine=call.answered and headers.get(f"variable_{MACHINE_VARIABLE}") == "true",
        cause=causes.FREESWITCH_CAUSES.get(name),
        sip_status=sip_status,
        replied=replied,
        through_dialplan=channel.startswith("loopback/"),
        place_refused=place_refused,
    )


def _cause_name(headers: Headers) -> str:
    return headers.get("Hangup-Cause") or headers.get("variable_hangup_cause", "")


def _final_status(headers: Headers) -> int | None:
    """The status that refused the INVITE; a redirect that is not followed stands only in the second variable."""
    specific = headers.get("variable_proto_specific_hangup_cause", "").removeprefix("sip:")
    value = headers.get("variable_sip_term_status") or specific
    return int(value) if re.fullmatch(r"[3-6][0-9]{2}", value) else None


def _talk_seconds(headers: Headers) -> float | None:
    value = headers.get("variable_billmsec", "")
    return int(value) / 1000 if re.fullmatch(r"[0-9]{1,10}", value) else None


def _hung_up_by(call: _Call, ending: causes.Ending, disposition: str) -> HungUpBy | None:
    """Who ended it, as far as the event tells; None where it does not."""
    if disposition == "recv_bye":
        return HungUpBy.CALLEE
    if call.asked:
        return HungUpBy.DIALER
    if ending.timed_out or (disposition.startswith("send_") and ending.sip_status is None):
        return HungUpBy.PBX
    refused = not call.answered and causes.verdict(ending).fault is Fault.CALLEE
    return HungUpBy.CALLEE if refused else None
