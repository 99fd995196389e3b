"""Bytes of an event socket connection → frames, and a frame's event → headers and body. Pure: no socket, no clock.

A *frame* is what FreeSWITCH writes at once: header lines, an empty line, and as many bytes as its Content-Length says.
An *event* (``text/event-plain``) is such a frame's body: header lines again, now URL-encoded, an empty line, and a
body of its own in some events (BACKGROUND_JOB). Sources: mod_event_socket.c and ``switch_event_serialize`` in
switch_event.c of FreeSWITCH.

A reader feeds :class:`EslStream` with whatever it reads, in place of a library's own framing; it works on bytes, so a
character that two reads split, or that is no UTF-8 at all, harms nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import unquote

from dialerd.pbx.phrase import phrase

MAX_HEADER_BYTES = 64 * 1024
"""Of a frame's own headers; FreeSWITCH writes a few lines."""
MAX_BODY_BYTES = 32 * 1024 * 1024
"""Of a frame's body: the largest is the list of all channels, about 1 kB each."""

_END = b"\n\n"
_LENGTH = re.compile(r"[0-9]{1,10}")


class EslStreamError(Exception):
    """The peer sent what is no event socket frame, or one without end: the connection is of no further use."""


@dataclass(frozen=True, slots=True)
class EslFrame:
    """One frame: its own headers as they came (never URL-encoded), and its body."""

    headers: Mapping[str, str]
    body: bytes = b""

    @property
    def content_type(self) -> str:
        """What it is: auth/request, command/reply, api/response, text/event-plain, text/disconnect-notice …"""
        return self.headers.get("Content-Type", "")

    @property
    def reply(self) -> str:
        """The answer to a command: its Reply-Text, or for ``api`` the body."""
        return self.headers.get("Reply-Text") or self.body.decode(errors="replace")

    @property
    def phrase(self) -> str:
        """The first line of the answer as words for people, and not long."""
        return phrase(self.reply.strip().partition("\n")[0])


class EslEvent(NamedTuple):
    """An event: ``calls.hear(*parse_event(frame.body))``."""

    headers: Mapping[str, str]
    body: str = ""


class EslStream:
    """Cuts what is read into frames, however the reads fall.

    Lines that are no headers are dropped and counted; empty frames are skipped.
    """

    def __init__(self, max_body: int = MAX_BODY_BYTES) -> None:
        self.garbage = 0
        """Lines dropped because they make no sense."""
        self._max_body = max_body
        self._buffer = bytearray()
        self._at = 0
        """Where in the buffer what was not taken yet begins."""
        self._searched = 0
        self._headers: dict[str, str] | None = None
        self._length = 0

    def feed(self, data: bytes) -> list[EslFrame]:
        """Take what was read; return the frames completed by it.

        Raises EslStreamError: a Content-Length that is no number, negative or too large, or headers without end.
        """
        self._buffer += data
        frames = []
        while (frame := self._next()) is not None:
            frames.append(frame)
        del self._buffer[: self._at]
        self._searched -= min(self._searched, self._at)
        self._at = 0
        return frames

    def _next(self) -> EslFrame | None:
        if self._headers is None:
            self._headers = self._take_headers()
        end = self._at + self._length
        if self._headers is None or len(self._buffer) < end:
            return None
        frame = EslFrame(self._headers, bytes(self._buffer[self._at : end]))
        self._at, self._headers = end, None
        return frame

    def _take_headers(self) -> dict[str, str] | None:
        """Read the headers of the next frame; None: they are not complete yet."""
        while True:
            while self._buffer.startswith(b"\n", self._at):
                self._at += 1
            end = self._buffer.find(_END, max(self._at, self._searched - 1))
            if (len(self._buffer) if end < 0 else end) - self._at > MAX_HEADER_BYTES:
                raise EslStreamError(f"headers of more than {MAX_HEADER_BYTES} bytes")
            if end < 0:
                self._searched = len(self._buffer)
                return None
            headers, dropped = _lines(bytes(self._buffer[self._at : end]))
            self._at = self._searched = end + len(_END)
            self.garbage += dropped
            if headers:
                self._length = self._content_length(headers)
                return headers

    def _content_length(self, headers: Mapping[str, str]) -> int:
        value = headers.get("Content-Length", "0").strip()
        if not _LENGTH.fullmatch(value):
            raise EslStreamError("a Content-Length that is no length")
        if int(value) > self._max_body:
            raise EslStreamError(f"a frame of more than {self._max_body} bytes")
        return int(value)


def parse_event(block: bytes) -> EslEvent:
    """Read an event from the body of a ``text/event-plain`` frame. Never raises, whatever the bytes.

    The lines are split first and each value URL-decoded after, so that an encoded line feed stays inside its value: the
    other order would let a caller's name forge a header. Bytes that are no UTF-8 become U+FFFD. Of a repeated header
    the first counts: FreeSWITCH writes an event's own headers before what it copies from the channel (that is why
    CHANNEL_HANGUP_COMPLETE holds Hangup-Cause twice), and both before variables.
    """
    head, _, rest = block.partition(_END)
    headers, _ = _lines(head)
    length = headers.get("Content-Length", "")
    if _LENGTH.fullmatch(length):
        rest = rest[: int(length)]
    return EslEvent(_Decoded(headers), rest.decode(errors="replace"))


class _Decoded(Mapping[str, str]):
    """Headers whose values are URL-decoded when they are read: of two hundred, a handful are."""

    __slots__ = ("_raw",)

    def __init__(self, raw: Mapping[str, str]) -> None:
        self._raw = raw

    def __getitem__(self, name: str) -> str:
        return unquote(self._raw[name], errors="replace")

    def __iter__(self) -> Iterator[str]:
        return iter(self._raw)

    def __len__(self) -> int:
        return len(self._raw)

    def __repr__(self) -> str:
        return repr(dict(self))


def _lines(head: bytes) -> tuple[dict[str, str], int]:
    """Read header lines; the first of a repeated name counts. Returns them and the number of lines that are none."""
    headers: dict[str, str] = {}
    dropped = 0
    for line in head.decode(errors="replace").split("\n"):
        name, colon, value = line.partition(":")
        if not colon or not name:
            dropped += bool(line.strip())
        elif name not in headers:
            headers[name] = value.removeprefix(" ").removesuffix("\r")
    return headers, dropped
