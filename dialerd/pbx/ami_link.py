"""One AMI connection: panoramisk's protocol as the transport, with its faults mended.

Only panoramisk's protocol and Action are used, not its Manager: that one reconnects by itself after a fixed time and
cannot be told to stop, logs in and pings without deadlines, and sends actions again that nobody answered, which for an
Originate is a second call. Here a connection lives once: when it is lost, every pending action fails with LinkLost,
and the driver decides what comes next. What else is replaced: the parser (it lost characters that two reads split,
repeated headers, and trusted any length), the matching of answers (an event with a pending action's ActionID took the
answer's place), and how an action is written (values could bring their own lines).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

import structlog
from panoramisk.actions import Action
from panoramisk.ami_protocol import AMIProtocol

from dialerd.pbx import wire
from dialerd.pbx.ami_stream import AmiMessage, AmiStream, AmiStreamError
from dialerd.pbx.driver import LinkLost
from dialerd.pbx.linked import send_nothing_more

log = structlog.get_logger(__name__)

TAG_BYTES = 9
"""Of chance, in the tag of a link."""
_WHOLE = frozenset({"CoreShowChannelsComplete"})
"""Ends of lists that say how many rows there were (``ListItems``), and of which a missing one would mean something."""
_AT_ONCE = 50
"""Actions in one write. A turn of the loop may have hundreds, and what was first would wait until the last is made."""
_IN_A_TURN = 100
"""Messages that are told in one turn of the loop. A read may hold a thousand, of calls that end at one moment."""


class AmiAction(Action):  # type: ignore[misc]
    """An action, written exactly as given, and its answer: one response, and where there is an ``each`` a list."""

    def __init__(self, headers: wire.Headers, each: Callable[[AmiMessage], None] | None) -> None:
        self._text = wire.ami_action(headers)
        # panoramisk reads no more of it than its id.
        super().__init__([header for header in headers if header[0] in ("Action", "ActionID")])
        self._each = each
        self._answer: AmiMessage | None = None
        self._rows = 0

    def __str__(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return f"<AmiAction {self['action']}>"  # panoramisk logs its actions; a login's holds the secret

    def answered_by(self, message: AmiMessage) -> bool:
        """Whether a message with this action's id is part of its answer: the response first, then the list.

        A UserEvent never is, whatever id it bears: its headers are what a dialplan makes of its values.
        """
        if self._answer is None:
            return bool(message.response)
        return self._each is not None and message.event != "UserEvent"

    def add_message(self, message: AmiMessage) -> None:
        """Take a part of the answer; the last one completes :attr:`future`.

        A row that cannot be taken fails it, and raises: a list without that row would be a shorter one.
        """
        if self.future.done():
            return
        if self._answer is None:
            self._answer = message
            if self._each is not None and message.response != "Error":
                return
        elif (end := message.get("eventlist").lower()) not in ("complete", "cancelled"):
            assert self._each is not None
            self._rows += 1
            try:
                self._each(message)
            except Exception as error:
                self.future.set_exception(LinkLost(f"fault in the driver: {type(error).__name__}"))
                raise
            return
        elif end == "cancelled" or (message.event in _WHOLE and message.get("listitems") not in ("", str(self._rows))):
            self.future.set_exception(LinkLost(f"Asterisk cut {message.phrase('event')} short"))
            return
        self.future.set_result(self._answer)


class _Everything:
    def __contains__(self, _: object) -> bool:
        return True


class AmiLink(AMIProtocol):  # type: ignore[misc]
    """A connection from its banner to its end. Made by :meth:`connect`; of no further use once :attr:`lost` is set."""

    # What panoramisk's protocol asks of its factory, which we are: no action of a lost connection is kept for the next.
    forgetable_actions = _Everything()
    encoding = "utf-8"

    def __init__(self, on_message: Callable[[AmiMessage], None], max_message: int, tag: str) -> None:
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        """Done with the reason when the connection is gone."""
        self.errors = 0
        """Exceptions of whoever was told a message: caught, logged and counted."""
        self.late_answers = 0
        self.stream = AmiStream(max_message)
        self.awaiting_actions: list[Action] = []  # stays empty, see forgetable_actions
        self._on_message = on_message
        self._unsent: list[bytes] = []
        self._unheard: deque[AmiMessage] = deque()
        self._resting = False
        self._tag = tag
        self._next_id = 0
        self._reason: str | None = None

    @classmethod
    async def connect(
        cls,
        host: str,
        port: int,
        on_message: Callable[[AmiMessage], None],
        max_message: int,
        deadline: float,
        tag: str,
    ) -> AmiLink:
        """Open a connection. Raises LinkLost with the reason, at the latest after ``deadline`` seconds.

        ``tag`` begins the ids of its actions: who could guess one could pass for a part of an answer.
        """
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(deadline):
                _, link = await loop.create_connection(lambda: cls(on_message, max_message, tag), host, port)
        except TimeoutError as error:
            raise LinkLost(f"no connection to {host}:{port} within {deadline:g} s") from error
        except OSError as error:
            raise LinkLost(f"no connection to {host}:{port}: {error.strerror or error}") from error
        return link

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.factory = self

    async def ask(
        self,
        headers: wire.Headers,
        deadline: float,
        each: Callable[[AmiMessage], None] | None = None,
    ) -> AmiMessage:
        """Send an action and wait for its response, and with ``each`` for the end of the list after it.

        ``each`` is told every message of that list as it is read, in order with the events around it. An ActionID is
        added where there is none. Raises LinkLost where the connection goes first (nothing was sent if it had gone
        before) or ``each`` fails, TimeoutError at the deadline (seconds), WireError where the action may not be sent.
        """
        if not any(name == "ActionID" for name, _ in headers):
            self._next_id += 1
            headers = [headers[0], ("ActionID", f"{self._tag}:{self._next_id}"), *headers[1:]]
        action = AmiAction(headers, each)
        if self.closed:
            raise LinkLost(self._reason or "the connection is closed")
        self.send(action)
        try:
            async with asyncio.timeout(deadline):
                answer: AmiMessage = await action.future
                return answer
        finally:
            self.responses.pop(action.id, None)

    def send(self, action: AmiAction) -> None:
        """Send an action with others of this turn of the event loop, in one write for some dozens of them."""
        self.responses[action.id] = action
        if not self._unsent:
            asyncio.get_running_loop().call_soon(self._flush)
        self._unsent.append(str(action).encode(self.encoding))
        if len(self._unsent) == _AT_ONCE:
            self._flush()

    def _flush(self) -> None:
        data, self._unsent = b"".join(self._unsent), []
        if data and not self.closed:
            self.transport.write(data)

    def data_received(self, data: bytes) -> None:
        try:
            messages = self.stream.feed(data)
        except AmiStreamError as error:
            self.drop(f"the PBX's words make no sense: {error}")
            return
        self._unheard.extend(messages)
        if not self._resting:
            self._hear_some()

    def _hear_some(self) -> None:
        """Tell what was read, and leave the loop to others in between; nothing more is read until all is told."""
        self._hear(_IN_A_TURN)
        if self._unheard:
            self.transport.pause_reading()
            asyncio.get_running_loop().call_soon(self._hear_some)
        elif self._resting:
            self.transport.resume_reading()
        self._resting = bool(self._unheard)

    def _hear(self, most: int | None = None) -> None:
        while self._unheard and most != 0:
            most = None if most is None else most - 1
            self.handle_message(self._unheard.popleft())

    def handle_message(self, message: AmiMessage) -> None:
        action = self.responses.get(message.action_id)
        try:
            if action is not None and action.answered_by(message):
                action.add_message(message)
                return
            if message.response:
                self.late_answers += 1
            self._on_message(message)
        except Exception:  # whatever the told one does wrong, the connection lives on
            self.errors += 1
            log.exception("ami_handler_failed", event_name=message.phrase("event"))
        if message.event == "Shutdown":
            self.drop("Asterisk shuts down")

    def drop(self, reason: str) -> None:
        """Close at once; everything pending fails with LinkLost."""
        self._reason = self._reason or reason
        self._unheard.clear()
        if not self.closed:
            send_nothing_more(self.transport.get_extra_info("socket"))
            self.transport.abort()
        self.connection_lost(None)

    def connection_lost(self, exc: Any) -> None:
        self._hear()  # the other end's last words came before its end, and one of them may be that it shuts down
        if self.lost.done():
            return
        self._reason = self._reason or (f"connection lost: {exc}" if exc else "Asterisk closed the connection")
        for action in list(self.responses.values()):
            if not action.future.done():
                action.future.set_exception(LinkLost(self._reason))
        self.close()
        self.lost.set_result(self._reason)
