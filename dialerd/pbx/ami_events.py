"""AMI messages of one PBX → our call events, for every call that is followed. Pure: no socket, no clock.

Asterisk tells one call by several events whose order is not fixed, so nothing here relies on order. A call is known by
its channel's Uniqueid, which is our call id (``ChannelId``). Only OriginateResponse bears our ActionID, and only it
tells a timeout from a refusal, so an unanswered call ends when both it and Hangup came, or when waiting longer for the
other makes no sense (the constants below).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

from dialerd.core.model import HungUpBy
from dialerd.core.outcome import Fault
from dialerd.pbx import causes
from dialerd.pbx.ami_stream import AmiMessage
from dialerd.pbx.driver import Answered, CallEvent, ChannelState, Dialling, Ended, HandedOver, Ringing
from dialerd.pbx.ended import EndedCalls
from dialerd.pbx.strangers import Strangers, is_call_id

RESPONSE_WAIT = 3.0
"""Seconds after the Hangup of an unanswered call for its OriginateResponse; it usually takes milliseconds."""
CHANNEL_WAIT = 0.3
"""Seconds after a failed OriginateResponse for a channel to turn up; then there never was one."""
HANGUP_WAIT = 5.0
"""Seconds after a failed OriginateResponse for the Hangup of a channel that was there."""

HANDED_OVER_EVENT = "DialerdHandedOver"
"""The UserEvent by which a dialplan says itself that somebody took the call."""
MACHINE_EVENT = "DialerdMachine"
"""The UserEvent by which a dialplan says that a machine answered, as its AMD() found."""

_LIMIT_SLACK = 0.5
"""Seconds: the limit counts from the making of the channel, and Asterisk rounds."""

_DURATION = re.compile(r"([0-9]{1,8}):([0-9]{1,2}):([0-9]{1,2})")
_RINGING, _UP = "5", "6"
_TIMED_OUT = "3"
_REDIRECTED = 23
"""Q.850: redirected to a new destination."""
_LISTED_STATES = {"4": ChannelState.RINGING, "5": ChannelState.RINGING, "6": ChannelState.UP}


@dataclass(frozen=True, slots=True)
class _Hangup:
    cause: int | None
    text: str | None
    sip_status: int | None


@dataclass(slots=True)
class _Call:
    """What was heard of one call, and what was told of it."""

    id: str
    action_id: str
    application: bool = False
    limit_at: float = math.inf
    """When the PBX itself ends the call, by the limit that the order set."""
    stranger: bool = False
    """Followed because its id has the shape of ours; nobody here placed it."""
    unlisted: int = 0
    blind: bool = False
    """The link was lost meanwhile: that something was not heard proves nothing."""
    made: bool = False
    local: bool = False
    progress: bool = False
    answered: bool = False
    handed_over: bool = False
    machine: bool = False
    redirected: bool = False
    """The far end answered 302."""
    asked: bool = False
    requested_by: HungUpBy | None = None
    """Who asked for the hangup, where Asterisk said so."""
    failure: str | None = None
    """The Reason of a failed OriginateResponse."""
    hangup: _Hangup | None = None
    since: float | None = None
    """When the first of Hangup and failed OriginateResponse came."""


def action_id(call_id: str) -> str:
    """The ActionID of a call's one Originate."""
    return f"o:{call_id}"


def listed_state(message: AmiMessage) -> ChannelState:
    """The state in a CoreShowChannel event."""
    return _LISTED_STATES.get(message.get("channelstate"), ChannelState.DIALLING)


def listed_seconds(message: AmiMessage) -> float:
    """The age in a CoreShowChannel event (``HH:MM:SS``); 0 where it cannot be read."""
    found = _DURATION.fullmatch(message.get("duration"))
    return 0.0 if found is None else float(int(found[1]) * 3600 + int(found[2]) * 60 + int(found[3]))


class AmiCalls:
    """Follows calls: takes messages, gives events. Each call's events come once and in order, Ended last."""

    def __init__(self) -> None:
        self._calls: dict[str, _Call] = {}
        self._of_action: dict[str, _Call] = {}
        self._due: dict[str, float] = {}
        self._ended = EndedCalls()
        self.late = 0
        """Events about calls that had already ended."""
        self.strangers = Strangers()
        self._take: dict[str, Callable[[AmiMessage], tuple[_Call, list[CallEvent]] | None]] = {
            "Newchannel": self._newchannel,
            "Newstate": self._newstate,
            "DialState": self._dial_state,
            "DialEnd": self._dial_end,
            "OriginateResponse": self._originate_response,
            "HangupRequest": self._hangup_request,
            "SoftHangupRequest": self._hangup_request,
            "Hangup": self._hangup,
            "AgentConnect": self._agent_connect,
            "UserEvent": self._user_event,
        }

    def __len__(self) -> int:
        return len(self._calls)

    def __contains__(self, call_id: object) -> bool:
        return call_id in self._calls

    def placed(self, call_id: str, action_id: str, application: bool = False, limit_at: float = math.inf) -> None:
        """Follow a call from before its Originate leaves.

        ``application``: its place is an application. ``limit_at``: when the PBX ends it, in monotonic seconds.
        """
        self._follow(_Call(call_id, action_id, application, limit_at))

    def adopt(self, call_id: str, state: ChannelState) -> None:
        """Follow a channel found in a listing from its state on; what the listing says is not told again."""
        if call_id not in self._calls:
            if call_id in self._ended:
                return
            self._follow_stranger(call_id)
        self.strangers.discard(call_id)
        call = self._calls[call_id]
        call.made = True
        call.progress = call.progress or state is ChannelState.RINGING
        call.answered = call.answered or state is ChannelState.UP

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

    def ending(self, call_id: str) -> bool:
        """Whether something of a call's end came; :meth:`settle` ends it soon."""
        return call_id in self._due

    def asked(self, call_id: str, asked: bool = True) -> None:
        """Note that we ask for this call's hangup (or that the PBX refused)."""
        if call_id in self._calls:
            self._calls[call_id].asked = asked

    def forget(self, call_id: str) -> None:
        """Stop following a call without an Ended."""
        call = self._calls.pop(call_id, None)
        self._due.pop(call_id, None)
        self.strangers.discard(call_id)
        if call is not None:
            self._of_action.pop(call.action_id, None)

    def link_lost(self) -> None:
        """From now until the link is back events are missed."""
        for call in self._calls.values():
            call.blind = True

    def take(self, message: AmiMessage, now: float) -> list[CallEvent]:
        """Take one message; return what it tells of our calls. ``now`` in monotonic seconds."""
        handler = self._take.get(message.event)
        if handler is None:
            return self._refused_late(message) if message.response == "Error" else []
        heard = handler(message)
        if heard is None:
            return []
        call, events = heard
        return events + self._conclude(call, now)

    @property
    def due(self) -> float | None:
        """When :meth:`settle` has something to do next; None: nothing waits."""
        return min(self._due.values(), default=None)

    def settle(self, now: float) -> list[CallEvent]:
        """End the calls whose other half did not come in time."""
        late = [self._calls[call_id] for call_id, due in self._due.items() if due <= now]
        return [event for call in late for event in self._settle(call)]

    # One method per event: what it says of which call.

    def _newchannel(self, message: AmiMessage) -> tuple[_Call, list[CallEvent]] | None:
        uniqueid = message.get("uniqueid")
        call = self._find(uniqueid)
        if call is None:
            if uniqueid in self._ended or not is_call_id(uniqueid):
                return None
            # An order of a process before us, that the PBX carries out only now. Asterisk's own ids have a point.
            call = self._follow_stranger(uniqueid)
            if (oldest := self.strangers.add(uniqueid)) is not None:
                self.forget(oldest)
        call.local = message.get("channel").startswith("Local/")
        return call, self._tell_made(call)

    def _newstate(self, message: AmiMessage) -> tuple[_Call, list[CallEvent]] | None:
        call = self._find(message.get("uniqueid"))
        return None if call is None else (call, self._tell_state(call, message.get("channelstate")))

    def _dial_state(self, message: AmiMessage) -> tuple[_Call, list[CallEvent]] | None:
        call = self._find(message.get("destuniqueid"))
        if call is None:
            # The leg that a Local channel's dialplan dials: its early media is that of our call.
            call = self._calls.get(message.get("destlinkedid"))
            if call is None or not call.local:
                return None
        progress = message.get("dialstatus") in ("RINGING", "PROGRESS")
        return call, self._tell_ringing(call) if progress else self._tell_made(call)

    def _dial_end(self, message: AmiMessage) -> tuple[_Call, list[CallEvent]] | None:
        call = self._find(message.get("destuniqueid"))
        if message.get("dialstatus") != "ANSWER":
            if call is None or not message.get("forward"):
                return None
            call.redirected = True
            return call, []
        if call is not None:
            return call, self._tell_answered(call)
        return self._agent_connect(message)

    def _agent_connect(self, message: AmiMessage) -> tuple[_Call, list[CallEvent]] | None:
        call = self._find(message.get("uniqueid"))
        return None if call is None else (call, self._tell_handed_over(call))

    def _user_event(self, message: AmiMessage) -> tuple[_Call, list[CallEvent]] | None:
        name = message.get("userevent")
        if name == HANDED_OVER_EVENT:
            return self._agent_connect(message)
        call = self._find(message.get("uniqueid")) if name == MACHINE_EVENT else None
        if call is None:
            return None
        call.machine = True
        return call, self._tell_answered(call)

    def _originate_response(self, message: AmiMessage) -> tuple[_Call, list[CallEvent]] | None:
        # By ActionID alone: a refused duplicate bears the Uniqueid of the live call.
        call = self._of_action.get(message.action_id)
        if call is None:
            return None
        if message.get("response") == "Success":
            return call, self._tell_answered(call)
        call.failure = message.get("reason")
        return call, []

    def _hangup_request(self, message: AmiMessage) -> tuple[_Call, list[CallEvent]] | None:
        call = self._find(message.get("uniqueid"))
        if call is None:
            return None
        # The first comes from the channel's own far end, the other from the dialplan, the console or another manager.
        by = HungUpBy.CALLEE if message.event == "HangupRequest" else HungUpBy.PBX
        call.requested_by = call.requested_by or by
        return call, self._tell_made(call)

    def _hangup(self, message: AmiMessage) -> tuple[_Call, list[CallEvent]] | None:
        call = self._find(message.get("uniqueid"))
        if call is None:
            return None
        cause = _number(message.get("cause")) or None
        sip = _number(message.get("techcause"))
        text = message.phrase("cause-txt") if cause is not None else None
        call.hangup = _Hangup(cause, text or None, sip if sip is not None and 300 <= sip <= 699 else None)
        call.local = call.local or message.get("channel").startswith("Local/")
        return call, self._tell_state(call, message.get("channelstate"))

    def _refused_late(self, message: AmiMessage) -> list[CallEvent]:
        """An Originate refused after its deadline, when nobody waited for the response any more."""
        call = self._of_action.get(message.action_id)
        if call is None or call.made:
            return []
        self._finish(call)
        return [Ended(call.id, causes.FAILED_BY_PBX, hangup_text=message.phrase("message") or None, channel=False)]

    # What is told, each once.

    def _tell_made(self, call: _Call) -> list[CallEvent]:
        if call.made:
            return []
        call.made = True
        return [Dialling(call.id)]

    def _tell_ringing(self, call: _Call) -> list[CallEvent]:
        events = self._tell_made(call)
        if not call.progress and not call.answered:
            call.progress = True
            events.append(Ringing(call.id))
        return events

    def _tell_answered(self, call: _Call) -> list[CallEvent]:
        events = self._tell_made(call)
        if not call.answered:
            call.answered = True
            events.append(Answered(call.id))
        return events

    def _tell_handed_over(self, call: _Call) -> list[CallEvent]:
        events = self._tell_answered(call)
        if not call.handed_over:
            call.handed_over = True
            events.append(HandedOver(call.id))
        return events

    def _tell_state(self, call: _Call, state: str) -> list[CallEvent]:
        if state == _UP:
            return self._tell_answered(call)
        return self._tell_ringing(call) if state == _RINGING else self._tell_made(call)

    # How it ends.

    def _conclude(self, call: _Call, now: float) -> list[CallEvent]:
        if call.hangup is None and (call.failure is None or call.answered):
            return []
        call.since = now if call.since is None else call.since
        if call.hangup is not None and (call.answered or call.failure is not None):
            return self._settle(call)
        if call.hangup is not None:
            self._due[call.id] = call.since + RESPONSE_WAIT
        elif call.made:
            self._due[call.id] = call.since + HANGUP_WAIT
        elif not call.blind:
            self._due[call.id] = call.since + CHANNEL_WAIT
        return []

    def _settle(self, call: _Call) -> list[CallEvent]:
        hangup = call.hangup or _Hangup(None, None, None)
        if call.redirected and hangup.cause is None:
            # The channel is given up before the 302's cause is set: always on 16, now and then on 22.
            hangup = replace(hangup, cause=_REDIRECTED)
        timed_out = call.failure == _TIMED_OUT and not call.answered
        # The 480 of a call that timed out is Asterisk's own invention (22); the far end never said it.
        sip_status = None if timed_out or call.answered else hangup.sip_status
        ending = causes.Ending(
            answered=call.answered,
            progress=call.progress,
            channel=call.made,
            asked=call.asked,
            timed_out=timed_out,
            machine=call.machine,
            cause=hangup.cause,
            sip_status=sip_status,
            through_dialplan=call.local,
        )
        verdict = causes.verdict(ending)
        self._finish(call)
        by = _hung_up_by(call, ending, verdict.fault) if call.made else None
        return [Ended(call.id, verdict, hangup.cause, hangup.text, sip_status, by, channel=call.made)]

    def _finish(self, call: _Call) -> None:
        self.forget(call.id)
        self._ended.add(call.id)

    def _follow(self, call: _Call) -> _Call:
        self._calls[call.id] = call
        self._of_action[call.action_id] = call
        return call

    def _follow_stranger(self, call_id: str) -> _Call:
        return self._follow(_Call(call_id, action_id(call_id), application=True, stranger=True, blind=True))

    def _find(self, uniqueid: str) -> _Call | None:
        call = self._calls.get(uniqueid)
        if call is None and uniqueid in self._ended:
            self.late += 1
        return call


def _hung_up_by(call: _Call, ending: causes.Ending, fault: Fault) -> HungUpBy | None:
    """Who ended it, as far as the events tell; None where they do not."""
    if call.asked:
        return HungUpBy.DIALER
    limited = call.since is not None and call.since >= call.limit_at - _LIMIT_SLACK
    if ending.timed_out or (limited and ending.cause is None):
        return HungUpBy.PBX
    if not call.answered:
        said_so = ending.cause is not None and not (call.local and ending.cause == 16)
        return HungUpBy.CALLEE if fault is Fault.CALLEE and said_so else None
    if call.requested_by is not None:
        return call.requested_by
    # Asterisk 22: a BYE leaves no cause, the dialplan's Hangup leaves 16. An application that returns leaves none
    # either, and on 16 all three leave 16, so there nothing can be said.
    return HungUpBy.CALLEE if ending.cause is None and not call.application else None


def _number(value: str) -> int | None:
    return int(value) if value.isascii() and value.isdigit() and len(value) < 9 else None
