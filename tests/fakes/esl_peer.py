"""A FreeSWITCH's event socket on a loopback port, played from recordings: it behaves unless a test says otherwise."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from dialerd.clock import Clock
from tests.fakes import esl_recordings as recordings
from tests.fakes.esl_calls import DEAD_GATEWAYS, EslCallsAtPlay

Answer = Callable[[str], bytes | None]
Says = Callable[[asyncio.StreamWriter, bytes], object]

DEADLINE = 10.0
SECRET = "open sesame"
GREETING = b"Content-Type: auth/request\n\n"
VERSION = "1.10.12"
STATUS = f"""UP 0 years, 0 days, 0 hours, 1 minute, 2 seconds, 3 milliseconds, 4 microseconds
FreeSWITCH (Version {VERSION}-release git a88d069 2024-08-02 21:02:27Z 64bit) is ready
31 session(s) since startup
1 session(s) - peak 4, last 5min 4
0 session(s) per Sec out of max 30, peak 4, last 5min 4
1000 session(s) max
min idle cpu 0.00/97.30
Current Stack Size/Max 240K/8192K
"""
CONTEXTS = frozenset({"dialerd", "dialer"})
APPLICATIONS = frozenset({"park", "playback", "callcenter"})
UNDESCRIBED = frozenset({"page", "cv"})
"""Applications without a description, which ``show application`` leaves out."""
QUEUES = frozenset({"lab@default", "sales@default"})
"""The queues that mod_callcenter has loaded."""


def reply(text: str, *headers: str) -> bytes:
    """Write the answer to a command."""
    return "\n".join(["Content-Type: command/reply", f"Reply-Text: {text}", *headers, "", ""]).encode()


def response(body: str) -> bytes:
    """Write the answer to an ``api`` command."""
    return f"Content-Type: api/response\nContent-Length: {len(body.encode())}\n\n{body}".encode()


def notice(body: str = "Disconnected, goodbye.\nSee you at ClueCon! http://www.cluecon.com/\n") -> bytes:
    """Write what FreeSWITCH says before it closes a connection."""
    return f"Content-Type: text/disconnect-notice\nContent-Length: {len(body)}\n\n{body}".encode()


def rejection(body: str = "Access Denied, go away.\n") -> bytes:
    """Write what FreeSWITCH says, in the greeting's place, to an address that its ACL does not let in."""
    return f"Content-Type: text/rude-rejection\nContent-Length: {len(body)}\n\n{body}".encode() + notice()


class EslPeer:
    """One FreeSWITCH: counts its connections, keeps every command, and answers from :attr:`answers`.

    A command's answer is looked up by its first two words, then by its first. One of None says nothing.
    """

    def __init__(self, clock: Clock) -> None:
        self.port = 0
        self.greeting = GREETING
        self.connections = 0
        self.commands: list[str] = []
        self.gateways: dict[str, str] = {"trunk": "UP"}
        """The status of each gateway, but for those of ``DEAD_GATEWAYS``."""
        self.ready = True
        self.checks: set[str] = set()
        """The checks of ``fsctl`` that say ``true``: ``pause_check outbound``, ``shutdown_check``."""
        self.calls = EslCallsAtPlay(clock, self.tell)
        self.answers: dict[str, Answer] = {
            "auth": lambda line: reply("+OK accepted" if line == f"auth {SECRET}" else "-ERR invalid"),
            "event": self._subscribe,
            "bgapi originate": self._originate,
            "api status": lambda _: response(STATUS if self.ready else STATUS.replace("is ready", "is not ready")),
            "api fsctl": lambda line: response("true" if " ".join(line.split()[2:]) in self.checks else "false"),
            "api show": self._show,
            "api uuid_exists": lambda line: response("true" if line.split()[2] in self.calls.channels else "false"),
            "api uuid_dump": self._dump,
            "api uuid_kill": self._kill,
            "api callcenter_config": lambda _: response(
                "name|strategy|moh_sound\n" + "".join(f"{queue}|longest-idle-agent|\n" for queue in QUEUES) + "+OK\n"
            ),
            "api xml_locate": lambda line: response(
                f'<context name="{line.split()[5]}"></context>'
                if line.split()[5] in CONTEXTS
                else "can't find anything\n"
            ),
            "api sofia": self._gateway,
        }
        self.says: Says = asyncio.StreamWriter.write
        """How its words go out: a test may spoil them."""
        self._server: asyncio.Server | None = None
        self._writers: dict[asyncio.StreamWriter, set[str]] = {}
        self._speaking: asyncio.StreamWriter | None = None
        self._changed = asyncio.Event()

    async def boot(self) -> None:
        """Listen, on the same port as before."""
        self._server = await asyncio.start_server(self.serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def kill(self) -> None:
        """Die at once, with every channel, and without a word."""
        assert self._server is not None
        self._server.close()
        self.calls.crash()
        self.cut()
        await self._server.wait_closed()
        await self.until(lambda: not self._writers)

    def orders(self) -> list[str]:
        """The originates that came."""
        return [line for line in self.commands if line.startswith("bgapi originate ")]

    def tell(self, name: str, body: bytes) -> None:
        """Tell an event to every connection that subscribed to it."""
        self._changed.set()
        for writer, events in self._writers.items():
            if name in events:
                self.says(writer, recordings.frame(body))

    def send(self, data: bytes) -> None:
        """Say something unasked on every connection."""
        for writer in self._writers:
            writer.write(data)

    def shut_down(self) -> None:
        """Be asked for an elegant shutdown, and tell of it."""
        self.checks.add("shutdown_check")
        self.tell("SHUTDOWN_REQUESTED", b"Event-Name: SHUTDOWN_REQUESTED\nEvent-Info: elegant\n\n")

    def take_gateway_away(self, name: str) -> None:
        """Lose a gateway by ``killgw``, and tell of it."""
        del self.gateways[name]
        self._came_or_went("delete", name)

    def add_gateway(self, name: str, status: str = "UP") -> None:
        """Get a gateway by ``rescan``, and tell of it."""
        self.gateways[name] = status
        self._came_or_went("add", name)

    def _came_or_went(self, what: str, name: str) -> None:
        lines = ["Event-Name: CUSTOM", f"Event-Subclass: sofia%3A%3Agateway_{what}", f"Gateway: {name}"]
        self.tell(f"sofia::gateway_{what}", "\n".join([*lines, "profile-name: external", "", ""]).encode())

    async def drain(self) -> None:
        """Wait until what was said has left."""
        for writer in tuple(self._writers):
            await writer.drain()

    def gateway_state(self, name: str, status: str, phrase: str = "") -> None:
        """Let a gateway change, and tell it as mod_sofia does."""
        self.gateways[name] = status
        lines = ["Event-Name: CUSTOM", "Event-Subclass: sofia%3A%3Agateway_state", f"Gateway: {name}"]
        lines += ["State: NOREG", f"Ping-Status: {status}", *([f"Phrase: {phrase}"] if phrase else [])]
        self.tell("sofia::gateway_state", "\n".join([*lines, "", ""]).encode())

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
        self._writers[writer] = set()
        self._changed.set()
        writer.write(self.greeting)
        try:
            while True:
                command = (await reader.readuntil(b"\n\n")).decode().rstrip("\n")
                self.commands.append(command)
                self._changed.set()
                self._speaking = writer
                answer = self._answer(command)
                if answer is not None:
                    self.says(writer, answer)
                if command.startswith("auth ") and answer is not None and b"+OK" not in answer:
                    writer.write(notice())
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            del self._writers[writer]
            writer.close()
            self._changed.set()

    def _answer(self, command: str) -> bytes | None:
        line = command.partition("\n")[0]
        words = line.split(" ")
        answer = self.answers.get(" ".join(words[:2])) or self.answers.get(words[0])
        return reply("-ERR command not found") if answer is None else answer(command)

    def _subscribe(self, line: str) -> bytes:
        assert self._speaking is not None
        self._writers[self._speaking] |= set(line.split()[2:])
        return reply("+OK event listener enabled plain")

    def _originate(self, command: str) -> bytes:
        line, _, header = command.partition("\nJob-UUID: ")
        assert header, "a job without an id of ours"
        asyncio.get_running_loop().call_soon(self.calls.originate, line.removeprefix("bgapi originate "), header)
        return reply(f"+OK Job-UUID: {header}", f"Job-UUID: {header}")

    def _show(self, line: str) -> bytes:
        words = line.split()
        if words[2] == "channels":
            return response(self.calls.listing())
        if words[2] == "interfaces":
            rows = [f"application,{name},mod_dptools\n" for name in sorted(APPLICATIONS | UNDESCRIBED)]
            return response(f"type,name,ikey\napi,page,mod_dptools\n{''.join(rows)}\n{len(rows) + 1} total.\n")
        known = words[3] in APPLICATIONS
        return response(f"name,description,syntax,ikey\n{words[3]},,,\n\n1 total.\n" if known else "\n0 total.\n")

    def _kill(self, line: str) -> bytes:
        return response("+OK\n" if self.calls.kill(line.split()[2]) else "-ERR No such channel!\n")

    def _dump(self, line: str) -> bytes:
        dump = self.calls.dump(line.split()[2])
        return response("-ERR No such channel!\n" if dump is None else dump.decode())

    def _gateway(self, line: str) -> bytes:
        name = line.split()[4]
        if name in DEAD_GATEWAYS or name not in self.gateways:
            return response("Invalid Gateway!\n")
        rule = "=" * 97
        return response(
            f"{rule}\nName    \t{name}\nProfile \texternal\nPing    \t0\nState   \tNOREG\n"
            f"Status  \t{self.gateways[name]}\nUptime  \t4s\nCallsIN \t0\n{rule}\n"
        )


@asynccontextmanager
async def esl_peer(clock: Clock) -> AsyncIterator[EslPeer]:
    """A listening peer on a free port."""
    peer = EslPeer(clock)
    await peer.boot()
    try:
        yield peer
    finally:
        await peer.kill()
