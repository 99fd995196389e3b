"""The calls of a played FreeSWITCH: each goes as its number's last two digits say, and is told as it was recorded once.

The far end's behaviours are the lab's, and so are the numbers; every event comes from a recording of a real
FreeSWITCH (tests/golden/esl). What it does not do is SIP: this is a replay.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus

from dialerd.clock import Clock
from tests.fakes import esl_recordings as recordings
from tests.fakes.esl_syntax import Misread, ReadOriginate, read_originate
from tests.lab.far_end import Behaviour, behaviour_of

POST_DIAL_SECONDS = 0.02
SETUP_SLACK = 0.4
"""``originate_timeout=5`` fired after 4.5 to 4.7 seconds."""
LISTING_LAG = 0.3
QUEUE_SECONDS = 0.1
"""Until a member of the queue takes the call."""
DEAD_GATEWAYS = {"dead": "gateway_unknown", "nocontact": "gateway_unknown"}
_HANGUP = "CHANNEL_HANGUP_COMPLETE"


@dataclass(eq=False)
class Channel:
    """A live channel, as ``show channels`` has it."""

    call_id: str
    number: str
    order: ReadOriginate
    behaviour: Behaviour
    made: float
    """Seconds since the epoch, as all moments here."""
    states: list[tuple[float, str]]
    """Its states so far and since when."""
    ended: float | None = None
    job_open: bool = True
    timers: list[asyncio.TimerHandle] = field(default_factory=list)

    @property
    def state(self) -> str:
        """What it is now."""
        return self.states[-1][1]

    def since(self, *states: str) -> float | None:
        """When it first was in one of these states."""
        return next((moment for moment, state in self.states if state in states), None)

    def shown(self, moment: float) -> str | None:
        """The state that a listing shows which is as old as this moment; None: it does not show the channel."""
        if self.ended is not None and self.ended <= moment:
            return None
        return next((state for since, state in reversed(self.states) if since <= moment), None)


@dataclass
class FarEndCall:
    """A call that reached the far end."""

    call_id: str
    number: str
    began: float
    """Seconds since the epoch, as :attr:`ended`."""
    ended: float | None = None

    @property
    def over(self) -> bool:
        """Whether the far end saw its end."""
        return self.ended is not None


class EslCallsAtPlay:
    """Every call of one FreeSWITCH. ``tell`` is given each event's body, by its name."""

    def __init__(self, clock: Clock, tell: Callable[[str, bytes], None]) -> None:
        self._clock = clock
        self.channels: dict[str, Channel] = {}
        self._ended: list[Channel] = []
        """Those that a listing may still show."""
        self.far_end: list[FarEndCall] = []
        self._tell = tell

    def originate(self, argument: str, job_id: str) -> None:
        """Carry out an ``originate``; its job answers later."""
        try:
            order = read_originate(argument)
        except Misread as error:
            self._job("endpoint_unknown", job_id, f"-USAGE: {error}")
            return
        call_id = order.variables["origination_uuid"]
        endpoint, _, rest = order.dial.partition("/")
        if call_id in self.channels:
            self._job("endpoint_unknown", job_id, "-ERR DESTINATION_OUT_OF_ORDER")
        elif endpoint not in ("sofia", "loopback"):
            self._job("endpoint_unknown", job_id, None)
        elif endpoint == "loopback":
            self._make(call_id, rest.partition("/")[0], order)
        elif (gateway := rest.split("/")[1]) in DEAD_GATEWAYS:
            self._job(DEAD_GATEWAYS[gateway], job_id, None)
        else:
            self._make(call_id, rest.split("/")[-1], order)

    def kill(self, call_id: str) -> bool:
        """Carry out a ``uuid_kill``; False: there is no such channel."""
        channel = self.channels.get(call_id)
        if channel is None:
            return False
        self._end(channel, "answer_uuid_kill" if channel.state == "ACTIVE" else "ringing_uuid_kill")
        return True

    def answer(self, call_id: str) -> None:
        """Let the callee answer a call now."""
        self._answer(self.channels[call_id])

    def far_end_hangs_up(self, call_id: str) -> None:
        """Let the callee end an answered call."""
        self._end(self.channels[call_id], "answer_far_hangup")

    def listing(self) -> str:
        """The answer to ``show channels as json``, out of a database that is written behind the channels' lives."""
        then = self._now() - LISTING_LAG
        self._ended = [channel for channel in self._ended if channel.shown(then) is not None]
        shown = {channel: channel.shown(then) for channel in (*self.channels.values(), *self._ended)}
        rows = [
            {
                "uuid": channel.call_id,
                "direction": "outbound",
                "created_epoch": str(int(channel.made)),
                "name": f"sofia/external/{channel.number}",
                "state": "CS_EXECUTE" if state == "ACTIVE" else "CS_CONSUME_MEDIA",
                "callstate": state,
                "presence_data": channel.order.variables.get("presence_data", ""),
                "accountcode": "",
            }
            for channel, state in shown.items()
            if state is not None
        ]
        return json.dumps({"row_count": len(rows), "rows": rows} if rows else {"row_count": 0})

    def dump(self, call_id: str) -> bytes | None:
        """The answer to ``uuid_dump``, which asks the channel itself; None: there is no such channel."""
        channel = self.channels.get(call_id)
        if channel is None:
            return None
        moments = {
            "Answered": channel.since("ACTIVE"),
            "Progress": channel.since("RINGING"),
            "Progress-Media": channel.since("EARLY"),
        }
        return recordings.dump(call_id, channel.state, {name: int((at or 0) * 1e6) for name, at in moments.items()})

    def crash(self) -> None:
        """End every channel without a word."""
        for channel in self.channels.values():
            _stop(channel)
        self.channels.clear()
        self._ended.clear()

    def _now(self) -> float:
        return self._clock.wall().timestamp()

    def _enter(self, channel: Channel, state: str) -> None:
        channel.states.append((self._now(), state))

    # How a call goes.

    def _make(self, call_id: str, number: str, order: ReadOriginate) -> None:
        now = self._now()
        channel = Channel(call_id, number, order, behaviour_of(number), now, [(now, "DOWN")])
        self.channels[call_id] = channel
        self.far_end.append(FarEndCall(call_id, number, now))
        self._say(channel, "answer_far_hangup", "CHANNEL_CREATE")
        self._later(channel, POST_DIAL_SECONDS, self._begin)
        setup = float(order.variables["originate_timeout"]) - SETUP_SLACK
        self._later(channel, setup, self._give_up)

    def _begin(self, channel: Channel) -> None:
        behaviour = channel.behaviour
        if behaviour.first == "ring":
            self._enter(channel, "RINGING")
            self._say(channel, "answer_far_hangup", "CHANNEL_PROGRESS")
        elif behaviour.first == "early":
            self._enter(channel, "EARLY")
            self._say(channel, "early183_answer_far_hangup", "CHANNEL_PROGRESS_MEDIA")
        if behaviour.status == HTTPStatus.OK:
            self._later(channel, behaviour.wait, self._answer)
        elif behaviour.status:
            self._later(channel, behaviour.wait, self._refuse)

    def _answer(self, channel: Channel) -> None:
        self._enter(channel, "ACTIVE")
        self._say(channel, "answer_far_hangup", "CHANNEL_ANSWER")
        self._close_job(channel, "answer_far_hangup")
        app, _, limit = channel.order.variables["execute_on_answer"].partition(" +")
        assert app == "sched_hangup"
        self._later(channel, float(limit.split()[0]), lambda channel: self._end(channel, "answer_sched_hangup"))
        if channel.behaviour.talk is not None:
            self._later(channel, channel.behaviour.talk, lambda channel: self._end(channel, "answer_far_hangup"))
        application = channel.order.application
        if application is not None and application[0] == "callcenter":
            self._later(channel, QUEUE_SECONDS, self._hand_over)

    def _hand_over(self, channel: Channel) -> None:
        member = "0" * 8 + channel.call_id[8:]
        self._tell("CHANNEL_BRIDGE", recordings.bridge(channel.call_id, member))

    def _refuse(self, channel: Channel) -> None:
        self._end(channel, recordings.REFUSALS[channel.behaviour.status])

    def _give_up(self, channel: Channel) -> None:
        if channel.state == "ACTIVE":
            return
        given_up = {
            "ring": "noanswer_180_timeout",
            "early": "noanswer_183_timeout",
            "trying": "noanswer_100only_timeout",
        }
        self._end(channel, given_up.get(channel.behaviour.first or "", "noanswer_silence_timeout"))

    def _end(self, channel: Channel, recording: str) -> None:
        _stop(channel)
        del self.channels[channel.call_id]
        channel.ended = self._now()
        self._ended.append(channel)
        for call in self.far_end:
            if call.call_id == channel.call_id and call.ended is None:
                call.ended = channel.ended
        self._say(channel, recording, _HANGUP)
        self._close_job(channel, recording)

    def _close_job(self, channel: Channel, recording: str) -> None:
        if channel.job_open:
            channel.job_open = False
            self._say(channel, recording, "BACKGROUND_JOB")

    def _job(self, recording: str, call_id: str, body: str | None) -> None:
        told = recordings.event(recording, "BACKGROUND_JOB", call_id)
        if body is not None:
            head, _, _ = told.partition(b"\n\n")
            lines = [line for line in head.split(b"\n") if not line.startswith(b"Content-Length")]
            text = body.encode() + b"\n"
            told = b"\n".join([*lines, b"Content-Length: %d" % len(text)]) + b"\n\n" + text
        asyncio.get_running_loop().call_soon(self._tell, "BACKGROUND_JOB", told)

    def _say(self, channel: Channel, recording: str, name: str) -> None:
        self._tell(name, recordings.event(recording, name, channel.call_id))

    def _later(self, channel: Channel, seconds: float, step: Callable[[Channel], None]) -> None:
        def due() -> None:
            if self.channels.get(channel.call_id) is channel:
                step(channel)

        channel.timers.append(asyncio.get_running_loop().call_later(seconds, due))


def _stop(channel: Channel) -> None:
    for timer in channel.timers:
        timer.cancel()
