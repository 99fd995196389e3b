"""Bytes of an AMI connection → messages. Pure: no socket, no clock."""

from __future__ import annotations

from dialerd.pbx.phrase import phrase

MAX_MESSAGE_BYTES = 256 * 1024
_BANNER = "Asterisk Call Manager/"
_MAX_BANNER_BYTES = 256
_EOL = b"\r\n"
_END = b"\r\n\r\n"


class AmiStreamError(Exception):
    """The peer does not speak AMI, or sent a message without end: the connection is of no further use."""


class AmiMessage:
    """A message as it came: every header, repeated ones too, in order. Not to be changed."""

    # Written out: ten of them come for each call, and a frozen dataclass takes half as long again to be made.
    __slots__ = ("_first", "headers")

    def __init__(self, headers: tuple[tuple[str, str], ...]) -> None:
        self.headers = headers
        # The first of a repeated header counts: Asterisk writes its own before what a dialplan's UserEvent appends.
        self._first = {name.lower(): value for name, value in reversed(headers)}

    def __eq__(self, other: object) -> bool:
        return self.headers == other.headers if isinstance(other, AmiMessage) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.headers)

    def __repr__(self) -> str:
        return f"AmiMessage({self.headers!r})"

    def get(self, name: str, default: str = "") -> str:
        """The first value of a header; ``name`` in lower case."""
        return self._first.get(name, default)

    def phrase(self, name: str) -> str:
        """The same as words for people: one line, and not long."""
        return phrase(self.get(name))

    def all(self, name: str) -> tuple[str, ...]:
        """Every value of a header; ``name`` in lower case."""
        return tuple(value for key, value in self.headers if key.lower() == name)

    @property
    def event(self) -> str:
        """The event's name; empty for a response."""
        return self.get("event")

    @property
    def response(self) -> str:
        """The response's word; empty for an event (an OriginateResponse has both, and is an event)."""
        return "" if "event" in self._first else self.get("response")

    @property
    def action_id(self) -> str:
        """The ActionID that it answers, or is part of the answer to."""
        return self.get("actionid")


class AmiStream:
    """Cuts what is read into messages, however the reads fall: characters of several bytes are never split.

    Lines end in CRLF, messages in an empty line; empty messages are skipped (Asterisk sends some events with one blank
    line too many). What is neither event nor response, and lines that are no headers, are dropped and counted.
    """

    def __init__(self, max_message: int = MAX_MESSAGE_BYTES) -> None:
        self.version: str | None = None
        """The protocol version of the peer's banner; None until it came."""
        self.garbage = 0
        """Lines and messages dropped because they make no sense."""
        self._max = max_message
        self._buffer = bytearray()
        self._searched = 0

    def feed(self, data: bytes) -> list[AmiMessage]:
        """Take what was read; return the messages completed by it.

        Raises AmiStreamError: the first line is no AMI banner, or a message outgrew its bound.
        """
        self._buffer += data
        if self.version is None and not self._take_banner():
            return []
        messages = []
        if (end := self._buffer.find(_END, max(0, self._searched - len(_END) + 1))) >= 0:
            # Taken apart as a whole: a read brings several, and each would move what is behind it.
            whole, start = bytes(self._buffer), 0
            while end >= 0:
                if end - start > self._max:
                    raise AmiStreamError(f"a message of more than {self._max} bytes")
                message = self._message(whole[start:end])
                if message is not None:
                    messages.append(message)
                start = end + len(_END)
                end = whole.find(_END, start)
            del self._buffer[:start]
        self._searched = len(self._buffer)
        if self._searched >= self._max + len(_END):
            raise AmiStreamError(f"a message of more than {self._max} bytes")
        return messages

    def _take_banner(self) -> bool:
        end = self._buffer.find(_EOL)
        line = bytes(self._buffer if end < 0 else self._buffer[:end])
        banner = _BANNER.encode()
        if not line.startswith(banner[: len(line)]) or len(line) > _MAX_BANNER_BYTES or (0 <= end < len(banner)):
            raise AmiStreamError("the peer is no Asterisk manager")
        if end < 0:
            return False
        self.version = line[len(banner) :].decode(errors="replace").strip()
        del self._buffer[: end + len(_EOL)]
        return True

    def _message(self, raw: bytes) -> AmiMessage | None:
        headers = []
        for line in raw.decode(errors="replace").split("\r\n"):
            name, colon, value = line.partition(":")
            if colon and name:
                headers.append((name, value[1:] if value[:1] == " " else value))
            elif line:
                self.garbage += 1
        if not headers:
            return None
        message = AmiMessage(tuple(headers))
        if not message.event and not message.response:
            self.garbage += 1
            return None
        return message
