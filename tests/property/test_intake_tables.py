"""Whatever bytes come as CSV or NDJSON: rows, errors or InvalidTable; and what is accepted is what csv.reader reads."""

from __future__ import annotations

import codecs
import csv
import io
import json
import unicodedata
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dialerd.core.carried import too_long
from dialerd.core.phone import BadNumber, normalise
from dialerd.intake.json_list import read_items
from dialerd.intake.ndjson import read_ndjson
from dialerd.intake.rows import IntakeOptions, InvalidTable, NewContact, RowError
from dialerd.intake.table import read_csv

OPTIONS = IntakeOptions(default_region="US")
Reader = Callable[[BinaryIO, IntakeOptions], Iterator[NewContact | RowError]]
Read = tuple[list[NewContact | RowError], tuple[str, str, int | None] | None]


class Dribble(io.RawIOBase):
    """A file that hands out a few bytes at a time."""

    def __init__(self, data: bytes, step: int) -> None:
        self._data, self._step = io.BytesIO(data), step

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        return self._data.read(self._step)


def read(reader: Reader, file: Any) -> Read:
    rows: list[NewContact | RowError] = []
    try:
        for row in reader(file, OPTIONS):
            assert isinstance(row, NewContact | RowError)
            rows.append(row)
    except InvalidTable as error:
        return rows, (error.code, error.message, error.row)
    return rows, None


HEADERS = st.sampled_from(["", "phone_number,note\n", "Phone;note\r\n", "mobile\tnote\n", '"phone"\n'])
PIECES = st.sampled_from(
    ["+12025550100", "2025550101", ",", ";", "\t", '"', '""', "\n", "\r", "\r\n", " ", "a", "é", "é" * 200, "\0"]
)
TEXTS = st.builds(lambda head, body: head + "".join(body), HEADERS, st.lists(PIECES | st.text(max_size=3), max_size=40))


@given(st.binary(max_size=300) | st.builds(lambda a, b: a.encode() + b, HEADERS, st.binary(max_size=200)))
@pytest.mark.parametrize("reader", [read_csv, read_ndjson])
def test_any_bytes_are_rows_errors_or_an_invalid_table(reader: Reader, data: bytes) -> None:
    rows, _ = read(reader, io.BytesIO(data))
    for row in rows:
        json.dumps(row.attributes if isinstance(row, NewContact) else row.value, ensure_ascii=False).encode("utf-8")


@given(TEXTS.filter(lambda text: "\0" not in text))
def test_accepted_rows_are_what_python_s_reader_reads(body: str) -> None:
    text = "phone_number,note\n" + body.encode("utf-8", "replace").decode("utf-8")
    rows, fault = read(read_csv, io.BytesIO(text.encode("utf-8")))
    expected: dict[int, list[str]] = {}
    broken = None
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        for number, cells in enumerate(reader, start=1):
            expected[number] = cells
    except csv.Error:
        broken = len(expected) + 1
    assert (fault and fault[2]) == broken
    del expected[1]
    spoken = {number for number, cells in expected.items() if any(cell.strip() for cell in cells)}
    assert [row.row for row in rows] == sorted(spoken)
    for row in rows:
        assert row.row is not None
        cells = [*expected[row.row], ""]
        if isinstance(row, NewContact):
            assert row.phone_number == normalise(cells[0], "US")
            assert row.attributes == ({"note": cells[1].strip()} if cells[1].strip() else {})
        elif row.code == "too_many_cells":
            assert any(cell.strip() for cell in cells[2:])
        elif row.code == "control_character":
            assert any(unicodedata.category(char) in ("Cc", "Zl", "Zp") for cell in cells[:2] for char in cell)
        elif row.column == "note":
            assert too_long(cells[1].strip())
        else:
            with pytest.raises(BadNumber):
                normalise(cells[0], "US")


@given(TEXTS, st.sampled_from(["utf-8", "utf-16-le", "utf-16-be"]), st.integers(1, 7))
def test_splits_and_encodings_make_no_difference(text: str, encoding: str, step: int) -> None:
    text = text.encode("utf-8", "replace").decode("utf-8").lstrip("\ufeff")
    bom = {"utf-8": codecs.BOM_UTF8, "utf-16-le": codecs.BOM_UTF16_LE, "utf-16-be": codecs.BOM_UTF16_BE}[encoding]
    plain = read(read_csv, io.BytesIO(text.encode("utf-8")))
    assert read(read_csv, io.BytesIO(bom + text.encode(encoding))) == plain
    assert read(read_csv, Dribble(bom + text.encode(encoding), step)) == plain
    assert read(read_csv, Dribble(text.encode("utf-8"), step)) == plain


CELLS = st.text("ab,;\t\"' é+=", max_size=8)
TABLES = st.lists(st.tuples(st.sampled_from(["+12025550100", "(202) 555-0101"]), CELLS, CELLS), max_size=8)


@given(
    TABLES,
    st.sampled_from(",;\t"),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]),
)
def test_what_a_spreadsheet_writes_is_read_back(
    table: list[tuple[str, str, str]], delimiter: str, end: str, quoting: Any
) -> None:
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=delimiter, lineterminator=end, quoting=quoting)
    writer.writerows([("phone_number", "first_name", "note"), *table])
    rows, fault = read(read_csv, io.BytesIO(out.getvalue().encode("utf-8")))
    assert fault is None
    assert [row.row for row in rows] == list(range(2, len(table) + 2))
    for row, (_, first_name, note) in zip(rows, table, strict=True):
        if "\t" in first_name + note:
            assert isinstance(row, RowError)
            assert row.code == "control_character"
        else:
            assert isinstance(row, NewContact)
            assert row.first_name == (first_name.strip() or None)
            assert row.attributes == ({"note": note.strip()} if note.strip() else {})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(["phone", "phone_number", "mobile", "first_name", "priority", "timezone", "attributes", "x"])
ITEMS = st.lists(st.dictionaries(NAMES, JSON | st.just("+12025550100"), max_size=5) | JSON, max_size=6)


@given(ITEMS)
def test_a_json_list_and_ndjson_say_the_same(items: list[Any]) -> None:
    data = "".join(json.dumps(item) + "\n" for item in items).encode()
    rows, fault = read(read_ndjson, io.BytesIO(data))
    assert fault is None
    assert rows == list(read_items(items, OPTIONS))
    assert [row.row for row in rows] == list(range(1, len(items) + 1))
