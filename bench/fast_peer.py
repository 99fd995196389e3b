"""An Asterisk manager that costs next to nothing: a process that answers every call at once and counts what it sees.

It speaks as much AMI as the daemon asks of it, and tells each call as Asterisk 22 does with the event filter of
``asterisk-conf`` (``tests/golden/ami/22``, a call that is answered and that the far end hangs up). What it saw is the
far end's word: one JSON line on standard output for each line on standard input.

Run as ``python -m bench.fast_peer --seconds 6``; it prints its port first, and ends with its standard input.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from dialerd.clock import SystemClock, stream

_END = b"\r\n\r\n"
_BANNER = b"Asterisk Call Manager/11.0.0\r\n"
_BOOTED = b"Event: FullyBooted\r\nPrivilege: system,all\r\nUptime: 2\r\nLastReload: 2\r\nStatus: Fully Booted\r\n\r\n"
_CHANNEL = (
    "Event: {{event}}\r\nPrivilege: call,all\r\nChannel: PJSIP/fast-{serial:08x}\r\nChannelState: {{state}}\r\n"
    "ChannelStateDesc: {{word}}\r\nCallerIDNum: 12025550199\r\nCallerIDName: <unknown>\r\n"
    "ConnectedLineNum: 12025550199\r\nConnectedLineName: <unknown>\r\nLanguage: en\r\nAccountCode: \r\n"
    "Context: dialer\r\nExten: answered\r\nPriority: 1\r\nUniqueid: {call}\r\nLinkedid: {call}\r\n"
)
_DIAL_END = (
    "Event: DialEnd\r\nPrivilege: call,all\r\nDestChannel: PJSIP/fast-{serial:08x}\r\nDestChannelState: 6\r\n"
    "DestChannelStateDesc: Up\r\nDestCallerIDNum: 12025550199\r\nDestCallerIDName: <unknown>\r\n"
    "DestConnectedLineNum: 12025550199\r\nDestConnectedLineName: <unknown>\r\nDestLanguage: en\r\n"
    "DestAccountCode: \r\nDestContext: dialer\r\nDestExten: answered\r\nDestPriority: 1\r\nDestUniqueid: {call}\r\n"
    "DestLinkedid: {call}\r\nDialStatus: ANSWER\r\n\r\n"
)
_ORIGINATE_RESPONSE = (
    "Event: OriginateResponse\r\nPrivilege: call,all\r\nActionID: {action}\r\nResponse: Success\r\n"
    "Channel: PJSIP/fast-{serial:08x}\r\nContext: dialer\r\nExten: answered\r\nReason: 4\r\nUniqueid: {call}\r\n"
    "CallerIDNum: 12025550199\r\nCallerIDName: <unknown>\r\n\r\n"
)
_ENDS = ("HangupRequest", "SoftHangupRequest")


@dataclass(slots=True)
class _Channel:
    """A call as the peer has it."""

    text: str
    """The headers that all events of its channel bear."""
    answer: bytes
    """All that is told when it is answered."""


class FarEnd:
    """The calls of all connections, and what was seen of them. Times are monotonic seconds, the machine's own."""

    def __init__(self, seconds: float, spread: float, answer_after: float) -> None:
        """Calls last ``seconds``, up to a share ``spread`` more or less, from an answer ``answer_after`` the order."""
        self.clock = SystemClock()
        self._chance = stream("fast peer")
        self._seconds = seconds
        self._spread = spread
        self._answer_after = answer_after
        self.ordered: list[float] = []
        self.answered: list[float] = []
        self.hung_up: list[float] = []
        self.most = 0
        self.seen: set[str] = set()
        self.twice = 0
        self.unknown: Counter[str] = Counter()
        self.channels: dict[str, _Channel] = {}

    def order(self, fields: dict[str, str], say: Callable[[bytes], None]) -> bytes:
        """Take an Originate; returns what is said at once. The rest follows by ``say``."""
        call, action = fields["ChannelId"], fields["ActionID"]
        self.ordered.append(self.clock.mono())
        if call in self.seen:
            self.twice += 1
            return f"Response: Error\r\nActionID: {action}\r\nMessage: Duplicate channel\r\n\r\n".encode()
        self.seen.add(call)
        serial = len(self.seen)
        text = _CHANNEL.format(serial=serial, call=call)
        up = text.format(event="Newstate", state=6, word="Up") + "\r\n"
        told = _ORIGINATE_RESPONSE.format(action=action, serial=serial, call=call) + up
        answer = (told + _DIAL_END.format(serial=serial, call=call)).encode()
        self.channels[call] = _Channel(text, answer)
        self.most = max(self.most, len(self.channels))
        loop = asyncio.get_running_loop()
        loop.call_later(self._answer_after, self._answer, call, say)
        taken = f"Response: Success\r\nActionID: {action}\r\nMessage: Originate successfully queued\r\n\r\n"
        return (taken + text.format(event="Newchannel", state=0, word="Down") + "\r\n").encode()

    def _answer(self, call: str, say: Callable[[bytes], None]) -> None:
        channel = self.channels.get(call)
        if channel is None:
            return
        self.answered.append(self.clock.mono())
        say(channel.answer)
        lasts = self._seconds * (1 + self._spread * (2 * self._chance() - 1))
        asyncio.get_running_loop().call_later(lasts, self.hang_up, call, say)

    def hang_up(self, call: str, say: Callable[[bytes], None]) -> bool:
        """End a call as its far end does; False where there is none."""
        channel = self.channels.pop(call, None)
        if channel is None:
            return False
        told = [channel.text.format(event=event, state=6, word="Up") for event in _ENDS]
        ended = channel.text.format(event="Hangup", state=6, word="Up")
        say("\r\n".join([*told, f"{ended}Cause: 0\r\nCause-txt: Unknown\r\n\r\n"]).encode())
        self.hung_up.append(self.clock.mono())
        return True

    def report(self) -> dict[str, object]:
        """What was seen since the start."""
        return {
            "ordered": self.ordered,
            "answered": self.answered,
            "hung_up": self.hung_up,
            "most": self.most,
            "twice": self.twice,
            "up": len(self.channels),
            "unknown": self.unknown,
        }


class _Connection(asyncio.Protocol):
    """One manager's connection. What is said in one turn of the loop leaves in one write."""

    def __init__(self, far_end: FarEnd) -> None:
        self._far_end = far_end
        self._buffer = b""
        self._said: list[bytes] = []
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._say(_BANNER)

    def data_received(self, data: bytes) -> None:
        *actions, self._buffer = (self._buffer + data).split(_END)
        for action in actions:
            self._act(dict(line.split(": ", 1) for line in action.decode().split("\r\n") if not line.endswith(":")))

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's name
        self._transport = None

    def _act(self, fields: dict[str, str]) -> None:
        match fields:
            case {"Action": "Originate", "Channel": _}:
                self._say(self._far_end.order(fields, self._say))
            case {"Action": "Hangup", "Channel": call}:
                known = self._far_end.hang_up(call.removeprefix("/^").removesuffix("$/"), self._say)
                self._answer(fields, "Success" if known else "Error", "Message: No such channel")
            case {"Action": "Login"}:
                self._answer(fields, "Success", "Message: Authentication accepted")
                self._say(_BOOTED)
            case {"Action": "CoreSettings"}:
                self._answer(fields, "Success", "AsteriskVersion: 22.10.0", "CoreMaxCalls: 0")
            case {"Action": "CoreShowChannels"}:
                self._list(fields["ActionID"])
            case {"Action": "Setvar"}:  # what the dialplan kept of an answered call is deleted
                self._answer(fields, "Success", "Message: Variable Set")
            # Nothing is known of any trunk; the dialplan keeps results, and has none.
            case {"Action": "DeviceStateList" | "PJSIPShowRegistrationsOutbound" | "ShowDialPlan" | "DBGetTree"}:
                self._answer(fields, "Success", "EventList: start")
                self._say(
                    f"Event: ListComplete\r\nActionID: {fields['ActionID']}\r\nEventList: Complete\r\n\r\n".encode()
                )
            case {"Action": "Ping"}:
                self._answer(fields, "Success", "Ping: Pong")
            case {"Action": "Originate" | "Hangup"}:  # without a channel: whether we may is all that is asked
                self._answer(fields, "Error", "Message: Channel not specified")
            case _:
                self._far_end.unknown[fields.get("Action", "")] += 1
                self._answer(fields, "Error", "Message: Invalid/unknown command")

    def _list(self, action: str) -> None:
        self._say(f"Response: Success\r\nActionID: {action}\r\nEventList: start\r\n\r\n".encode())
        for channel in self._far_end.channels.values():
            row = channel.text.format(event="CoreShowChannel", state=6, word="Up")
            self._say(f"{row}ActionID: {action}\r\nDuration: 00:00:01\r\n\r\n".encode())
        end = f"EventList: Complete\r\nListItems: {len(self._far_end.channels)}"
        self._say(f"Event: CoreShowChannelsComplete\r\nActionID: {action}\r\n{end}\r\n\r\n".encode())

    def _answer(self, fields: dict[str, str], word: str, *more: str) -> None:
        self._say("\r\n".join([f"Response: {word}", f"ActionID: {fields.get('ActionID', '')}", *more, "", ""]).encode())

    def _say(self, data: bytes) -> None:
        if not self._said:
            asyncio.get_running_loop().call_soon(self._flush)
        self._said.append(data)

    def _flush(self) -> None:
        said, self._said = self._said, []
        if self._transport is not None:
            self._transport.write(b"".join(said))


async def _serve(seconds: float, spread: float, answer_after: float) -> None:
    far_end, loop = FarEnd(seconds, spread, answer_after), asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(far_end), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while await reader.readline():
        print(json.dumps(far_end.report()), flush=True)
    server.close()


def main() -> None:
    """Parse the command line and serve."""
    parser = argparse.ArgumentParser(prog="bench.fast_peer", description=__doc__)
    parser.add_argument("--seconds", type=float, default=6.0, help="how long a call lasts")
    parser.add_argument("--spread", type=float, default=0.0, help="the share by which a call lasts more or less")
    parser.add_argument("--answer-after", type=float, default=0.01, help="seconds from the order to the answer")
    wanted = parser.parse_args()
    asyncio.run(_serve(wanted.seconds, wanted.spread, wanted.answer_after))


if __name__ == "__main__":
    main()
