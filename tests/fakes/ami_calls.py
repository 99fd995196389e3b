"""The calls of a scripted Asterisk: each is dialled, rings, is answered, talks for a moment and ends."""

from __future__ import annotations

import asyncio
from collections import Counter

from tests.fakes.ami_peer import Action, AmiPeer, message, success

STEP_SECONDS = 0.02
TALK_SECONDS = 0.2


class AmiCallsAtPlay:
    """Carries out the orders that an :class:`AmiPeer` gets, and keeps what its far end saw."""

    def __init__(self, peer: AmiPeer) -> None:
        self._peer = peer
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._actions: dict[str, str] = {}
        self.reached: Counter[str] = Counter()
        """How often each call id reached the far end."""
        self.numbers: dict[str, str] = {}
        self.twice_at_once: list[str] = []
        """Numbers that had two calls at once."""
        peer.answers["Originate"] = self._originate
        peer.answers["Hangup"] = self._hang_up

    @property
    def live(self) -> list[str]:
        """The call ids that have a channel."""
        return self._peer.channels

    def crash(self) -> None:
        """End every channel without a word."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._peer.channels.clear()

    def _originate(self, action: Action) -> bytes:
        if "Channel" not in action:
            return message("Response: Error", f"ActionID: {action['ActionID']}", "Message: Channel not specified")
        call_id, number = action["ChannelId"], action["Channel"].partition("/")[2].partition("@")[0]
        self.reached[call_id] += 1
        self.twice_at_once += [number] * (number in {self.numbers[each] for each in self.live})
        self.numbers[call_id] = number
        self._actions[call_id] = action["ActionID"]
        self._peer.channels.append(call_id)
        self._in(STEP_SECONDS, call_id, self._made)
        return success(action, "Message: Originate successfully queued")

    def _in(self, seconds: float, call_id: str, step: object) -> None:
        assert callable(step)
        self._timers[call_id] = asyncio.get_running_loop().call_later(seconds, step, call_id)

    def _made(self, call_id: str) -> None:
        tag = f"Uniqueid: {call_id}"
        self._peer.send(message("Event: Newchannel", "Channel: PJSIP/a-1", "ChannelState: 0", tag))
        ringing = f"DestUniqueid: {call_id}", f"DestLinkedid: {call_id}", "DialStatus: RINGING"
        self._peer.send(message("Event: DialState", *ringing))
        self._in(STEP_SECONDS, call_id, self._answered)

    def _answered(self, call_id: str) -> None:
        tag = f"Uniqueid: {call_id}"
        self._peer.send(message("Event: Newstate", "ChannelState: 6", tag))
        said = "Response: Success", "Reason: 4", f"ActionID: {self._actions[call_id]}"
        self._peer.send(message("Event: OriginateResponse", *said, tag))
        self._in(TALK_SECONDS, call_id, self._ended)

    def _ended(self, call_id: str) -> None:
        self._timers.pop(call_id).cancel()
        self._peer.channels.remove(call_id)
        self._peer.send(
            message("Event: Hangup", f"Uniqueid: {call_id}", "ChannelState: 6", "Cause: 16", "Cause-txt: Normal")
        )

    def _hang_up(self, action: Action) -> bytes:
        if "Channel" not in action:
            return message("Response: Error", f"ActionID: {action['ActionID']}", "Message: No channel specified")
        call_id = action["Channel"]
        if call_id not in self.live:
            return message("Response: Error", f"ActionID: {action['ActionID']}", "Message: No such channel")
        asyncio.get_running_loop().call_soon(self._ended, call_id)
        return success(action)
