"""intake.table: what people send as CSV, and what is said of what cannot be read."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest

from dialerd.intake.rows import IntakeOptions, InvalidTable, NewContact, RowError
from dialerd.intake.table import read_csv

OPTIONS = IntakeOptions(default_region="US")
A, B = "+12025550100", "+12025550101"


def read(data: bytes | str, options: IntakeOptions = OPTIONS) -> list[NewContact | RowError]:
    return list(read_csv(io.BytesIO(data.encode() if isinstance(data, str) else data), options))


def contacts(data: bytes | str) -> list[tuple[int, str, str | None, dict[str, str]]]:
    rows = read(data)
    assert all(isinstance(row, NewContact) for row in rows), rows
    return [(row.row, row.phone_number, row.first_name, row.attributes) for row in rows if isinstance(row, NewContact)]


def invalid(data: bytes | str, options: IntakeOptions = OPTIONS) -> InvalidTable:
    with pytest.raises(InvalidTable) as caught:
        read(data, options)
    assert caught.value.code == "invalid_csv"
    return caught.value


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_delimiters_line_ends_and_encodings(delimiter: str, end: str, encoding: str) -> None:
    table = [["Phone", "First Name", "note"], [A, "Zoë", '"a,; ""b"""'], [B, "Bob"]]
    data = end.join(delimiter.join(cells) for cells in table).encode(encoding)
    assert contacts(data) == [(2, A, "Zoë", {"note": 'a,; "b"'}), (3, B, "Bob", {})]


def test_utf_16_big_endian() -> None:
    assert contacts(b"\xfe\xff" + f"phone\n{A}\n".encode("utf-16-be")) == [(2, A, None, {})]


def test_the_delimiter_is_the_header_s() -> None:
    assert contacts(f"phone;name, first;name, last\n{A};b;c\n") == [
        (2, A, None, {"name, first": "b", "name, last": "c"})
    ]
    assert contacts(f'"a,b,c,d";phone\nx;{A}\n') == [(2, A, None, {"a,b,c,d": "x"})]
    assert contacts(f'phone,5" pipe\n{A},x\n') == [(2, A, None, {'5" pipe': "x"})]


def test_rows_count_as_a_spreadsheet_counts_them() -> None:
    rows = read(f'\n ,,\nphone,note\n\n{A},"two\nlines"\n,\n{B},x\nabc,\n')
    assert [(row.row, row.code if isinstance(row, RowError) else "") for row in rows] == [
        (5, "control_character"),
        (7, ""),
        (8, "number_letters"),
    ]


def test_short_rows_are_filled_and_long_ones_refused() -> None:
    short, padded, long = read(f"phone,first_name,city\n{A}\n{A},b,c,, \n{A},b,c,d\n")
    assert isinstance(short, NewContact)
    assert short.first_name is None
    assert isinstance(padded, NewContact)
    assert isinstance(long, RowError)
    assert (long.row, long.code, long.value) == (4, "too_many_cells", "d")


def test_columns_without_a_name_may_only_be_empty() -> None:
    fine, wrong = read(f"phone,,city,\n{A},,Rome,\n{B},lost,Rome,\n")
    assert isinstance(fine, NewContact)
    assert fine.attributes == {"city": "Rome"}
    assert isinstance(wrong, RowError)
    assert (wrong.code, wrong.value) == ("unnamed_column", "lost")


def test_a_name_that_would_forge_an_action_is_a_row_error() -> None:
    rows = read(f'phone,first_name,SHELL(id)\n{A},"Bob\r\nAction: Command",1\n{B},Ann,2\n')
    assert isinstance(rows[0], RowError)
    assert (rows[0].row, rows[0].column, rows[0].code) == (2, "first_name", "control_character")
    assert isinstance(rows[1], NewContact)
    assert rows[1].attributes == {"SHELL(id)": "2"}


@pytest.mark.parametrize(
    ("data", "row", "words"),
    [
        ("", None, "empty"),
        ("\n\n , ,\n", None, "empty"),
        ("name,city\nBob,Rome\n", 1, "no column phone_number; the columns are: name, city"),
        ("\nname\n", 2, "no column phone_number"),
        ("phone,phone_number\n", 1, "'phone' and 'phone_number' both mean phone_number"),
        ("phone,city,city\n", 1, "'city' and 'city' both mean city"),
        ('phone,"a\nb"\n', 1, "control character"),
        ("phone," + ",".join(f"c{index}" for index in range(200)), 1, "201 columns"),
        (f'phone,note\n{A},"a" b\n', 2, "malformed quoting"),
        (f'phone,note\n{A},a\n{B},"a\nb\n', 3, "malformed quoting"),
        ('"phone\n', 1, "malformed quoting"),
        (f"phone,name\n{A},Zoë\n".encode("latin-1"), 2, "row 2 (line 2) is not UTF-8 text (byte 26 of the file)"),
        (f'phone,name\n{A},"a\nb"\n\n{B},é\n'.encode("cp1252"), 4, "row 4 (line 5) is not UTF-8"),
        (b"\xff\xfe" + f"phone\n{A}\n".encode("utf-16-le") + b"x", 3, "is not UTF-16 text"),
        (f"phone\n{A}\n".encode("utf-16-le"), 1, "NUL"),
        (f"phone\n{A}\n{B}\0\n", 3, "NUL"),
        (b"PK\x03\x04\x14\x00\x06\x00", 1, "NUL"),
    ],
)
def test_an_unusable_file_is_refused_with_its_row(data: bytes | str, row: int | None, words: str) -> None:
    error = invalid(data)
    assert error.row == row
    assert words in error.message


class Endless(io.RawIOBase):
    """A start, then the same block until so many bytes were read; it counts what was taken."""

    def __init__(self, start: bytes, block: bytes, size: int) -> None:
        self._start, self._block, self._left = start, block, size
        self.taken = 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data, self._start = self._start or self._block[: self._left], b""
        self._left -= len(data)
        self.taken += len(data)
        return data


@pytest.mark.parametrize("quote", [b"", b'"'])
@pytest.mark.parametrize("block", [b"x" * 65536, b"x\n" * 32768, "é".encode() * 32768])
def test_ten_megabytes_in_one_field_are_refused_unread(quote: bytes, block: bytes) -> None:
    if b"\n" in block and not quote:
        block = block.replace(b"\n", b"y")
    file = Endless(f"phone,note\n{A},a\n{B},".encode() + quote, block, 10_000_000)
    rows = read_csv(file, OPTIONS)  # type: ignore[arg-type]  # a raw file is read as a buffered one
    assert isinstance(next(rows), NewContact)
    with pytest.raises(InvalidTable) as caught:
        next(rows)
    assert caught.value.row == 3
    assert "longer than 65536 bytes" in caught.value.message
    assert file.taken < 300_000


def test_ten_megabytes_in_the_header_are_refused_unread() -> None:
    file = Endless(b"phone,", b"x" * 65536, 10_000_000)
    with pytest.raises(InvalidTable) as caught:
        next(read_csv(file, OPTIONS))  # type: ignore[arg-type]
    assert caught.value.row == 1
    assert file.taken < 300_000


def test_the_bound_on_a_row_is_exact_and_counts_bytes() -> None:
    options = IntakeOptions(default_region="US", max_row_bytes=100)
    fill = 100 - len(f"{A},\n")
    assert isinstance(read(f"phone,note\n{A},{'x' * fill}\n", options)[0], NewContact)
    assert invalid(f"phone,note\n{A},{'x' * (fill + 1)}\n", options).row == 2
    assert invalid(f"phone,note\n{A},{'é' * fill}\n", options).row == 2
    assert invalid(f'phone,note\n{A},"{"x" * 50}\n{"x" * 50}"\n', options).row == 2


def test_the_example_list_shows_a_report_worth_reading() -> None:
    path = Path(__file__).parents[2] / "config" / "examples" / "contacts.csv"
    rows = read(path.read_bytes(), IntakeOptions())
    numbers = [row.phone_number for row in rows if isinstance(row, NewContact)]
    assert len(rows) == 60
    assert len(numbers) - len(set(numbers)) == 1
    assert all(re.fullmatch(r"\+1\d{3}55501\d\d", number) for number in numbers)
    assert [(row.row, row.code) for row in rows if isinstance(row, RowError)] == [
        (33, "number_letters"),
        (42, "number_extension"),
        (51, "number_local_only"),
    ]
