"""The ``contacts`` list of a JSON body → contacts, item by item."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dialerd.intake.rows import IntakeOptions, NewContact, RowError, read_row, refuse


def read_items(items: Sequence[object], options: IntakeOptions) -> Iterator[NewContact | RowError]:
    """Yield a contact or an error for each item of a list of JSON values; the first item is row 1.

    An item that is no object is an error row, as is one with names that do not fit.
    """
    for row, item in enumerate(items, start=1):
        yield read_item(row, item, options)


def read_item(row: int, item: object, options: IntakeOptions) -> NewContact | RowError:
    """Make a contact of one JSON value."""
    if not isinstance(item, dict):
        return refuse(row, None, item, "not_an_object", "a contact must be a JSON object")
    return read_row(row, item, options)
