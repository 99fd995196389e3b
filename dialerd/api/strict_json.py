"""JSON as RFC 8259 means it, and no more: what parsers disagree about is refused."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator
from json.decoder import WHITESPACE  # type: ignore[attr-defined]
from typing import Any, NoReturn

from dialerd.api.problems import INVALID_REQUEST, refuse

_AT_A_TIME = 256 * 1024
"""Characters of a long list that are parsed in one go, and thus the longest that one item of it may be.

Nothing else runs in the process meanwhile, in whichever thread that happens; an item of as many and as long
columns as intake reads has room.
"""
_MEMBERS = 100
"""Fields beside a long list: far more than any body has."""
_CUT_OFF = 12
"""Characters before the end of a part at which a mistake may be that it ends there (``\\u1234\\u1234``)."""


def parse_object(data: bytes) -> dict[str, Any]:
    """Parse a body that must be one JSON object. Raises Rejected.

    Refused beside bad syntax: duplicate keys, NaN and infinities, what is not UTF-8, and lone surrogates.
    """
    value = parse(data)
    if not isinstance(value, dict):
        raise refuse(INVALID_REQUEST, "the body must be a JSON object")
    return value


def parse(data: bytes) -> Any:
    """Parse one JSON value. Raises Rejected."""
    with _refusing():
        text = data.decode("utf-8-sig")
        value = json.loads(text, object_pairs_hook=_object, parse_constant=_constant, parse_float=_float)
        if "\\u" in text:
            _check_characters(value)
        return value


def parse_long(data: bytes, name: str, most: int) -> dict[str, Any]:
    """Parse a large body that must be one JSON object whose list ``name`` has up to ``most`` items. Raises Rejected.

    The items are parsed one after the other, so that no thread but this one is held up for longer than a part takes.
    """
    with _refusing():
        # Each is looked at by the interpreter's collector again and again, with everything else held up.
        if data.count(b"[") + data.count(b"{") > most:
            raise _Unfit(f"the body has more than {most} lists and objects")
        return _Long(data.decode("utf-8-sig"), name, most).read()


class _Long:
    """Reads an object member by member, and one list in it item by item."""

    def __init__(self, text: str, name: str, most: int) -> None:
        self._text = text
        self._name = name
        self._most = most
        self._at = 0
        self._part = ""
        self._begin = 0
        self._escapes = "\\u" in text
        self._decode = json.JSONDecoder(
            object_pairs_hook=_object, parse_constant=_constant, parse_float=_float
        ).raw_decode

    def read(self) -> dict[str, Any]:
        if not self._next("{"):
            raise _Unfit("the body must be a JSON object")
        pairs: list[tuple[str, Any]] = []
        closed = self._next("}")
        while not closed:
            if len(pairs) == _MEMBERS:
                raise _Unfit(f"the body has more than {_MEMBERS} fields")
            pairs.append(self._member())
            closed = self._ends("}")
        self._skip()
        if self._at < len(self._text):
            raise json.JSONDecodeError("Extra data", self._text, self._at)
        return _object(pairs)

    def _member(self) -> tuple[str, Any]:
        self._skip()
        if self._text[self._at : self._at + 1] != '"':
            raise json.JSONDecodeError("Expecting property name enclosed in double quotes", self._text, self._at)
        name = self._value()
        if not self._next(":"):
            raise json.JSONDecodeError("Expecting ':' delimiter", self._text, self._at)
        if name == self._name and self._next("["):
            return name, list(self._items())
        return name, self._value()

    def _items(self) -> Iterator[Any]:
        closed = self._next("]")
        left = self._most
        while not closed:
            if not left:
                raise _Unfit(f"{self._name} has more than {self._most} items")
            left -= 1
            yield self._value()
            closed = self._ends("]")

    def _value(self) -> Any:
        self._skip()
        start = self._at
        if start == len(self._text):
            raise json.JSONDecodeError("Expecting value", self._text, start)
        if (found := self._decoded()) is None:
            self._begin, self._part = start, self._text[start : start + _AT_A_TIME]
            found = self._decoded()
        if found is None:
            raise _Unfit(f"one value of the body is longer than {_AT_A_TIME} characters")
        value, self._at = found
        if self._escapes and self._text.find("\\u", start, self._at) >= 0:
            _check_characters(value)
        return value

    def _decoded(self) -> tuple[Any, int] | None:
        """The value that begins here, and where it ends; None where the part at hand may end before it does."""
        offset = self._at - self._begin
        if offset >= len(self._part):
            return None
        last = self._begin + len(self._part) >= len(self._text)
        try:
            value, end = self._decode(self._part, offset)
        except json.JSONDecodeError as error:
            if not last and (offset or error.pos + _CUT_OFF >= len(self._part) or error.msg.startswith("Untermin")):
                return None
            raise json.JSONDecodeError(error.msg, self._text, self._begin + error.pos) from None
        # A number at the end of a part may go on behind it, and begin to do so before: ``3``, ``3.``, ``3e+``.
        return None if end + 2 >= len(self._part) and not last else (value, self._begin + end)

    def _ends(self, bracket: str) -> bool:
        if self._next(bracket):
            return True
        if not self._next(","):
            raise json.JSONDecodeError("Expecting ',' delimiter", self._text, self._at)
        return False

    def _next(self, sign: str) -> bool:
        self._skip()
        found = self._text.startswith(sign, self._at)
        self._at += found
        return found

    def _skip(self) -> None:
        if self._text[self._at : self._at + 1] in " \t\n\r":
            self._at = WHITESPACE.match(self._text, self._at).end()


@contextlib.contextmanager
def _refusing() -> Iterator[None]:
    try:
        yield
    except UnicodeDecodeError:
        raise refuse(INVALID_REQUEST, "the body is not UTF-8") from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise refuse(INVALID_REQUEST, f"the body is not JSON: {error.msg} ({where})") from None
    except UnicodeEncodeError:
        raise refuse(INVALID_REQUEST, "the body holds half of a UTF-16 surrogate pair, which is no character") from None
    except RecursionError:
        raise refuse(INVALID_REQUEST, "the body is nested too deeply") from None
    except _Unfit as error:
        raise refuse(INVALID_REQUEST, str(error)) from None
    except ValueError:
        # The interpreter's own limit on the digits of an integer.
        raise refuse(INVALID_REQUEST, "the body holds a number that is too large") from None


class _Unfit(ValueError):
    pass


def _check_characters(value: Any) -> None:
    """Raises UnicodeEncodeError where a text holds half of a surrogate pair."""
    json.dumps(value, ensure_ascii=False).encode()


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                shown = key[:100].encode("unicode_escape").decode("ascii")
                raise _Unfit(f"the body has the key '{shown}' twice in one object")
            seen.add(key)
    return value


def _constant(name: str) -> NoReturn:
    raise _Unfit(f"{name} is not JSON")


def _float(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise _Unfit("the body holds a number that is too large")
    return value
