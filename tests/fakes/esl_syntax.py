"""How FreeSWITCH takes the argument of ``originate`` apart, character for character.

A model of ``originate_function`` (mod_commands.c), ``switch_separate_string`` and ``switch_find_end_paren``
(switch_utils.c), ``switch_event_create_brackets`` (switch_event.c) and the start of ``switch_ivr_originate``
(switch_ivr_originate.c) in FreeSWITCH 1.10. What the model cannot follow raises :class:`Misread`.
"""

from __future__ import annotations

from dataclasses import dataclass

_UNESCAPED = {"n": "\n", "r": "\r", "t": "\t", "s": " "}
_ENTERPRISE = ":_:"
_NESTED = "origination_nested_vars=true"


class Misread(Exception):
    """FreeSWITCH would refuse the line, or read more out of it than one plain call."""


@dataclass(frozen=True)
class ReadOriginate:
    """What FreeSWITCH makes of an ``originate``."""

    variables: dict[str, str]
    dial: str
    place: str
    dialplan: str = "XML"
    context: str = "default"

    @property
    def application(self) -> tuple[str, str] | None:
        """The application and its data, where the place is one."""
        if not self.place.startswith("&"):
            return None
        name, _, data = self.place[1:].partition(")")[0].partition("(")
        return name, data


def clean(token: str, delimiter: str = "") -> str:
    """``cleanup_separated_string``: drops quotes, escapes and outer blanks."""
    kept: list[str] = []
    end = 0
    quoted = False
    position = len(token) - len(token.lstrip(" "))
    while position < len(token):
        char, after = token[position], token[position + 1 : position + 2]
        if char == "\\" and after and (after in "'\"\\" or after == delimiter or after in _UNESCAPED):
            kept.append(after if after in "'\"\\" or after == delimiter else _UNESCAPED[after])
            end = len(kept)
            position += 2
            continue
        if char == "'" and (quoted or "'" in token[position + 1 :]):
            quoted = not quoted
            if quoted:
                end = len(kept)
        else:
            kept.append(char)
            if char != " " or quoted:
                end = len(kept)
        position += 1
    return "".join(kept[:end] if end else kept)


def separate(text: str, delimiter: str, most: int = 1024) -> list[str]:
    """``switch_separate_string``, at a blank or at another character."""
    if text.startswith("^^"):
        raise Misread("another delimiter is chosen")
    blank = delimiter == " "
    tokens: list[str] = []
    position = 0
    while position < len(text) and len(tokens) < most:
        start = position
        quoted = False
        if len(tokens) == most - 1:
            position = len(text)
        while position < len(text):
            char = text[position]
            if char == "\\":
                position += 1
            elif char == "'" and (blank or quoted or "'" in text[position + 1 :]):
                quoted = not quoted
            elif char == delimiter and not quoted:
                break
            position += 1
        tokens.append(clean(text[start:position], "" if blank else delimiter))
        position += 1
        while blank and text[position : position + 1] == " ":
            position += 1
    return tokens


def end_of_brackets(text: str) -> int:
    """``switch_find_end_paren``: where the braces that open the text are closed. Raises Misread: nowhere."""
    depth = 0
    for position, char in enumerate(text):
        depth += (char == "{") - (char == "}")
        if depth == 0:
            return position
    raise Misread("the braces are not closed")


def read_originate(argument: str) -> ReadOriginate:
    """Read the argument of an ``originate``. Raises Misread."""
    if "\n" in argument or "\r" in argument:
        raise Misread("a line ends inside")
    words = separate(argument.strip(), " ", most=10)
    if not 2 <= len(words) <= 7:
        raise Misread(f"{len(words)} words")
    if any(word.lower() == "undef" for word in words):
        raise Misread("a word is undef")
    bridge, place, *rest = words
    if _ENTERPRISE in bridge or _NESTED in bridge:
        raise Misread("a mark of several calls, or of nested variables")
    variables: dict[str, str] = {}
    dial = bridge
    if bridge.startswith("{"):
        end = end_of_brackets(bridge)
        for pair in separate(bridge[1:end], ","):
            parts = separate(pair, "=", most=2)
            if len(parts) == 2:
                if parts[0] in variables:
                    raise Misread(f"{parts[0]} twice")
                variables[parts[0]] = parts[1]
        dial = bridge[end + 1 :]
    if any(char in dial for char in "{}<>[]|, '\\"):
        raise Misread("more than one dial string")
    return ReadOriginate(variables, dial, place, *rest[:2])
