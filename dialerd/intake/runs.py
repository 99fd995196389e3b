"""Rows on their way to the store: in runs, each with its numbers in order, and its contacts as the store takes them.

An index that is filled in the order of a file has a page rewritten for each number; filled in the order of numbers, a
page for many. A run is as much of a file as is worth sorting, and little enough to be held in memory.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter

from dialerd.intake.rows import NewContact, RowError, refuse_prefix

RUN_ROWS = 50_000
RUN_CHARS = 8 * 1024 * 1024
"""A run ends at either bound."""
PART_ROWS = 500
"""Rows of one part, at most."""
_PART_CHARS = 512 * 1024
_LINES = ",\n"
"""Between the rows of a part: each on a line of its own, for a database that takes lines."""

_TEXTS = attrgetter("first_name", "last_name", "email", "company", "timezone", "priority", "external_id")
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


@dataclass(frozen=True, slots=True)
class Run:
    """A run begins, of so many contacts; they are counted from 0 within it."""

    contacts: int


@dataclass(frozen=True, slots=True)
class Errors:
    """Rejected rows of the run, in the file's order."""

    rows: tuple[RowError, ...]


@dataclass(frozen=True, slots=True)
class Numbers:
    """Numbers of the run, in their own order and those that are equal in the file's: JSON ``[[place, number], …]``."""

    count: int
    text: str


@dataclass(frozen=True, slots=True)
class Contacts:
    """Contacts of the run in the file's order, from ``first`` on.

    JSON ``[[place, number, first name, last name, e-mail, company, time zone, priority, external id, attributes], …]``;
    attributes are JSON in a text, or the empty text.
    """

    first: int
    count: int
    text: str


Part = Run | Errors | Numbers | Contacts
"""A run is told as :class:`Run`, then all its errors, then all its numbers, then all its contacts."""


def runs(rows: Iterable[NewContact | RowError], prefixes: Sequence[str] = ()) -> Iterator[Part]:
    """Make runs of rows. A number that begins with none of the prefixes is rejected; without prefixes, none is."""
    allowed = tuple(prefixes)
    run = _Run()
    for row in rows:
        if isinstance(row, NewContact) and allowed and not row.phone_number.startswith(allowed):
            row = refuse_prefix(row)  # noqa: PLW2901 - it is an error from here on
        run.take(row)
        if run.full:
            yield from run.parts()
            run = _Run()
    yield from run.parts()


class _Run:
    """What was read of a run."""

    def __init__(self) -> None:
        self._errors: list[RowError] = []
        self._numbers: list[str] = []
        self._contacts: list[str] = []
        self._chars = 0

    def take(self, row: NewContact | RowError) -> None:
        if isinstance(row, RowError):
            self._errors.append(row)
            self._chars += len(row.message)
            return
        attributes = _encode(row.attributes) if row.attributes else ""
        text = _encode((len(self._contacts), row.phone_number, *_TEXTS(row), attributes))
        self._numbers.append(row.phone_number)
        self._contacts.append(text)
        self._chars += len(text)

    @property
    def full(self) -> bool:
        return len(self._contacts) + len(self._errors) >= RUN_ROWS or self._chars >= RUN_CHARS

    def parts(self) -> Iterator[Part]:
        if not self._contacts and not self._errors:
            return
        yield Run(len(self._contacts))
        for start in range(0, len(self._errors), PART_ROWS):
            yield Errors(tuple(self._errors[start : start + PART_ROWS]))
        # A stable sort: of equal numbers the first in the file comes first.
        order = sorted(range(len(self._numbers)), key=self._numbers.__getitem__)
        for start in range(0, len(order), PART_ROWS):
            some = [[place, self._numbers[place]] for place in order[start : start + PART_ROWS]]
            # Numbers are E.164: nothing else in the text looks like the end of a row.
            yield Numbers(len(some), _encode(some).replace("],[", f"]{_LINES}["))
        yield from self._in_parts()

    def _in_parts(self) -> Iterator[Contacts]:
        first, chars = 0, 0
        for place, text in enumerate(self._contacts):
            chars += len(text)
            if place + 1 - first == PART_ROWS or chars >= _PART_CHARS or place + 1 == len(self._contacts):
                yield Contacts(first, place + 1 - first, f"[{_LINES.join(self._contacts[first : place + 1])}]")
                first, chars = place + 1, 0
