"""NDJSON (a JSON object per line) → contacts, line by line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import BinaryIO, NoReturn

from dialerd.intake.json_list import read_item
from dialerd.intake.lines import UnfitText, read_lines
from dialerd.intake.rows import IntakeOptions, InvalidTable, NewContact, RowError, refuse

CODE = "invalid_request"


def read_ndjson(file: BinaryIO, options: IntakeOptions) -> Iterator[NewContact | RowError]:
    """Yield a contact or an error for each line that is not blank; the first line of the file is row 1.

    A line that is no JSON (RFC 8259), or no object, is an error row: the lines after it still stand by themselves.
    Raises :class:`InvalidTable` where the file is not text or a line is longer than ``max_row_bytes``; rows yielded
    before that must then be thrown away.
    """
    try:
        for row, line in enumerate(read_lines(file, options.max_row_bytes), start=1):
            if line.strip():
                yield _read(row, line, options)
    except UnfitText as error:
        raise InvalidTable(CODE, f"line {error.line} {error.message}", error.line) from None


def _read(row: int, line: str, options: IntakeOptions) -> NewContact | RowError:
    try:
        item = json.loads(line, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else "a number or a nesting beyond all bounds"
        return refuse(row, None, line.strip(), "invalid_json", f"the line is not JSON: {reason}")
    return read_item(row, item, options)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)
