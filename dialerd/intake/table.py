"""CSV (RFC 4180, and what spreadsheets make of it) → contacts, row by row."""

from __future__ import annotations

import csv
import itertools
import re
from collections.abc import Iterator
from typing import BinaryIO

from dialerd.intake.lines import UnfitText, read_lines, utf8_length
from dialerd.intake.rows import (
    BadNames,
    Columns,
    IntakeOptions,
    InvalidTable,
    NewContact,
    RowError,
    assign,
    field_of,
    read_assigned,
    refuse,
    shown,
)

CODE = "invalid_csv"
_DELIMITERS = (",", ";", "\t")
_BLANK = re.compile(r"[\s,;]*")
_MAX_LISTED = 20


def read_csv(file: BinaryIO, options: IntakeOptions) -> Iterator[NewContact | RowError]:
    """Yield a contact or an error for each row of a CSV file below its header.

    Rows count as a spreadsheet counts them: the first row of the file is row 1, empty rows count, and a quoted
    line break does not start a new one. The header is the first row that is not empty. Comma, semicolon or tab, as
    the header has it; empty rows are skipped; a row with more cells than the header is an error, and with fewer its
    missing cells are empty. Raises :class:`InvalidTable` where the file as a whole cannot be trusted: not text,
    broken quoting, a row beyond ``max_row_bytes``, no column with the telephone number, two columns of one meaning.
    Rows yielded before that must then be thrown away.
    """
    rows = _rows(file, options)
    header = next((found for found in rows if any(map(str.strip, found[1]))), None)
    if header is None:
        raise InvalidTable(CODE, "the file is empty; its first row must name the columns, phone_number among them")
    row, names = header
    named, columns = _named(row, names, options)
    for row, cells in rows:
        if any(map(str.strip, cells)):
            yield _read(row, cells, names, named, columns, options)


def _read(
    row: int,
    cells: list[str],
    names: list[str],
    named: list[tuple[int, str]],
    columns: Columns,
    options: IntakeOptions,
) -> NewContact | RowError:
    for index in range(len(names), len(cells)):
        if cells[index].strip():
            message = f"has {len(cells)} cells, and the header {len(names)}; is a value with a separator not quoted?"
            return refuse(row, None, cells[index], "too_many_cells", message)
    if len(named) < len(names):
        for cell, name in zip(cells, names, strict=False):
            if cell.strip() and not name.strip():
                return refuse(row, None, cell, "unnamed_column", "stands in a column without a name")
    values: dict[str, object] = {name: cells[index] if index < len(cells) else "" for index, name in named}
    return read_assigned(row, columns, values, options)


def _named(row: int, names: list[str], options: IntakeOptions) -> tuple[list[tuple[int, str]], Columns]:
    """Return the columns that have a name (spreadsheets leave empty ones behind) and what they mean.

    Raises InvalidTable.
    """
    named = [(index, name) for index, name in enumerate(names) if name.strip()]
    try:
        columns = assign(tuple(name for _, name in named), options)
    except BadNames as error:
        raise InvalidTable(CODE, str(error), row) from None
    if "phone_number" not in columns.fields:
        listed = ", ".join(shown(name.strip()) for _, name in named[:_MAX_LISTED])
        more = ", …" if len(named) > _MAX_LISTED else ""
        raise InvalidTable(CODE, f"there is no column phone_number; the columns are: {listed}{more}", row)
    return named, columns


def _rows(file: BinaryIO, options: IntakeOptions) -> Iterator[tuple[int, list[str]]]:
    """Yield each row's number and cells. Raises InvalidTable."""
    feed = _Feed(file, options.max_row_bytes)
    row = 0
    try:
        row = feed.skip_blank()
        reader = csv.reader(feed, delimiter=_delimiter(feed), strict=True)
        feed.next_row()
        for cells in reader:
            row += 1
            yield row, cells
            feed.next_row()
    except UnfitText as error:
        raise InvalidTable(CODE, f"row {row + 1} (line {error.line}) {error.message}", row + 1) from None
    except _RowTooLong:
        message = f"row {row + 1} is longer than {options.max_row_bytes} bytes; is a quote never closed?"
        raise InvalidTable(CODE, message, row + 1) from None
    except csv.Error as error:
        raise InvalidTable(CODE, f"row {row + 1} has malformed quoting: {error}", row + 1) from None


def _delimiter(feed: _Feed) -> str:
    """Choose the delimiter under which the header has a telephone number, or else the most columns."""
    best, most = _DELIMITERS[0], (False, 0)
    for delimiter in _DELIMITERS:
        try:
            cells = next(csv.reader(feed.preview(), delimiter=delimiter, strict=True), [])
        except (csv.Error, _RowTooLong):
            continue
        merit = (any(field_of(name) == "phone_number" for name in cells), len(cells))
        if merit > most:
            best, most = delimiter, merit
    return best


class _RowTooLong(Exception):
    pass


class _Feed:
    """Hands lines to csv.reader, and bounds what one row may take of them."""

    def __init__(self, file: BinaryIO, max_row_bytes: int) -> None:
        self._lines = read_lines(file, max_row_bytes)
        self._most = max_row_bytes
        self._ahead: list[str] = []  # read for the header's sake, and still to be handed out
        self._handed = 0  # of these
        self._taken = 0

    def skip_blank(self) -> int:
        """Drop the lines before the first with anything in it, and count them."""
        for count, line in enumerate(self._lines):
            if not _BLANK.fullmatch(line):
                self._ahead.append(line)
                return count
        return 0

    def preview(self) -> Iterator[str]:
        """Yield the lines to come, which stay to come; as many as one row may take."""
        taken = 0
        for index in itertools.count():
            if index == len(self._ahead):
                line = next(self._lines, None)
                if line is None:
                    return
                self._ahead.append(line)
            taken += utf8_length(self._ahead[index])
            if taken > self._most:
                raise _RowTooLong
            yield self._ahead[index]

    def next_row(self) -> None:
        """Begin to count a new row's bytes."""
        self._taken = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if self._handed < len(self._ahead):
            line = self._ahead[self._handed]
            self._handed += 1
        else:
            line = next(self._lines)
        self._taken += utf8_length(line)
        if self._taken > self._most:
            raise _RowTooLong
        return line
