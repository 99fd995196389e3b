"""A small, blocking AMI client for tests: it shows what Asterisk says, independent of the library that dialerd uses."""

from __future__ import annotations

import socket
from collections.abc import Callable, Container
from types import TracebackType

from dialerd.clock import SystemClock
from tests.lab.packages import LabError

Headers = dict[str, str]
"""One AMI message. A header that is repeated keeps its first value: enough for tests."""

_SECONDS = 10.0
_clock = SystemClock()


class Ami:
    """A connection to the Asterisk manager interface. Every wait has a deadline, after which LabError is raised."""

    def __init__(self, host: str, port: int, *, seconds: float = _SECONDS) -> None:
        self._socket = socket.create_connection((host, port), timeout=seconds)
        self._buffer = b""
        self._count = 0
        self._seen = 0
        self.events: list[Headers] = []
        """Every event so far, in order."""
        self._banner = self._read_until(b"\r\n", _clock.mono() + seconds)

    def __enter__(self) -> Ami:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def login(self, username: str, secret: str) -> None:
        """Log in; LabError where Asterisk refuses."""
        answer = self.action("Login", {"Username": username, "Secret": secret})
        if answer["Response"] != "Success":
            raise LabError(f"AMI login of {username} refused: {answer}")

    def action(self, name: str, headers: dict[str, str] | None = None, *, seconds: float = _SECONDS) -> Headers:
        """Send one action and return its response; events that come before it are kept."""
        self._count += 1
        action_id = f"test-{self._count}"
        lines = [f"Action: {name}", f"ActionID: {action_id}", *(f"{k}: {v}" for k, v in (headers or {}).items())]
        self._socket.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        return self._next(lambda message: "Response" in message and message.get("ActionID") == action_id, seconds)

    def listing(self, name: str, headers: dict[str, str], entry: str, last: str) -> list[Headers]:
        """Run an action that answers with a list of events, and return its entries."""
        action_id = self.action(name, headers)["ActionID"]
        self.event(lambda event: event["Event"] == last and event.get("ActionID") == action_id)
        return [event for event in self.events if event["Event"] == entry and event.get("ActionID") == action_id]

    def event(self, wanted: Callable[[Headers], bool], *, seconds: float = _SECONDS) -> Headers:
        """Return the first event that fits, of those that came already or by waiting for it."""
        for event in self.events:
            if wanted(event):
                return event
        return self._next(lambda message: "Event" in message and wanted(message), seconds)

    def next_event(self, names: Container[str], seconds: float) -> Headers:
        """Return the next event of these names that was not returned by this method before."""
        while self._seen < len(self.events):
            event = self.events[self._seen]
            self._seen += 1
            if event["Event"] in names:
                return event
        event = self._next(lambda message: message.get("Event", "") in names, seconds)
        self._seen = len(self.events)
        return event

    def _next(self, wanted: Callable[[Headers], bool], seconds: float) -> Headers:
        deadline = _clock.mono() + seconds
        while True:
            message = _parse(self._read_until(b"\r\n\r\n", deadline))
            if "Event" in message:
                self.events.append(message)
            if message and wanted(message):
                return message

    def _read_until(self, end: bytes, deadline: float) -> bytes:
        while end not in self._buffer:
            remaining = deadline - _clock.mono()
            if remaining <= 0:
                heard = [event["Event"] for event in self.events[-10:]]
                raise LabError(
                    f"AMI: what was waited for did not come in time; last heard, of {len(self.events)}: {heard}"
                )
            self._socket.settimeout(remaining)
            try:
                chunk = self._socket.recv(65536)
            except TimeoutError:
                continue
            if not chunk:
                raise LabError("AMI: Asterisk closed the connection")
            self._buffer += chunk
        message, _, self._buffer = self._buffer.partition(end)
        return message


def _parse(message: bytes) -> Headers:
    headers: Headers = {}
    for line in message.decode(errors="replace").split("\r\n"):
        name, colon, value = line.partition(":")
        if colon:
            headers.setdefault(name, value.strip())
    return headers
