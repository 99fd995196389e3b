"""A scripted Asterisk manager on a loopback socket: it answers well unless a test says otherwise."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

Action = dict[str, str]
Answer = Callable[[Action], bytes | None]
Says = Callable[[asyncio.StreamWriter, bytes], object]

DEADLINE = 10.0
BANNER = b"Asterisk Call Manager/11.0.0\r\n"


def message(*headers: str) -> bytes:
    """Write one message from its lines."""
    return "\r\n".join([*headers, "", ""]).encode()


def success(action: Action, *headers: str) -> bytes:
    return message("Response: Success", f"ActionID: {action['ActionID']}", *headers)


def error(action: Action, text: str) -> bytes:
    return message("Response: Error", f"ActionID: {action['ActionID']}", f"Message: {text}")


class AmiPeer:
    """One Asterisk: counts its connections, keeps every action, and answers from :attr:`answers`.

    An answer of None says nothing; one that calls :meth:`cut` breaks the connection.
    """

    def __init__(self) -> None:
        self.port = 0
        self.banner = BANNER
        self.connections = 0
        self.actions: list[Action] = []
        self.texts: list[str] = []
        """The same actions as they came, repeated headers included."""
        self.channels: list[str] = []
        """Uniqueids that CoreShowChannels lists, as up for 65 seconds."""
        self.answers: dict[str, Answer] = {
            "Login": lambda action: success(action) + message("Event: FullyBooted", "Status: Fully Booted"),
            "Ping": lambda action: success(action, "Ping: Pong"),
            "CoreSettings": lambda action: success(action, "AsteriskVersion: 22.10.0"),
            "CoreShowChannels": self._listing,
            "ShowDialPlan": lambda action: error(action, f"Did not find context {action['Context']}"),
            "Originate": self._originate,
            "Hangup": lambda action: success(action) if "Channel" in action else error(action, "No channel specified"),
        }
        self.says: Says = asyncio.StreamWriter.write
        """How its words go out: a test may spoil them."""
        self._writers: set[asyncio.StreamWriter] = set()
        self._changed = asyncio.Event()

    def orders(self) -> list[Action]:
        """The Originates that named a channel."""
        return [action for action in self.actions if action["Action"] == "Originate" and "Channel" in action]

    def send(self, data: bytes) -> None:
        """Say something unasked on every connection."""
        for writer in self._writers:
            self.says(writer, data)

    def cut(self) -> None:
        """Break every connection, as a crash does."""
        for writer in self._writers:
            writer.transport.abort()

    async def until(self, predicate: Callable[[], bool]) -> None:
        """Wait until something that the peer has seen is so."""
        async with asyncio.timeout(DEADLINE):
            while not predicate():
                self._changed.clear()
                await self._changed.wait()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection to its end."""
        self.connections += 1
        self._writers.add(writer)
        self._changed.set()
        writer.write(self.banner)
        try:
            while True:
                raw = (await reader.readuntil(b"\r\n\r\n")).decode()
                self.texts.append(raw)
                action: Action = {}
                for line in raw.split("\r\n"):
                    if line:
                        name, _, value = line.partition(": ")
                        action.setdefault(name, value)
                self.actions.append(action)
                self._changed.set()
                answer = self.answers[action["Action"]](action)
                if answer is not None:
                    self.says(writer, answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()
            self._changed.set()

    def _originate(self, action: Action) -> bytes:
        if "Channel" not in action:
            return error(action, "Channel not specified")
        return success(action, "Message: Originate successfully queued")

    def _listing(self, action: Action) -> bytes:
        tag = f"ActionID: {action['ActionID']}"
        listed = [
            message("Event: CoreShowChannel", tag, f"Uniqueid: {uniqueid}", "ChannelState: 6", "Duration: 00:01:05")
            for uniqueid in self.channels
        ]
        end = message("Event: CoreShowChannelsComplete", tag, "EventList: Complete", f"ListItems: {len(listed)}")
        return success(action, "EventList: start") + b"".join(listed) + end


@asynccontextmanager
async def ami_peer() -> AsyncIterator[AmiPeer]:
    """A listening peer on a free port."""
    peer = AmiPeer()
    server = await asyncio.start_server(peer.serve, "127.0.0.1", 0)
    peer.port = server.sockets[0].getsockname()[1]
    try:
        yield peer
    finally:
        server.close()
        peer.cut()
        await server.wait_closed()
        await peer.until(lambda: not peer._writers)
