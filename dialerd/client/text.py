"""Values as people read them on a terminal. Pure: values in, lines out."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

# A contact's name is text from a file: on a terminal it must not move the cursor or change the title.
_BEYOND_ASCII = r"\x7f-\x9f\u2028-\u202e\u2066-\u2069"
_CONTROL = re.compile(rf"[\x00-\x1f{_BEYOND_ASCII}]")
_NOT_IN_JSON = re.compile(rf"[{_BEYOND_ASCII}]")
NOTHING = "-"


def printable(value: object) -> str:
    """A value's text without anything that a terminal would obey; nothing is shown as a dash."""
    if value is None or value == "":
        return NOTHING
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), str(value))


def to_json(value: Any, *, indent: int | None = 2) -> str:
    """A value as JSON, safe to show; without ``indent`` on one line."""
    separators = (",", ":") if indent is None else None
    text = json.dumps(value, ensure_ascii=False, indent=indent, separators=separators)
    return _NOT_IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Columns with their heads. A column of numbers stands to the right."""
    from rich.cells import cell_len

    given = [list(row) for row in rows]
    cells = [[printable(value) for value in row] for row in given]
    widths = [max(map(cell_len, column)) for column in zip(header, *cells, strict=True)]
    right = [_all_numbers([row[index] for row in given]) for index in range(len(header))]
    lines = []
    for row in [list(header), *cells]:
        padded = []
        for text, width, to_right in zip(row, widths, right, strict=True):
            space = " " * (width - cell_len(text))
            padded.append(space + text if to_right else text + space)
        lines.append("  ".join(padded).rstrip())
    return lines


def _all_numbers(values: Sequence[object]) -> bool:
    known = [value for value in values if value is not None]
    return bool(known) and all(isinstance(value, int | float) for value in known)


def fields(pairs: Iterable[tuple[str, object]]) -> list[str]:
    """Names and values, one of each on a line."""
    known = [(name, printable(value)) for name, value in pairs]
    width = max((len(name) for name, _ in known), default=0)
    return [f"{name:<{width}}  {value}" for name, value in known]


def moment(value: str | None) -> str | None:
    """A time of the API without its fractions of a second: ``2026-11-22 21:00:05Z``."""
    if value is None:
        return None
    return re.sub(r"^(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)(\.\d+)?Z$", r"\1 \2Z", value)


def percent(value: float | None) -> str | None:
    """A share: ``34 %``."""
    return None if value is None else f"{value:.0%}".replace("%", " %")


def known(value: float | None, spec: str = "g") -> str:
    """A figure, or a question mark where a standby was asked, which does not know it."""
    return "?" if value is None else format(value, spec)


def more(listing: Any, what: str) -> list[str]:
    """What a page of a list leaves out, and how to see it."""
    shown, total = len(listing["data"]), listing["total"]
    if shown == total:
        return []
    line = f"{shown} of {total} {what}"
    return [f"{line}; for what follows: --after {listing['next']}" if listing["next"] else line]
