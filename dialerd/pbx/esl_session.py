"""One event socket connection inside the gevent hub: greenswitch's InboundESL, with its faults mended.

Every fault of greenswitch 0.0.19 that was found is mended here and nowhere else. What is kept is its shape: two
greenlets around one socket, the wait for ``auth/request``, and the queue of commands that wait for their replies, which
FreeSWITCH gives in order. Replaced, and why:

- ``connect``: IPv4 only; it looked names up in the hub; a failed attempt left its descriptor open; the wait for
  ``auth/request`` had no deadline. Here asyncio connects, and hands over a socket that is connected.
- ``authenticate``: no deadline; a reply without Reply-Text raised KeyError; the password went to the wire unchecked.
- ``receive_events`` and ``ESLEvent.parse_data``: one byte that is no UTF-8 ended the reader; an event was URL-decoded
  before it was split into lines, so that a caller's name could forge a header; any Content-Length was believed, a
  negative one read to the end; at the end of the stream inside a body it span without end.
- ``handle_event``: a reply that nobody waited for raised IndexError and killed the reader.
- ``process_events``: an unbounded queue, looked at by a greenlet that woke up every second.
- ``send``: it waited for ever on a dead connection, wrote with ``send`` where only ``sendall`` writes everything, and a
  caller that gave up left its reply slot to the next.
- ``stop``: sent ``exit`` and waited for the answer; joined greenlets that never ended; left the socket open when the
  connection had failed. A session lives once; nothing here connects again.
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable

import gevent
import gevent.event
import gevent.queue
import gevent.socket
import structlog
from greenswitch.esl import InboundESL, NotConnectedError

from dialerd.pbx import wire
from dialerd.pbx.esl_stream import EslEvent, EslFrame, EslStream, EslStreamError, parse_event
from dialerd.pbx.linked import send_nothing_more

log = structlog.get_logger(__name__)

_READ_BYTES = 256 * 1024
_ACCEPTED = "+OK accepted"
TURNED_AWAY = "FreeSWITCH turns our address away"
"""How the reason begins where its access list (``apply-inbound-acl``) does not let us in."""

Reply = Callable[[EslFrame], object]


class EslSession(InboundESL):  # type: ignore[misc]
    """A connection from its socket to its end. Lives in the hub; the callables it is given are called there.

    ``hear`` returns False where nobody can take events any more; then the session ends, because a listener that does
    not read makes FreeSWITCH's event socket hang for everybody. ``lost`` is called once, with the reason and whether
    the login was refused.
    """

    def __init__(
        self,
        login: wire.EslCommand,
        deadline: float,
        stream: EslStream,
        hear: Callable[[EslEvent, int], bool],
        lost: Callable[[str, bool], object],
    ) -> None:
        super().__init__("", 0, "", timeout=deadline)
        self._login = login
        self._commands_sent: deque[Reply] = deque()
        self._outgoing = gevent.queue.Queue()
        self._stream = stream
        self._hear = hear
        self._lost = lost
        self._ended = False
        self._login_greenlet: gevent.Greenlet | None = None
        self.sock: gevent.socket.socket | None = None

    def open(self, connected: socket.socket, ready: Callable[[], object]) -> None:
        """Take over a connected socket, log in, and call ``ready``."""
        self.sock = gevent.socket.socket(connected.family, connected.type, connected.proto, fileno=connected.detach())
        self.connected = True
        self._login_greenlet = gevent.spawn(self._log_in, ready)

    def _log_in(self, ready: Callable[[], object]) -> None:
        try:
            self.connect()
        except NotConnectedError as error:
            self.end(str(error))
        else:
            if self.connected:
                ready()

    def connect(self) -> None:
        """Log in on the socket that was handed over. Raises NotConnectedError; may also end the session."""
        self.start_event_handlers()
        if not self._auth_request_event.wait(self.timeout):
            raise NotConnectedError(f"no word from FreeSWITCH within {self.timeout:g} s of the connection")
        if self.connected:
            self.authenticate()

    def authenticate(self) -> None:
        """Send the password. Raises NotConnectedError where no answer comes; a refusal ends the session."""
        answered = gevent.event.Event()

        def take(frame: EslFrame) -> None:
            # Looked at as it is read: right behind a refusal comes the end of the connection.
            if frame.reply.strip() != _ACCEPTED:
                self.end(f"ESL login refused: {_reason(frame)}", refused=True)
            answered.set()

        self.submit(self._login, take)
        if not answered.wait(self.timeout):
            raise NotConnectedError(f"no answer to the login within {self.timeout:g} s")

    def submit(self, command: wire.EslCommand, reply: Reply) -> None:
        """Send a command; ``reply`` is called with its answer. Where the session ends first, it never is."""
        if self.connected:
            self._commands_sent.append(reply)
            self._outgoing.put(command)

    def end(self, reason: str, *, refused: bool = False) -> None:
        """Close at once, whatever is under way; the first reason counts."""
        if self._ended:
            return
        self._ended = True
        self.connected = False
        self._lost(reason, refused)
        self.stop()

    def start_event_handlers(self) -> None:
        self._receive_events_greenlet = gevent.spawn(self.receive_events)
        self._process_events_greenlet = gevent.spawn(self._send_commands)

    def receive_events(self) -> None:
        reason = "FreeSWITCH closed the connection"
        try:
            while self.connected and self.sock is not None:
                data = self.sock.recv(_READ_BYTES)
                if not data:
                    break
                for frame in self._stream.feed(data):
                    self.handle_event(frame)
                # A socket that always has more to read must not keep the hub from everything else.
                gevent.sleep(0)
        except EslStreamError as error:
            reason = f"the PBX's words make no sense: {error}"
        except OSError as error:
            reason = f"connection lost: {error.strerror or error}"
        except Exception as error:
            # A reader that ended without a word would leave a link that only looks alive.
            log.exception("esl_reader_failed")
            reason = f"fault in the driver: {type(error).__name__}"
        self.end(reason)

    def handle_event(self, event: EslFrame) -> None:
        if not self.connected:
            return
        match event.content_type:
            case "text/event-plain":
                if not self._hear(parse_event(event.body), len(event.body)):
                    self.end("events come faster than they can be taken")
            case "command/reply" | "api/response":
                if not self._commands_sent:
                    self.end("the PBX answers what nobody asked")
                    return
                self._commands_sent.popleft()(event)
            case "auth/request":
                self._auth_request_event.set()
            case "text/rude-rejection":
                self.end(f"{TURNED_AWAY}: {_reason(event)}", refused=True)
            case "text/disconnect-notice":
                self.end(f"FreeSWITCH disconnects: {_reason(event)}")
            case _:
                self._stream.garbage += 1

    def _send_commands(self) -> None:
        try:
            while self.sock is not None:
                self.sock.sendall(self._outgoing.get())
        except OSError as error:
            self.end(f"connection lost: {error.strerror or error}")

    def stop(self) -> None:
        """Close the socket and end the greenlets, without waiting for anything."""
        self._auth_request_event.set()
        self._commands_sent.clear()
        if self.sock is not None:
            send_nothing_more(self.sock)
            self.sock.close()
            self.sock = None
        for greenlet in (self._login_greenlet, self._receive_events_greenlet, self._process_events_greenlet):
            if greenlet is not None and greenlet is not gevent.getcurrent():
                greenlet.kill(block=False)


def _reason(frame: EslFrame) -> str:
    return frame.phrase or "no reason given"
