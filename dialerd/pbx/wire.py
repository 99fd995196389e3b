"""The only way onto a PBX's wire: what leaves here cannot become another header, action, variable or function.

Facts about Asterisk's side are from its main/manager.c and main/app.c (``get_input``, ``action_originate``,
``man_do_variable_value``, ``__ast_app_separate_args``). Those about FreeSWITCH's side are from mod_event_socket.c
(``read_packet``), mod_commands.c (``originate_function``), switch_ivr_originate.c, switch_event.c
(``switch_event_create_brackets``), switch_utils.c (``switch_separate_string``, ``switch_find_end_paren``) and
switch_channel.c (``switch_channel_expand_variables_check``).
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import NewType

from dialerd.core.variables import CAMPAIGN_PREFIX
from dialerd.pbx.driver import Originate, Place
from dialerd.pbx.phrase import NOT_TEXT

Headers = list[tuple[str, str]]
EslCommand = NewType("EslCommand", bytes)
"""A command of the event socket, ready to be sent. Only this file makes one."""

MAX_LINE_BYTES = 1022
"""Asterisk reads a line, with its CRLF, into 1024 bytes, and throws away the whole action where one is longer."""
MAX_HEADERS = 128
"""Asterisk refuses an action with more headers (AST_MAX_MANHEADERS)."""
MAX_COMMAND_BYTES = 256 * 1024
"""Of one command to FreeSWITCH, which itself reads up to 10 MB."""

RESULT_CONTEXT = "dialerd-result"
"""The dialplan's context with the hangup handler of our calls."""
RESULT_FAMILY = "dialerd"
"""The family of Asterisk's database that it writes to."""
_KEEP = rf"CHANNEL(hangup_handler_push)={RESULT_CONTEXT}\,s\,1"

PLACE_FIELDS = frozenset({"place", "context", "exten", "priority", "application", "data", "queue"})
"""The fields of a :class:`WireError` that say that the answered call's place cannot be written."""

_MAX_DIAL = 255
"""Asterisk copies the Channel header into 256 bytes and cuts off the rest unasked: another number would be dialled."""
_MAX_PLACE = 79

_HEADER = re.compile(r"[A-Za-z][A-Za-z0-9-]*")
_CALL_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_DIAL = re.compile(r"[A-Za-z][A-Za-z0-9_]*/[A-Za-z0-9+@._:;=/*#-]+")
_VARIABLE = re.compile(r"[A-Z][A-Z0-9_]{0,79}")
_CONTEXT = re.compile(r"[A-Za-z0-9_.-]+")
_EXTEN = re.compile(r"[A-Za-z0-9_.*#+-]+")
_APPLICATION = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_NUMBER = re.compile(r"\+?[0-9]{1,32}")
_CALLER_ID = re.compile(r'(?:"(?P<quoted>[^"<>\\]{0,80})"|(?P<bare>[^"<>\\]{0,80}?)) *<(?P<number>\+?[0-9]{1,32})>')
_QUEUE = re.compile(r"[A-Za-z0-9_.*#+@-]+")
_ARGUMENT_SYNTAX = re.compile(r'([\\",()\[\]])')

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
"""FreeSWITCH cuts off what is longer than a UUID, unasked."""
_ESL_WORD = re.compile(r"[A-Za-z0-9_.:*#+@-]+")
_ESL_DIAL = re.compile(r"[A-Za-z][A-Za-z0-9_]*/[A-Za-z0-9+@._:;=/*#%~-]+")
_MAX_ESL_DIAL = 1000
_MANY_CALLS = ":_:"
_EXPRESSION = re.compile(r"\$\\*\{")
_PARENTHESES = str.maketrans("{}", "()")
_BLANK = r"\s"


class WireError(ValueError):
    """A value that may not go onto the wire. The message names the field and the rule, never the value."""

    def __init__(self, field: str, rule: str) -> None:
        super().__init__(f"{field} {rule}")
        self.field = field
        self.rule = rule


def of_every_call(error: WireError) -> bool:
    """Whether every call of its campaign would be refused for the same: its agent's place, or a variable of its own."""
    return error.field in PLACE_FIELDS or error.field.startswith(CAMPAIGN_PREFIX)


def text(field: str, value: str) -> str:
    """Return the value if it is one line of text.

    Raises WireError for C0 and C1 controls (NUL, CR, LF, NEL …), Unicode line and paragraph separators, and lone
    surrogates, which UTF-8 cannot carry.
    """
    if value.isascii() and value.isprintable():
        return value
    for char in value:
        if (char < " " or char > "~") and unicodedata.category(char) in NOT_TEXT:
            raise WireError(field, f"holds a forbidden character (U+{ord(char):04X})")
    return value


def ami_action(headers: Iterable[tuple[str, str]]) -> str:
    """Write one AMI action, with its closing blank line. Raises WireError."""
    lines = []
    for name, value in headers:
        line = f"{_header(name)}: {value}"
        if not (line.isascii() and line.isprintable()):
            text(_field(name, value), value)
        if len(line) > MAX_LINE_BYTES // 4 and len(line.encode()) > MAX_LINE_BYTES:
            raise WireError(_field(name, value), f"is longer than the {MAX_LINE_BYTES} bytes Asterisk reads of a line")
        lines.append(line)
    if len(lines) > MAX_HEADERS:
        raise WireError("action", f"has more than {MAX_HEADERS} headers")
    return "\r\n".join([*lines, "", ""])


def ami_originate(order: Originate, action_id: str, *, keep: bool = False) -> Headers:
    """Build the headers of an Asterisk Originate, in order. Raises WireError, naming the field.

    ``keep``: let the dialplan's hangup handler keep what becomes of the call.
    ``TIMEOUT(absolute)`` counts on Asterisk from the making of the channel, so it gets the time to answer and the
    time to talk together; it holds also while the channel rings, and after the daemon is gone.
    """
    setup = _seconds("setup_seconds", order.setup_seconds)
    talk = _seconds("max_call_seconds", order.max_call_seconds)
    headers: Headers = [
        ("Action", "Originate"),
        ("ActionID", action_id),
        ("Channel", ami_dial(order.dial)),
        ("ChannelId", _match("call_id", _CALL_ID, order.call_id)),
        ("Async", "true"),
        ("Timeout", str(math.ceil(setup * 1000))),
    ]
    if order.caller_id is not None:
        headers.append(("CallerID", caller_id(order.caller_id)))
    headers += _place(order.place)
    headers.append(("Variable", f"TIMEOUT(absolute)={math.ceil(setup + talk)}"))
    if keep:
        headers.append(("Variable", _KEEP))
    headers += [("Variable", ami_variable(name, value)) for name, value in order.variables.items()]
    ami_action(headers)  # line length and count: refused here, before anything of the call is remembered
    return headers


def ami_dial(dial: str) -> str:
    """Write a dial string for Asterisk: one destination, ``TECHNOLOGY/…``. Raises WireError."""
    return _match("dial", _DIAL, _kept_whole(dial), _MAX_DIAL)


def _kept_whole(dial: str) -> str:
    """Ask Asterisk not to optimise a Local channel away once both its ends are connected.

    It would hang up the channel that bears our id while the call goes on without it.
    """
    technology, _, rest = dial.partition("/")
    place, _, options = rest.partition("/")
    if technology.lower() != "local" or "n" in options:
        return dial
    return f"{technology}/{place}/n{options}"


def ami_hangup(call_id: str) -> Headers:
    """Build the headers of an Asterisk Hangup; a channel's Uniqueid does for its name. Raises WireError."""
    # A Channel that begins with a slash would be a pattern, and hang up every channel that it matches.
    return [("Action", "Hangup"), ("Channel", _match("call_id", _CALL_ID, call_id)), ("Cause", "16")]


def ami_kept(call_id: str) -> Headers:
    """Build the headers that ask for what is kept of a call. Raises WireError."""
    return [("Action", "DBGet"), ("Family", RESULT_FAMILY), ("Key", _match("call_id", _CALL_ID, call_id))]


def ami_discard(call_id: str) -> Headers:
    """Build the headers that delete it. Raises WireError."""
    name = f"DB_DELETE({RESULT_FAMILY}/{_match('call_id', _CALL_ID, call_id)})"
    return [("Action", "Setvar"), ("Variable", name), ("Value", "1")]


def ami_variable(name: str, value: str) -> str:
    """Write one ``Variable`` header's value; two underscores make the legs of the channel inherit it. Raises WireError.

    Asterisk splits such a header like an application's arguments, at commas outside quotes, parentheses and brackets,
    and drops quotes and backslashes. A backslash before each of these keeps the value as it is; one left bare at the
    end would even let it read past the end of its string.
    """
    return f"__{_variable_name(name)}=" + _ARGUMENT_SYNTAX.sub(r"\\\1", text(name, value))


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


# FreeSWITCH.


def esl_command(line: str, headers: Iterable[tuple[str, str]] = ()) -> EslCommand:
    """Write one command of the event socket, with its closing blank line. Raises WireError."""
    lines = [text("command", line)]
    for name, value in headers:
        if not _HEADER.fullmatch(name):
            raise WireError("header name", "is not made of letters, digits and hyphens")
        lines.append(f"{name}: {text(name, value)}")
    written = "\n".join([*lines, "", ""]).encode()
    if len(written) > MAX_COMMAND_BYTES:
        raise WireError("command", f"is longer than {MAX_COMMAND_BYTES} bytes")
    return EslCommand(written)


def esl_auth(secret: str) -> EslCommand:
    """Write the login. Raises WireError."""
    return esl_command(f"auth {text('secret', secret)}")


def esl_subscribe(events: Iterable[str]) -> EslCommand:
    """Write a subscription, which adds to those before it; a CUSTOM event's subclass follows the word CUSTOM."""
    return esl_command(" ".join(["event", "plain", *(_match("event", _ESL_WORD, event) for event in events)]))


def esl_api(command: str, *arguments: str) -> EslCommand:
    """Write an API command, carried out at once. Its arguments are single words. Raises WireError."""
    return esl_command(" ".join(["api", command, *(_match("argument", _ESL_WORD, word) for word in arguments)]))


def esl_originate(order: Originate, job_id: str) -> EslCommand:
    """Write a ``bgapi originate``. Raises WireError, naming the field.

    A call that lasts is ended by a task that FreeSWITCH itself sets at the answer, so the limit holds also after the
    daemon is gone; until the answer ``originate_timeout`` bounds it.
    """
    call_id = _match("call_id", _UUID, order.call_id)
    dial = esl_dial(order.dial)
    # FreeSWITCH counts whole seconds of its clock, from the one that has begun: 5 end after 4.5, 2 after 1.5 at times.
    talk = math.ceil(_seconds("max_call_seconds", order.max_call_seconds)) + 1
    setup = math.ceil(_seconds("setup_seconds", order.setup_seconds) + 0.5)
    variables = {
        "origination_uuid": call_id,
        "originate_timeout": str(setup),
        # Else the call would count as answered, and its place would be run, at the first early media.
        "ignore_early_media": "true",
        "presence_data": call_id,
        # A 302 would make FreeSWITCH dial a number that nobody checked.
        "outbound_redirect_fatal": "true",
        "execute_on_answer": f"sched_hangup +{talk} ALLOTTED_TIMEOUT",
    }
    exported = []
    if dial.startswith("loopback/"):
        # Else the channel with our id leaves the call as soon as the dialplan behind it has connected it.
        variables["loopback_bowout"] = "false"
        # The leg that is redirected is the one that the dialplan makes.
        exported = ["outbound_redirect_fatal"]
    if order.caller_id is not None:
        name, _, number = caller_id(order.caller_id).rpartition("<")
        variables["origination_caller_id_number"] = number.removesuffix(">")
        if name:
            variables["origination_caller_id_name"] = name.strip().strip('"')
    # An empty variable is none to FreeSWITCH.
    ours = {_variable_name(name): text(name, value) for name, value in order.variables.items() if value}
    if exported := [*exported, *ours]:
        variables["export_vars"] = ",".join(exported)
    line = f"originate {esl_variables(variables | ours)}{dial} {_esl_place(order.place)}"
    return esl_command(f"bgapi {line}", [("Job-UUID", _match("job_id", _UUID, job_id))])


def esl_dial(dial: str) -> str:
    """Write a dial string for FreeSWITCH: one endpoint, ``MODULE/…``, without variables. Raises WireError."""
    _match("dial", _ESL_DIAL, dial, _MAX_ESL_DIAL)
    if _MANY_CALLS in dial:
        raise WireError("dial", f"holds {_MANY_CALLS}, at which FreeSWITCH starts another call")
    return dial


def esl_gateway(name: str) -> EslCommand:
    """Write the question for a SIP gateway's state. Raises WireError."""
    return esl_api("sofia", "status", "gateway", name)


def esl_variables(variables: Mapping[str, str]) -> str:
    """Write channel variables in braces, as an argument of ``originate``.

    FreeSWITCH takes the argument apart three times (at blanks, at commas, at the first equals sign), each time dropping
    quotes and one level of backslashes, so what stands for itself is escaped once for each. Braces cannot be escaped:
    it counts them whatever stands around them, and ``${…}`` in a variable's value is evaluated, functions too, wherever
    a dialplan uses the variable. So they become parentheses. ``:_:`` anywhere in the argument would start another call.
    An empty pair of quotes, which its parser drops, keeps the three characters apart.
    """
    pairs = []
    for name, value in variables.items():
        bare = value.translate(_PARENTHESES)
        pair = f"{name}={_escape(bare, '=').replace(' ', _BLANK)}"
        pairs.append(_escape(pair, ",").replace(":_", ":''_"))
    return "{" + _escape(",".join(pairs)) + "}"


def _esl_place(place: Place) -> str:
    _one_place(place)
    if place.queue is not None:
        return f"&callcenter({_match('queue', _QUEUE, place.queue)})"
    if place.application is not None:
        application = _match("application", _APPLICATION, place.application)
        data = text("data", place.data)
        if ")" in data:
            raise WireError("data", "holds a closing parenthesis, at which FreeSWITCH ends it")
        if _EXPRESSION.search(data):
            raise WireError("data", "holds ${, which FreeSWITCH evaluates")
        return f"&{application}({_escape(data).replace(' ', _BLANK)})"
    if place.priority != 1:
        raise WireError("priority", "is not 1: FreeSWITCH knows no priorities")
    exten = _match("exten", _EXTEN, place.exten or "")
    context = _match("context", _CONTEXT, place.context or "")
    for field, value in (("exten", exten), ("context", context)):
        if value.lower() == "undef":
            raise WireError(field, "is undef, FreeSWITCH's word for none, at which it crashes")
    return f"{exten} XML {context}"


def _escape(value: str, delimiter: str = "") -> str:
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return escaped.replace(delimiter, f"\\{delimiter}") if delimiter else escaped


# What both use.


def _one_place(place: Place) -> None:
    if sum(each is not None for each in (place.application, place.context, place.queue)) != 1:
        raise WireError("place", "is not exactly one of a dialplan place, an application and a queue")


def _variable_name(name: str) -> str:
    if not _VARIABLE.fullmatch(name):
        raise WireError("variable name", "is not made of capitals, digits and underscores, beginning with a capital")
    return name


def _place(place: Place) -> Headers:
    _one_place(place)
    if place.queue is not None:
        # Behind a comma its data would go on with options of the Queue application.
        return [("Application", "Queue"), ("Data", _match("queue", _QUEUE, place.queue))]
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


@lru_cache(maxsize=128)
def _header(name: str) -> str:
    if not _HEADER.fullmatch(name):
        raise WireError("header name", "is not made of letters, digits and hyphens")
    return name


def _field(name: str, value: str) -> str:
    """Name a header for a message: by the variable that it sets, if it sets one."""
    variable = value.partition("=")[0].removeprefix("__") if name == "Variable" else ""
    return variable if _VARIABLE.fullmatch(variable) else name
