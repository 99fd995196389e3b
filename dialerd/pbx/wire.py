"""The only way onto a PBX's wire: what leaves here cannot become another header, action, variable or function.

Facts about Asterisk's side are from its main/manager.c and main/app.c (``get_input``, ``action_originate``,
``man_do_variable_value``, ``__ast_app_separate_args``).
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable

from dialerd.pbx.driver import Originate, Place

Headers = list[tuple[str, str]]

MAX_LINE_BYTES = 1022
"""Asterisk reads a line, with its CRLF, into 1024 bytes, and throws away the whole action where one is longer."""
MAX_HEADERS = 128
"""Asterisk refuses an action with more headers (AST_MAX_MANHEADERS)."""

_MAX_DIAL = 255
"""Asterisk copies the Channel header into 256 bytes and cuts off the rest unasked: another number would be dialled."""
_MAX_PLACE = 79
_FORBIDDEN = frozenset({"Cc", "Cs", "Zl", "Zp"})

_HEADER = re.compile(r"[A-Za-z][A-Za-z0-9-]*")
_CALL_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_DIAL = re.compile(r"[A-Za-z][A-Za-z0-9_]*/[A-Za-z0-9+@._:;=/*#-]+")
_VARIABLE = re.compile(r"[A-Z][A-Z0-9_]{0,79}")
_CONTEXT = re.compile(r"[A-Za-z0-9_.-]+")
_EXTEN = re.compile(r"[A-Za-z0-9_.*#+-]+")
_APPLICATION = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_NUMBER = re.compile(r"\+?[0-9]{1,32}")
_CALLER_ID = re.compile(r'(?:"(?P<quoted>[^"<>\\]{0,80})"|(?P<bare>[^"<>\\]{0,80}?)) *<(?P<number>\+?[0-9]{1,32})>')
_ARGUMENT_SYNTAX = re.compile(r'([\\",()\[\]])')


class WireError(ValueError):
    """A value that may not go onto the wire. The message names the field and the rule, never the value."""

    def __init__(self, field: str, rule: str) -> None:
        super().__init__(f"{field} {rule}")
        self.field = field


def text(field: str, value: str) -> str:
    """Return the value if it is one line of text.

    Raises WireError for C0 and C1 controls (NUL, CR, LF, NEL …), Unicode line and paragraph separators, and lone
    surrogates, which UTF-8 cannot carry.
    """
    for char in value:
        if (char < " " or char > "~") and unicodedata.category(char) in _FORBIDDEN:
            raise WireError(field, f"holds a forbidden character (U+{ord(char):04X})")
    return value


def ami_action(headers: Iterable[tuple[str, str]]) -> str:
    """Write one AMI action, with its closing blank line. Raises WireError."""
    lines = []
    for name, value in headers:
        if not _HEADER.fullmatch(name):
            raise WireError("header name", "is not made of letters, digits and hyphens")
        field = _field(name, value)
        line = f"{name}: {text(field, value)}"
        if len(line.encode()) > MAX_LINE_BYTES:
            raise WireError(field, f"is longer than the {MAX_LINE_BYTES} bytes Asterisk reads of a line")
        lines.append(line)
    if len(lines) > MAX_HEADERS:
        raise WireError("action", f"has more than {MAX_HEADERS} headers")
    return "\r\n".join([*lines, "", ""])


def ami_originate(order: Originate, action_id: str) -> Headers:
    """Build the headers of an Asterisk Originate, in order. Raises WireError, naming the field.

    ``TIMEOUT(absolute)`` counts on Asterisk from the making of the channel, so it gets the time to answer and the
    time to talk together; it holds also while the channel rings, and after the daemon is gone.
    """
    setup = _seconds("setup_seconds", order.setup_seconds)
    talk = _seconds("max_call_seconds", order.max_call_seconds)
    headers: Headers = [
        ("Action", "Originate"),
        ("ActionID", action_id),
        ("Channel", _match("dial", _DIAL, order.dial, _MAX_DIAL)),
        ("ChannelId", _match("call_id", _CALL_ID, order.call_id)),
        ("Async", "true"),
        ("Timeout", str(math.ceil(setup * 1000))),
    ]
    if order.caller_id is not None:
        headers.append(("CallerID", caller_id(order.caller_id)))
    headers += _place(order.place)
    headers.append(("Variable", f"TIMEOUT(absolute)={math.ceil(setup + talk)}"))
    headers += [("Variable", ami_variable(name, value)) for name, value in order.variables.items()]
    ami_action(headers)  # line length and count: refused here, before anything of the call is remembered
    return headers


def ami_hangup(call_id: str) -> Headers:
    """Build the headers of an Asterisk Hangup; a channel's Uniqueid does for its name. Raises WireError."""
    # A Channel that begins with a slash would be a pattern, and hang up every channel that it matches.
    return [("Action", "Hangup"), ("Channel", _match("call_id", _CALL_ID, call_id)), ("Cause", "16")]


def ami_variable(name: str, value: str) -> str:
    """Write one ``Variable`` header's value; two underscores make the legs of the channel inherit it. Raises WireError.

    Asterisk splits such a header like an application's arguments, at commas outside quotes, parentheses and brackets,
    and drops quotes and backslashes. A backslash before each of these keeps the value as it is; one left bare at the
    end would even let it read past the end of its string.
    """
    if not _VARIABLE.fullmatch(name):
        raise WireError("variable name", "is not made of capitals, digits and underscores, beginning with a capital")
    return f"__{name}=" + _ARGUMENT_SYNTAX.sub(r"\\\1", text(name, value))


def caller_id(value: str) -> str:
    """Write a caller ID as ``"Name" <number>`` or ``<number>``. Raises WireError.

    Takes a bare number or ``"Name" <number>``; the name may not hold quotes, angle brackets or backslashes, with which
    it could pass for another number.
    """
    text("caller_id", value)
    if _NUMBER.fullmatch(value):
        return f"<{value}>"
    match = _CALLER_ID.fullmatch(value)
    if match is None:
        raise WireError("caller_id", 'is neither a number nor "Name" <number>')
    name = (match["quoted"] or match["bare"] or "").strip()
    return f'"{name}" <{match["number"]}>' if name else f"<{match['number']}>"


def _place(place: Place) -> Headers:
    if (place.application is None) == (place.context is None):
        raise WireError("place", "is not exactly one of a dialplan place and an application")
    if place.application is not None:
        application = _match("application", _APPLICATION, place.application)
        return [("Application", application), ("Data", text("data", place.data))]
    if place.priority < 1:
        raise WireError("priority", "is not positive")
    return [
        ("Context", _match("context", _CONTEXT, place.context or "")),
        ("Exten", _match("exten", _EXTEN, place.exten or "")),
        ("Priority", str(place.priority)),
    ]


def _match(field: str, pattern: re.Pattern[str], value: str, most: int = _MAX_PLACE) -> str:
    if len(value) > most:
        raise WireError(field, f"is longer than {most} characters")
    if not pattern.fullmatch(value):
        raise WireError(field, "holds characters that are not allowed there, or none at all")
    return value


def _seconds(field: str, value: float) -> float:
    if not 0 < value <= 7 * 86_400:
        raise WireError(field, "is not between 0 and a week")
    return value


def _field(name: str, value: str) -> str:
    """Name a header for a message: by the variable that it sets, if it sets one."""
    variable = value.partition("=")[0].removeprefix("__") if name == "Variable" else ""
    return variable if _VARIABLE.fullmatch(variable) else name
