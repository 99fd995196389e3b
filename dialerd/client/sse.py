"""Bytes of an event stream → events (WHATWG HTML, 9.2.6). Pure."""

from __future__ import annotations

import codecs
from dataclasses import dataclass, field

MAX_LINE = 1 << 20


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """One event."""

    kind: str
    id: str | None
    data: str


@dataclass(slots=True)
class EventStream:
    """Cuts what is read into events, however the reads fall."""

    last_id: str | None = None
    """Where to go on after a lost connection: it moves with what was told whole, never with half of an event."""
    retry_seconds: float | None = None
    """How long the server wants to be left alone after a lost connection."""
    _decoder: codecs.IncrementalDecoder = field(
        default_factory=lambda: codecs.getincrementaldecoder("utf-8")("replace")
    )
    _rest: str = ""
    _kind: str = ""
    _id: str | None = None
    _data: list[str] = field(default_factory=list)

    def feed(self, data: bytes) -> list[ServerEvent]:
        """Take what was read; return the events completed by it. Raises ValueError for a line without end."""
        text = self._rest + self._decoder.decode(data)
        if text.endswith("\r"):
            # Perhaps half of a CRLF.
            text, held = text[:-1], "\r"
        else:
            held = ""
        lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        self._rest = lines.pop() + held
        if len(self._rest) > MAX_LINE:
            raise ValueError("a line without end")
        return [event for line in lines if (event := self._line(line)) is not None]

    def _line(self, line: str) -> ServerEvent | None:
        if not line:
            return self._dispatch()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match name:
            case "event":
                self._kind = value
            case "data":
                self._data.append(value)
            case "id" if "\0" not in value:
                self._id = value
            case "retry" if value.isascii() and value.isdigit():
                self.retry_seconds = int(value) / 1000
        return None

    def _dispatch(self) -> ServerEvent | None:
        kind, data = self._kind or "message", "\n".join(self._data)
        complete = bool(self._data)
        self._kind, self._data = "", []
        if self._id is not None:
            self.last_id = self._id
        return ServerEvent(kind, self.last_id, data) if complete else None
