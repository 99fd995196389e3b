"""JSON as RFC 8259 means it, and no more: what parsers disagree about is refused."""

from __future__ import annotations

import asyncio
import json
import math
from typing import Any, NoReturn

from dialerd.api.problems import INVALID_REQUEST, refuse

_IN_THREAD = 64 * 1024


async def parse_object(data: bytes) -> dict[str, Any]:
    """Parse a body that must be one JSON object. Raises Rejected.

    Refused beside bad syntax: duplicate keys, NaN and infinities, what is not UTF-8, and lone surrogates.
    """
    # A large body would hold up the event loop for as long as parsing takes.
    value = await asyncio.to_thread(parse, data) if len(data) > _IN_THREAD else parse(data)
    if not isinstance(value, dict):
        raise refuse(INVALID_REQUEST, "the body must be a JSON object")
    return value


def parse(data: bytes) -> Any:
    """Parse one JSON value. Raises Rejected."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise refuse(INVALID_REQUEST, "the body is not UTF-8") from None
    try:
        value = json.loads(text, object_pairs_hook=_object, parse_constant=_constant, parse_float=_float)
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode()
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
    return value


class _Unfit(ValueError):
    pass


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
